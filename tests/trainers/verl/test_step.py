"""The same batch gives lite and verl the same mask, the same loss and the same gradients."""

import copy
import math
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import OrchError
from trainers.lite.score import policy_scores, score_rollouts
from trainers.lite.update import update_policy
from trainers.methods import METHODS, PRESETS
from trainers.step import plan_step
from trainers.verl.inside.loss import ADVANTAGE, POLICY_WEIGHT, REGULARISER_WEIGHT, SUMS, micro_batch_loss
from trainers.verl.inside.step import (
    corrected,
    dispatch_order,
    dispatched_part,
    weigh,
    weigh_again,
    with_scores,
)

_spec = spec_from_file_location("scored_step", Path(__file__).parents[1] / "lite" / "scored_step.py")
step = module_from_spec(_spec)
_spec.loader.exec_module(step)

ALGORITHMS = {
    "dapo": {},
    "grpo": {"name": "grpo", "clip_high": 0.2, "loss_mean": "sequence", "kl_coef": 0.04},
    "everything": {"dual_clip": 1.5, "kl_coef": 0.1, "entropy_coef": 0.01},
}
SELECTIONS = {
    "full": {"method": "full"},
    "random": {"method": "random", "ratio": 0.4},
    "ets": {"method": "ets", "ratio": 0.3, "normaliser": "all", "kl_scope": "all"},
    "gmts": {"method": "gmts", "ratio": 0.2, "scope": "group"},
    "gnorm": {"method": "gnorm", "ratio": 0.2, "end": "bottom"},
    "ict": {"method": "ict", "ratio": 0.4, "scope": "response", "count_rule": "keep_ties"},
    "ict_advantage": {"method": "ict", "ratio": 0.4, "scope": "group", "advantage_weight": 0.1, "leave_one_out": True},
    "ict_kl": {"method": "ict_kl", "ratio": 0.4, "scope": "response", "kl_scope": "all"},
    "ict_wass": {"method": "ict_wass", "ratio": 0.4, "scope": "mini_batch", "normaliser": "all"},
    "stapo_v1": {"method": "stapo_v1", "scope": "mini_batch", "probability_threshold": 0.2, "entropy_quantile": 0.8},
    "stapo_v4": {"method": "stapo_v4", "scope": "mini_batch", "probability_threshold": 0.2, "entropy_quantile": 0.8},
    "ets_code": {"method": "ets", "ratio": 0.3, "scope": "micro_batch", "scope_sequences": 2, "kl_scope": "all"},
    "gmts_code": {**PRESETS["gmts_code"], "ratio": 0.2},
    "trl": {**PRESETS["trl"], "ratio": 0.2, "scope_sequences": 4},
}
RESCORED = {
    "ets": {"method": "ets", "ratio": 0.3, "scope": "batch"},
    "gmts": {"method": "gmts", "ratio": 0.3, "scope": "group", "normaliser": "all"},
    "ict": {"method": "ict", "ratio": 0.4, "scope": "response", "kl_scope": "all"},
    "stapo_v1": {"method": "stapo_v1", "scope": "mini_batch", "probability_threshold": 0.2, "entropy_quantile": 0.8},
}


class Kept(torch.optim.Optimizer):
    """Keeps the gradient and moves nothing."""

    def __init__(self, model):
        super().__init__(model.parameters(), {})
        self.model = model

    def step(self):
        self.gradients = step.gradients(self.model)


def a_scored_batch(algorithm, selection, **changes):
    model, reference = step.a_model(0), step.a_model(1)
    options = SELECTIONS[selection] if isinstance(selection, str) else selection
    recipe = step.a_recipe(ALGORITHMS[algorithm], options, update="dense", **changes)
    batch = score_rollouts(model, reference, step.a_batch(2), recipe, micro_batch_sequences=100)
    return model, recipe, step.drifted(batch, 3)


def verl_loss_of(model, batch, weighed, recipe, rows):
    """The loss and its sums over some rows, from the model's logits, as verl's worker has them: tokens in one row."""
    logp, entropy, fields = [], [], {name: [] for name in (POLICY_WEIGHT, REGULARISER_WEIGHT, ADVANTAGE)}
    fields |= {"old_log_probs": [], "ref_log_prob": [], "response_mask": []}
    for row in rows:
        start, length = int(batch.prompt_length_B[row]), int(batch.response_length_B[row])
        tokens = batch.tokens_BS[row : row + 1, : start + length]
        logp_TV = torch.log_softmax(model(tokens).logits[0, start - 1 : start + length - 1] / recipe.temperature, -1)
        logp.append(logp_TV.gather(1, tokens[0, start:, None])[:, 0])
        entropy.append(-(logp_TV.exp() * logp_TV).sum(1))
        fields[POLICY_WEIGHT].append(weighed.policy_BT[row, :length])
        fields[REGULARISER_WEIGHT].append(weighed.regulariser_BT[row, :length])
        fields[ADVANTAGE].append(batch.advantage_B[row].expand(length))
        fields["old_log_probs"].append(batch.old_logp_BT[row, :length])
        fields["response_mask"].append(torch.ones(length))
        if batch.ref_logp_BT is not None:
            fields["ref_log_prob"].append(batch.ref_logp_BT[row, :length])
    flat = {name: torch.cat(parts) for name, parts in fields.items() if parts}
    bonus = torch.cat(entropy) if recipe.algorithm.entropy_coef > 0 else None
    return micro_batch_loss(torch.cat(logp), bonus, flat, recipe.algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_verl_has_the_mask_the_loss_and_the_gradients_of_lite(algorithm, selection):
    model, recipe, batch = a_scored_batch(algorithm, selection)
    lite = copy.deepcopy(model)
    optimizer = Kept(lite)
    metrics = update_policy(lite, optimizer, batch, recipe, step=1, seed=0, micro_batch_sequences=100)

    weighed = weigh(batch, plan_step(batch, recipe, step=1, seed=0))
    assert int(weighed.selected_BT.sum()) == metrics["select/count"]
    assert {name: metrics[name] for name in weighed.metrics} == weighed.metrics

    verl = copy.deepcopy(model)
    sums, total = dict.fromkeys(SUMS, 0.0), 0.0
    for rows in (range(0, 5), range(5, 12)):
        loss, found = verl_loss_of(verl, batch, weighed, recipe, rows)
        loss.backward()
        total += float(loss.detach())
        sums = {name: sums[name] + found[name] for name in SUMS}
    assert total == pytest.approx(metrics["loss"], abs=1e-5)
    assert sums["count"] == int(batch.response_length_B.sum())
    assert sums["ratio"] / sums["count"] == pytest.approx(metrics["policy/ratio_mean"], abs=1e-5)
    assert sums["clipped"] / sums["count"] == pytest.approx(metrics["policy/clip_fraction"], abs=1e-9)
    assert sums["old_kl"] / sums["count"] == pytest.approx(metrics["policy/approx_kl"], abs=1e-5)
    if recipe.algorithm.kl_coef:
        assert sums["kl"] / sums["regularised"] == pytest.approx(metrics["policy/ref_kl"], abs=1e-5)
    for name, value in step.gradients(verl).items():
        torch.testing.assert_close(value, optimizer.gradients[name], atol=1e-5, rtol=0, msg=name)


def test_every_method_is_compared():
    assert {options["method"] for options in SELECTIONS.values()} == set(METHODS)


@pytest.mark.parametrize("algorithm", ["grpo", "dapo"])
@pytest.mark.parametrize("selection", RESCORED)
def test_updates_that_select_by_the_present_policy_end_where_those_of_lite_do(algorithm, selection):
    """Two mini-batches, two epochs: the driver's loop of `SelectionTrainer._update_one_by_one`, without verl."""
    options = RESCORED[selection] | {"score_policy": "current"}
    model, recipe, batch = a_scored_batch(algorithm, options, mini_batch_prompts=2, ppo_epochs=2)
    lite, verl = copy.deepcopy(model), copy.deepcopy(model)
    optimizer = torch.optim.SGD(lite.parameters(), lr=0.5)
    metrics = update_policy(lite, optimizer, batch, recipe, step=1, seed=0, micro_batch_sequences=100)

    optimizer, losses = torch.optim.SGD(verl.parameters(), lr=0.5), []
    plan = plan_step(batch, recipe, step=1, seed=0)
    weighed = weigh(batch, plan)
    masks = []
    for number, label in enumerate([0, 1, 0, 1]):
        if number:
            competing = batch.take(plan.rows_competing(label))
            scores = policy_scores(verl, competing, recipe, micro_batch_sequences=100)
            weighed = weigh_again(batch, scores, plan, label=label)
        optimizer.zero_grad()
        loss, _ = verl_loss_of(verl, batch, weighed, recipe, range(6 * label, 6 * label + 6))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        masks.append(weighed.policy_BT[6 * label : 6 * label + 6] > 0)
    assert sum(losses) / 4 == pytest.approx(metrics["loss"], abs=1e-5)
    for name, value in verl.state_dict().items():
        torch.testing.assert_close(value, lite.state_dict()[name], atol=1e-5, rtol=0, msg=name)
    assert not torch.equal(masks[0], masks[2]), "the second epoch selects other tokens"


def test_each_mini_batch_is_weighed_by_itself():
    _, recipe, batch = a_scored_batch("grpo", "gmts", mini_batch_prompts=2)
    weighed = weigh(batch, plan_step(batch, recipe, step=1, seed=0))
    for rows in (slice(0, 6), slice(6, 12)):
        selected = weighed.selected_BT[rows].sum(1, keepdim=True).clamp(min=1)
        expected = weighed.selected_BT[rows] / selected / 6
        torch.testing.assert_close(weighed.policy_BT[rows], expected.float())


def test_all_tokens_are_trained_during_the_warm_up():
    _, recipe, batch = a_scored_batch("dapo", "ict")
    recipe = replace(recipe, selection=replace(recipe.selection, warmup_steps=2))
    assert torch.equal(weigh(batch, plan_step(batch, recipe, step=2, seed=0)).selected_BT, batch.response_mask_BT)
    assert not torch.equal(weigh(batch, plan_step(batch, recipe, step=3, seed=0)).selected_BT, batch.response_mask_BT)


def test_a_rollout_correction_weighs_the_policy_loss_and_leaves_what_it_rejects_out_of_selection_and_loss():
    _, recipe, batch = a_scored_batch("grpo", "gmts")
    plain = weigh(batch, plan_step(batch, recipe, step=1, seed=0))
    delta_BT = torch.where(batch.response_mask_BT, 0.0, 0.0)
    delta_BT[0] = 3.0  # the first response was far likelier to be drawn by its sampler
    delta_BT[1] = -0.5

    def under(**options):
        asked = replace(recipe, trainer="verl", algorithm=replace(recipe.algorithm, **options))
        told = replace(batch, rollout_logp_BT=batch.old_logp_BT + delta_BT)
        changed, metrics = corrected(told, asked)
        return weigh(changed, plan_step(changed, asked, step=1, seed=0)), metrics

    weighed, metrics = under(rollout_is="token", rollout_is_threshold=1.2)
    factor_BT = torch.ones_like(delta_BT)
    factor_BT[0], factor_BT[1] = math.exp(-3.0), 1.2
    torch.testing.assert_close(weighed.policy_BT, plain.policy_BT * factor_BT)
    assert torch.equal(weighed.regulariser_BT, plain.regulariser_BT)
    assert torch.equal(weighed.selected_BT, plain.selected_BT)
    assert metrics["rollout/truncated_share"] == pytest.approx(
        int(batch.response_length_B[1]) / int(batch.response_length_B.sum())
    )

    weighed, metrics = under(rollout_rs="seq_max_k2", rollout_rs_threshold=1.0)
    assert not weighed.selected_BT[0].any()
    assert not weighed.policy_BT[0].any()
    assert not weighed.regulariser_BT[0].any()
    assert int(weighed.selected_BT.sum()) < int(plain.selected_BT.sum()), "the share is of what is left"
    assert torch.equal(weighed.selected_BT[6:], plain.selected_BT[6:]), "other groups compete as before"
    assert metrics["rollout/rejected_share"] == pytest.approx(
        int(batch.response_length_B[0]) / int(batch.response_length_B.sum())
    )
    assert corrected(batch, recipe) == (batch, {})


def test_lite_has_nothing_to_correct_and_says_so():
    _, recipe, _ = a_scored_batch("grpo", "full")
    with pytest.raises(OrchError, match="changes nothing under trainer lite"):
        replace(recipe, algorithm=replace(recipe.algorithm, rollout_is="token", rollout_is_threshold=2.0))


def test_scores_without_padding_become_rows_with_it():
    batch = replace(step.a_batch(2, num_groups=1), response_length_B=torch.tensor([2, 3, 1]))
    rows = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0]), torch.tensor([6.0])]
    found = with_scores(batch, {"old_logp_BT": rows}).old_logp_BT
    assert found.tolist() == [[1.0, 2.0, 0.0], [3.0, 4.0, 5.0], [6.0, 0.0, 0.0]]


def test_a_worker_gets_its_part_of_every_mini_batch():
    order = dispatch_order([7, 1, 5, 3, 4, 4, 9, 9, 1, 1, 9, 1], mini_batch_rows=6, num_workers=2)
    assert order == [0, 1, 5, 6, 10, 11, 2, 3, 4, 7, 8, 9]
    assert sorted(order[:3] + order[6:9]) == [0, 1, 2, 3, 4, 5], "the first update"


def test_one_worker_trains_in_training_order():
    lengths = [3, 9, 2, 8, 1, 7]
    assert dispatch_order(lengths, mini_batch_rows=6, num_workers=1, together=3) == [0, 1, 2, 3, 4, 5]


def test_the_rows_of_one_mini_batch_are_found_again_in_the_order_of_the_workers():
    order = dispatch_order([5] * 12, mini_batch_rows=6, num_workers=2)
    parts = [dispatched_part(12, mini_batch_rows=6, num_workers=2, label=label) for label in (0, 1)]
    assert parts == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    assert [sorted(order[place] for place in part) for part in parts] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


@given(
    num_workers=st.sampled_from([1, 2, 4]),
    together=st.sampled_from([1, 3]),
    units_each=st.integers(1, 5),
    num_mini_batches=st.integers(1, 3),
    random=st.randoms(use_true_random=False),
)
def test_work_is_dealt_out_evenly(num_workers, together, units_each, num_mini_batches, random):
    rows = num_workers * units_each * together
    lengths = [random.randint(1, 4000) for _ in range(rows * num_mini_batches)]
    order = dispatch_order(lengths, mini_batch_rows=rows, num_workers=num_workers, together=together)
    assert sorted(order) == list(range(len(lengths)))
    for label in range(num_mini_batches):
        places = dispatched_part(len(order), mini_batch_rows=rows, num_workers=num_workers, label=label)
        assert {order[place] // rows for place in places} == {label}, "a row of another mini-batch"
        work = [sum(lengths[row] * (24_576 + lengths[row]) for row in order[start : start + together])
                for start in range(0, len(order), together)]  # fmt: skip
        mine = [work[place // together] for place in places[::together]]
        shares = [sum(mine[worker * units_each : (worker + 1) * units_each]) for worker in range(num_workers)]
        assert max(shares) - min(shares) <= max(mine), "one worker has a whole unit more to do than another"


@pytest.mark.parametrize(("num_workers", "mini_batch_groups"), [(1, 4), (2, 4), (4, 4), (2, 2)])
def test_a_worker_gets_whole_groups_in_every_update(num_workers, mini_batch_groups):
    group_size, num_groups = 3, 4
    order = dispatch_order(
        [5, 9, 1] * num_groups,
        mini_batch_rows=mini_batch_groups * group_size,
        num_workers=num_workers,
        together=group_size,
    )
    share = len(order) // num_workers
    for worker in range(num_workers):
        rows = order[worker * share : (worker + 1) * share]
        groups = [
            {row // group_size for row in rows[start : start + group_size]} for start in range(0, share, group_size)
        ]
        assert all(len(group) == 1 for group in groups)
