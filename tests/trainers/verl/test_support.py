import pytest

from eval.errors import OrchError
from trainers.api import Resources
from trainers.registry import check_fit, check_trainer
from trainers.verl.support import check_support


def test_what_verl_can_do_is_let_through(make_recipe):
    for selection in ({"method": "ict", "ratio": 0.2, "leave_one_out": True}, {"method": "ets", "ratio": 0.2}):
        check_support(make_recipe(selection=selection, ppo_epochs=2), Resources())
    current = {"method": "ets", "ratio": 0.2, "score_policy": "current"}
    check_support(make_recipe(selection=current), Resources())
    check_support(make_recipe(model={"dtype": "bfloat16"}), Resources(num_gpus=4))


def test_evaluation_during_training_is_refused_before_anything_starts(make_recipe):
    with pytest.raises(OrchError) as refusal:
        check_fit(make_recipe(), Resources(), evaluate_every=10)
    assert refusal.value.where == "eval.every_steps"


def test_the_plan_asks_only_the_trainer_of_the_recipe(make_recipe):
    check_trainer("verl")
    check_fit(make_recipe(trainer="lite", update="sparse"), Resources(), evaluate_every=10)
    with pytest.raises(OrchError, match=r"cannot honour recipe\.update = sparse"):
        check_fit(make_recipe(update="sparse"), Resources(), evaluate_every=None)


def test_half_precision_needs_a_gpu(make_recipe):
    with pytest.raises(OrchError, match="bfloat16"):
        check_support(make_recipe(model={"dtype": "bfloat16"}), Resources())
