from dataclasses import replace

import pytest
import torch

from eval.errors import OrchError
from trainers.lite import diagnose as module
from trainers.lite.diagnose import COMPARED, Subject, diagnose
from trainers.recipe import Selection


@pytest.fixture
def subject_of(recipe_of, small_model):
    def make(**changes):
        recipe = recipe_of(selection={"method": "gmts", "ratio": 0.3}, group_size=4, prompts_per_step=2)
        values = {
            "recipe": recipe,
            "seed": 0,
            "policy_folder": small_model,
            "base_folder": small_model,
            "data_folder": None,
            "num_prompts": 2,
        }
        return Subject(**(values | changes))

    return make


@pytest.fixture(params=[True])
def with_signal(request, monkeypatch):
    """Rewards that differ inside every group, or are equal everywhere: not what the small model happens to answer."""
    collect = module.collect_rollouts

    def rewarded(source, recipe, *, position):
        rollouts = collect(source, recipe, position=position)
        reward_B = (torch.arange(len(rollouts.batch)) % 2).float()
        advantage_B = (2 * reward_B - 1) * request.param
        batch = replace(rollouts.batch, reward_B=reward_B, advantage_B=advantage_B)
        return replace(rollouts, batch=batch)

    monkeypatch.setattr(module, "collect_rollouts", rewarded)


def test_every_response_token_is_described_under_every_selector(subject_of, with_signal):
    found = diagnose(subject_of())
    num_tokens = len(found.tokens["uid"])
    assert all(len(column) == num_tokens for column in found.tokens.values())
    for name in COMPARED:
        kept = sum(found.tokens[f"selected_{name}"])
        assert kept == -(-3 * num_tokens // 10)
    assert (found.ratio, found.scope, found.method) == (0.3, "batch", "gmts")
    assert all(abs(value) == 1.0 for value in found.tokens["omega"])
    assert len(found.changes["predicted"]) == len(found.changes["actual"]) == -(-3 * num_tokens // 10)


def test_gradients_are_those_of_each_token_alone(subject_of, with_signal):
    found = diagnose(subject_of())
    uids = list(dict.fromkeys(found.gradients["uid"]))
    assert len(uids) == 2
    lengths = dict(zip(found.tokens["uid"], found.tokens["length"], strict=True))
    assert len(found.gradients["position"]) == sum(lengths[uid] for uid in uids)
    assert all(value >= 0 for value in found.gradients["logp_gradient"])
    assert sorted({value for value in found.gradients["advantage"]}) == [-1.0, 1.0]


def test_a_method_without_a_ratio_is_compared_at_a_fifth(subject_of, with_signal):
    subject = subject_of()
    subject = replace(subject, recipe=replace(subject.recipe, selection=Selection(method="full")))
    found = diagnose(subject)
    assert found.ratio == 0.2
    assert len(found.changes["actual"]) == len(found.tokens["uid"])


@pytest.mark.parametrize("with_signal", [False], indirect=True)
def test_groups_without_a_signal_are_refused(subject_of, with_signal):
    with pytest.raises(OrchError, match="no gradient to look at"):
        diagnose(subject_of())


def test_the_changes_are_of_the_tokens_that_the_update_trained_on(subject_of, with_signal, monkeypatch):
    """At the last step of a schedule that goes on longer, where ρ is not yet `ratio`."""
    selection = Selection(method="ets", ratio=0.2, schedule="linear", schedule_steps=8)
    subject, update, metrics = subject_of(), module.update_policy, []
    monkeypatch.setattr(module, "update_policy", lambda *given, **named: metrics.append(update(*given, **named)))
    found = diagnose(replace(subject, recipe=replace(subject.recipe, selection=selection, steps=4)))
    assert metrics[0]["select/asked_ratio"] == pytest.approx(0.7)
    assert len(found.changes["actual"]) == metrics[0]["select/count"]
