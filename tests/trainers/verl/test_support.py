import pytest

from eval.errors import OrchError
from trainers.recipe import Resources
from trainers.registry import check_fit, check_trainer
from trainers.verl.launch.support import check_support, num_workers


def test_what_verl_can_do_is_let_through(make_recipe):
    for selection in ({"method": "ict", "ratio": 0.2, "leave_one_out": True}, {"method": "ets", "ratio": 0.2}):
        check_support(make_recipe(selection=selection, ppo_epochs=2), Resources())
    current = {"method": "ets", "ratio": 0.2, "score_policy": "current"}
    check_support(make_recipe(selection=current, mini_batch_prompts=4), Resources())
    for dtype in ("bfloat16", "float16"):
        check_support(make_recipe(model={"dtype": dtype}), Resources(num_gpus=4, num_nodes=2))


@pytest.mark.parametrize(
    ("changes", "is_so"),
    [
        ({}, False),
        ({"mini_batch_prompts": 4}, True),
        ({"ppo_epochs": 2}, True),
        ({"ppo_epochs": 2, "selection": {"method": "ets", "ratio": 0.2}}, False),
        ({"ppo_epochs": 2, "selection": {"method": "full"}}, False),
    ],
)
def test_only_several_updates_of_the_present_policy_are_scored_again(make_recipe, changes, is_so):
    current = {"method": "ets", "ratio": 0.2, "score_policy": "current"}
    assert make_recipe(**({"selection": current} | changes)).is_rescored is is_so


def test_the_workers_of_all_nodes_share_a_mini_batch(make_recipe):
    assert num_workers(Resources(num_gpus=4, num_nodes=2)) == 8
    assert num_workers(Resources(num_nodes=3)) == 3
    with pytest.raises(OrchError, match="8 on 16 workers"):
        check_support(make_recipe(), Resources(num_gpus=8, num_nodes=2))


@pytest.mark.parametrize(
    ("key", "changes", "resources"),
    [
        ("cluster.num_gpus", {}, {"num_gpus": 8}),
        ("cluster.num_nodes", {}, {"num_nodes": 2}),
        ("model.dtype", {"model": {"dtype": "float16"}}, {"num_gpus": 1}),
    ],
)
def test_a_plan_says_what_lite_cannot_do_and_verl_can(make_recipe, key, changes, resources):
    with pytest.raises(OrchError) as refusal:
        check_fit(make_recipe(trainer="lite", **changes), Resources(**resources))
    assert refusal.value.where == key
    assert "trainer: verl" in refusal.value.fix


def test_the_plan_asks_only_the_trainer_of_the_recipe(make_recipe):
    check_trainer("verl")
    check_fit(make_recipe(trainer="lite", update="sparse"), Resources())
    with pytest.raises(OrchError, match=r"cannot honour recipe\.update = sparse"):
        check_fit(make_recipe(update="sparse"), Resources())


def test_half_precision_needs_a_gpu(make_recipe):
    with pytest.raises(OrchError, match="bfloat16"):
        check_support(make_recipe(model={"dtype": "bfloat16"}), Resources())
