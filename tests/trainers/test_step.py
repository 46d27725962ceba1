"""The step that every backend shares, against definitions that loop over responses and tokens.

That lite and verl agree says nothing of what stands here: both call it.
"""

from dataclasses import replace
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.batch import PolicyScores, RolloutBatch
from trainers.recipe import Algorithm, Data, Model, Recipe, Selection
from trainers.step import choose, competitors, mini_batch_weights, mini_batches, plan_step, select_again, select_first

GROUP_SIZE = 2
STAPO = {"method": "stapo_v1", "probability_threshold": 0.9, "entropy_quantile": 0.9}


def a_recipe(selection, algorithm=None, **changes):
    values = {"name": "dapo", "clip_low": 0.2, "clip_high": 0.28, "loss_mean": "token"}
    settings = {
        "algorithm": Algorithm(**(values | (algorithm or {}))),
        "selection": Selection(**selection),
        "model": Model(path="none"),
        "data": Data(name="none", template="plain", max_prompt_tokens=8, max_response_tokens=8),
        "steps": 9,
        "prompts_per_step": 4,
        "group_size": GROUP_SIZE,
        "mini_batch_prompts": 2,
        "learning_rate": 1e-2,
    }
    return Recipe(**(settings | changes))


def a_batch(seed=0, num_groups=4, longest=6):
    """Scored responses, groups of two; no two scores are equal."""
    generator = torch.Generator().manual_seed(seed)
    rows = num_groups * GROUP_SIZE
    response_length_B = torch.randint(1, longest + 1, (rows,), generator=generator)
    response_length_B[0] = longest

    def draw():
        return torch.rand(rows, longest, generator=generator)

    return RolloutBatch(
        tokens_BS=torch.ones(rows, longest + 1, dtype=torch.int64),
        prompt_length_B=torch.ones(rows, dtype=torch.int64),
        response_length_B=response_length_B,
        group_B=torch.arange(num_groups).repeat_interleave(GROUP_SIZE),
        uid_B=torch.arange(rows),
        reward_B=torch.zeros(rows),
        advantage_B=torch.tensor([1.0, -1.0]).repeat(num_groups),
        old_logp_BT=-2 * draw(),
        entropy_BT=draw(),
        purity_BT=draw(),
    )


def highest_entropies(batch, entropy_BT, rows, ratio=0.5):
    """The ⌈ρN⌉ places of some rows with the highest entropy."""
    places = [(row, t) for row in rows for t in range(int(batch.response_length_B[row]))]
    places.sort(key=lambda place: -float(entropy_BT[place]))
    return set(places[: ceil(ratio * len(places))])


def places(mask_BT):
    return {tuple(place) for place in mask_BT.nonzero().tolist()}


def test_a_mini_batch_holds_whole_groups_in_order_of_appearance_and_skips_what_only_competes():
    batch = replace(a_batch(), group_B=torch.tensor([5, 5, 2, 2, 9, 9, 1, 1]))
    assert mini_batches(batch, 2).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert mini_batches(batch, 3).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    is_trained_B = torch.tensor([True, True, False, False, True, True, True, True])
    assert mini_batches(replace(batch, is_trained_B=is_trained_B), 2).tolist() == [0, 0, -1, -1, 0, 0, 1, 1]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["batch", "mini_batch", "group", "response"]))
def test_the_tokens_of_a_step_are_the_top_share_of_each_scope(seed, scope):
    batch = a_batch(seed)
    plan = plan_step(batch, a_recipe({"method": "ets", "ratio": 0.5, "scope": scope}), step=1, seed=0)
    chosen = select_first(batch, plan)
    members = {"batch": [range(8)], "mini_batch": [range(4), range(4, 8)], "response": [[row] for row in range(8)]}
    members["group"] = [[row, row + 1] for row in range(0, 8, 2)]
    expected = set.union(*(highest_entropies(batch, batch.entropy_BT, rows) for rows in members[scope]))
    assert places(chosen.selected_BT) == expected
    assert chosen.metrics["select/count"] == len(expected)


@pytest.mark.parametrize("selection", [{"method": "ets", "ratio": 0.5}, STAPO])
def test_every_token_is_trained_up_to_the_last_step_of_the_warm_up_whatever_the_method(selection):
    batch = a_batch()
    recipe = a_recipe(selection | {"warmup_steps": 2})
    for at in (1, 2):
        assert torch.equal(
            select_first(batch, plan_step(batch, recipe, step=at, seed=0)).selected_BT, batch.response_mask_BT
        )
    after_BT = select_first(batch, plan_step(batch, recipe, step=3, seed=0)).selected_BT
    assert not torch.equal(after_BT, batch.response_mask_BT)


def test_a_schedule_moves_the_share_of_a_step():
    batch = a_batch()
    recipe = a_recipe({"method": "ets", "ratio": 0.2, "schedule": "linear", "schedule_steps": 4})
    plans = [plan_step(batch, recipe, step=at, seed=0) for at in (1, 3, 5)]
    assert [plan.ratio for plan in plans] == pytest.approx([1.0, 0.6, 0.2])
    num_tokens = int(batch.response_length_B.sum())
    tokens = competitors(batch, recipe, batch.scores, scope_B=plans[0].scope_B, draw_seed=0)
    for plan, step in zip(plans, (1, 3, 5), strict=True):
        assert int(choose(tokens, recipe.selection, step=step).sum()) == ceil(plan.ratio * num_tokens - 1e-9)


def test_random_selection_draws_anew_each_step_and_for_each_run():
    batch, recipe = a_batch(), a_recipe({"method": "random", "ratio": 0.5})
    drawn = {
        key: places(select_first(batch, plan_step(batch, recipe, step=key[0], seed=key[1])).selected_BT)
        for key in ((1, 0), (2, 0), (1, 1))
    }
    assert len({frozenset(found) for found in drawn.values()}) == 3
    assert drawn[1, 0] == places(select_first(batch, plan_step(batch, recipe, step=1, seed=0)).selected_BT)


@pytest.mark.parametrize("scope", ["batch", "mini_batch", "group"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_later_update_selects_by_what_the_present_policy_says(scope, label):
    # The groups of the two mini-batches lie differently, so that a scope's labels must be those of its own rows.
    batch = replace(a_batch(), group_B=torch.tensor([0, 0, 1, 1, 2, 3, 2, 3]))
    recipe = a_recipe({"method": "ets", "ratio": 0.5, "scope": scope, "score_policy": "current"})
    plan = plan_step(batch, recipe, step=1, seed=0)
    rows_C = plan.rows_competing(label)
    assert rows_C.tolist() == (list(range(8)) if scope == "batch" else list(range(4 * label, 4 * label + 4)))
    now_BT = 1 - batch.entropy_BT
    scores = PolicyScores(
        logp_BT=batch.old_logp_BT[rows_C], entropy_BT=now_BT[rows_C], purity_BT=batch.purity_BT[rows_C],
        deviation_BT=None,
    )  # fmt: skip
    selected_BT = select_again(batch, scores, plan, label=label)
    sets = {"batch": [range(8)], "mini_batch": [range(4 * label, 4 * label + 4)]}
    sets["group"] = [[0, 1], [2, 3]] if label == 0 else [[4, 6], [5, 7]]
    assert places(selected_BT) == set.union(*(highest_entropies(batch, now_BT, rows) for rows in sets[scope]))


def test_a_token_is_weighed_by_the_ratio_of_the_present_to_the_sampling_policy():
    """GMTS: r·A inside the clip range, 0 for what the clip blocks."""
    batch, recipe = a_batch(), a_recipe({"method": "gmts", "ratio": 0.5})
    moved_BT = torch.full_like(batch.old_logp_BT, 0.1)
    moved_BT[:, 0] = 0.5
    now = replace(batch.scores, logp_BT=batch.old_logp_BT + moved_BT)
    weight_BT = competitors(batch, recipe, now, scope_B=batch.group_B, draw_seed=0).weight_BT
    r = float(torch.tensor(0.1).exp())
    assert weight_BT[0, 1:].tolist() == pytest.approx([r] * 5, rel=1e-5)
    assert weight_BT[1, 1:].tolist() == pytest.approx([-r] * 5, rel=1e-5)
    assert weight_BT[0, 0] == 0.0, "clipped above"
    assert float(weight_BT[1, 0]) == pytest.approx(-float(torch.tensor(0.5).exp()), rel=1e-5)


def test_an_advantage_per_token_divides_by_the_response_and_the_group_for_the_score_alone():
    batch = a_batch()
    recipe = a_recipe({"method": "gmts", "ratio": 0.5, "advantage_per_token": True})
    tokens = competitors(batch, recipe, batch.scores, scope_B=batch.group_B, draw_seed=0)
    for row in range(8):
        expected = float(batch.advantage_B[row]) / (int(batch.response_length_B[row]) * GROUP_SIZE)
        assert float(tokens.weight_BT[row, 0]) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(tokens.advantage_B, batch.advantage_B)


@pytest.mark.parametrize("loss_mean", ["token", "sequence"])
@pytest.mark.parametrize("normaliser", ["selected", "all"])
def test_the_weights_of_a_mini_batch_count_its_own_tokens_that_were_not_rejected(loss_mean, normaliser):
    batch = a_batch()
    accepted_BT = torch.rand(8, 6, generator=torch.Generator().manual_seed(4)) < 0.8
    importance_BT = 1 + torch.rand(8, 6, generator=torch.Generator().manual_seed(5))
    batch = replace(batch, accepted_BT=accepted_BT, importance_BT=importance_BT)
    recipe = a_recipe({"method": "ets", "ratio": 0.5, "normaliser": normaliser}, {"loss_mean": loss_mean})
    plan = plan_step(batch, recipe, step=1, seed=0)
    selected_BT = select_first(batch, plan).selected_BT
    assert not (selected_BT & ~accepted_BT).any()
    kept, present = places(selected_BT), places(batch.response_mask_BT & accepted_BT)
    counted = kept if normaliser == "selected" else present
    for label in (0, 1):
        weights = mini_batch_weights(batch, selected_BT, plan, label=label)
        rows = range(4 * label, 4 * label + 4)
        for place, row in enumerate(rows):
            for t in range(6):
                of_row = sum(b == row for b, _ in counted)
                divisor = of_row * 4 if loss_mean == "sequence" else sum(b in rows for b, _ in counted)
                plain = 1 / divisor if (row, t) in kept else 0.0
                assert float(weights.regulariser_BT[place, t]) == pytest.approx(plain, rel=1e-6)
                assert float(weights.policy_BT[place, t]) == pytest.approx(
                    plain * float(importance_BT[row, t]), rel=1e-6
                )


def test_a_plan_of_no_responses_has_no_mini_batch():
    batch = a_batch().take(torch.zeros(0, dtype=torch.int64))
    plan = plan_step(batch, a_recipe({"method": "ets", "ratio": 0.5}), step=1, seed=0)
    assert plan.num_mini_batches == 0
    assert not select_first(batch, plan).selected_BT.any()
