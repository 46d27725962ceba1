import copy
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from eval.errors import OrchError
from trainers.diagnostics import METRICS
from trainers.lite.score import score_rollouts
from trainers.lite.update import update_policy
from trainers.step import competitors, mini_batches, plan_step, select_first

_spec = spec_from_file_location("scored_step", Path(__file__).with_name("scored_step.py"))
step = module_from_spec(_spec)
_spec.loader.exec_module(step)


class Still(torch.optim.Optimizer):
    """Keeps the gradients of every step and moves nothing, or moves by a fixed rate."""

    def __init__(self, model, rate=0.0):
        super().__init__(model.parameters(), {"rate": rate})
        self.model, self.rate, self.kept = model, rate, []

    def step(self):
        self.kept.append(step.gradients(self.model))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter -= self.rate * parameter.grad


def run(model, reference, batch, recipe, *, micro=100, rate=0.0, at=1, seed=0):
    """Return (metrics, gradients of each update, the model after)."""
    model = copy.deepcopy(model)
    optimizer = Still(model, rate)
    metrics = update_policy(model, optimizer, batch, recipe, step=at, seed=seed, micro_batch_sequences=micro)
    return metrics, optimizer.kept, model


def scored(model, reference, batch, recipe, micro=100):
    return score_rollouts(model, reference, batch, recipe, micro_batch_sequences=micro)


def slow_loss(model, batch, selected, recipe):
    """The loss of one mini-batch by its definition: one response at a time, one token at a time."""
    algorithm, selection = recipe.algorithm, recipe.selection
    num_selected = sum(len(kept) for kept in selected)
    num_tokens = int(batch.response_length_B.sum())
    loss = torch.zeros((), dtype=torch.float64)
    for row, kept in enumerate(selected):
        start, length = int(batch.prompt_length_B[row]), int(batch.response_length_B[row])
        tokens = batch.tokens_BS[row : row + 1, : start + length]
        logp_SV = torch.log_softmax(model(tokens).logits[0] / recipe.temperature, -1)
        for t in range(length):
            log_pi = logp_SV[start + t - 1, tokens[0, start + t]]
            advantage = float(batch.advantage_B[row])
            ratio = torch.exp(log_pi - batch.old_logp_BT[row, t])
            clipped = torch.clamp(ratio, 1 - algorithm.clip_low, 1 + algorithm.clip_high)
            objective = torch.min(ratio * advantage, clipped * advantage)
            if algorithm.dual_clip is not None and advantage < 0:
                objective = torch.max(objective, torch.tensor(algorithm.dual_clip * advantage))
            penalty = torch.zeros(())
            if algorithm.kl_coef:
                change = batch.ref_logp_BT[row, t] - log_pi
                penalty = penalty + algorithm.kl_coef * (torch.exp(change) - change - 1)
            if algorithm.entropy_coef:
                p = logp_SV[start + t - 1]
                penalty = penalty + algorithm.entropy_coef * (p.exp() * p).sum()
            is_all_kl = selection.kl_scope == "all"
            for term, in_mask, is_all in ((-objective, t in kept, False), (penalty, is_all_kl or t in kept, is_all_kl)):
                if not in_mask:
                    continue
                counts_all = is_all or selection.normaliser == "all"
                if algorithm.loss_mean == "sequence":
                    divisor = (length if counts_all else len(kept)) * len(selected)
                else:
                    divisor = num_tokens if counts_all else num_selected
                loss = loss + term / divisor
    return loss


ALGORITHMS = {
    "dapo": {},
    "grpo": {"name": "grpo", "clip_high": 0.2, "loss_mean": "sequence", "kl_coef": 0.04},
    "everything": {"dual_clip": 1.5, "kl_coef": 0.1, "entropy_coef": 0.01},
}
SELECTIONS = {
    "full": {"method": "full"},
    "ets": {"method": "ets", "ratio": 0.3, "normaliser": "all", "kl_scope": "all"},
    "gmts": {"method": "gmts", "ratio": 0.2},
    "ict": {"method": "ict", "ratio": 0.4, "scope": "response"},
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("update", ["sparse", "dense"])
def test_gradients_equal_the_slow_reference(algorithm, selection, update):
    model, reference, batch = step.a_model(0), step.a_model(1), step.a_batch(2)
    recipe = step.a_recipe(ALGORITHMS[algorithm], SELECTIONS[selection], update=update)
    batch = step.drifted(scored(model, reference, batch, recipe), 3)
    chosen = selected_tokens(model, batch, recipe)
    loss = slow_loss(model, batch, chosen, recipe)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for micro in (100, 2):
        metrics, (found,), _ = run(model, reference, batch, recipe, micro=micro)
        assert metrics["loss"] == pytest.approx(float(loss.detach()), abs=1e-6)
        for (name, value), wanted in zip(found.items(), expected, strict=True):
            torch.testing.assert_close(value, wanted, atol=2e-7, rtol=2e-6, msg=name)


def selected_tokens(model, batch, recipe):
    """What the update selects, read off the weights it gives: positions of each response."""
    mask_BT = select_first(batch, plan_step(batch, recipe, step=1, seed=0)).selected_BT
    return [set(row.nonzero()[:, 0].tolist()) for row in mask_BT]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_sparse_gradients_equal_dense_ones_to_ten_digits(algorithm, selection):
    model, reference = step.a_model(0, tie_word_embeddings=False), step.a_model(1)
    recipe = step.a_recipe(ALGORITHMS[algorithm], SELECTIONS[selection], update="dense")
    batch = step.drifted(scored(model, reference, step.a_batch(5, pad=2), recipe), 3)
    _, (dense,), _ = run(model, reference, batch, recipe)
    for micro in (100, 5, 1):
        metrics, (sparse,), _ = run(model, reference, batch, replace(recipe, update="sparse"), micro=micro)
        for name, value in sparse.items():
            torch.testing.assert_close(value, dense[name], atol=1e-10, rtol=0, msg=name)
        assert metrics["update/head_share"] <= 1.0


def test_the_sparse_update_runs_no_row_without_a_signal():
    model = step.a_model(0)
    recipe = step.a_recipe({}, {"method": "gmts", "ratio": 0.2})
    batch = scored(model, None, step.a_batch(5), recipe)
    metrics, _, _ = run(model, None, batch, recipe)
    dense, _, _ = run(model, None, batch, replace(recipe, update="dense"))
    assert dense["update/head_share"] == 1.0
    assert metrics["update/head_share"] < 0.3
    assert dense["update/position_share"] == 1.0
    assert metrics["update/position_share"] < 0.8


def test_a_ratio_of_one_is_the_baseline_bitwise():
    model = step.a_model(0)
    baseline = step.a_recipe()
    batch = scored(model, None, step.a_batch(1), step.a_recipe({}, {"method": "ict", "ratio": 1.0}))
    _, (expected,), _ = run(model, None, batch, baseline)
    for method in ("ets", "gmts", "gnorm", "ict", "random"):
        _, (found,), _ = run(model, None, batch, step.a_recipe({}, {"method": method, "ratio": 1.0}))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("update", ["sparse", "dense"])
def test_layers_made_again_give_the_same_gradients_bit_for_bit(update):
    model = step.a_model(0, num_hidden_layers=4)
    recipe = step.a_recipe({}, {"method": "gmts", "ratio": 0.4}, update=update)
    batch = scored(model, None, step.a_batch(1), recipe)
    calls = []
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    _, (expected,), _ = run(model, None, batch, recipe, micro=5)
    plain = [calls.count(index) for index in range(4)]
    calls.clear()
    remade = replace(recipe, model=replace(recipe.model, gradient_checkpointing=True))
    _, (found,), after = run(model, None, batch, remade, micro=5)
    assert [calls.count(index) for index in range(4)] == [2 * plain[0], 2 * plain[1], 2 * plain[2], plain[3]]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(module.training for module in after.modules())


def test_a_batch_without_a_signal_gives_zero_gradients_not_nan():
    model = step.a_model(0)
    batch = step.a_batch(1)
    batch = replace(batch, advantage_B=torch.zeros_like(batch.advantage_B))
    for update in ("sparse", "dense"):
        recipe = step.a_recipe({}, {"method": "ets", "ratio": 0.2}, update=update)
        metrics, (found,), _ = run(model, None, scored(model, None, batch, recipe), recipe)
        assert all(float(value.abs().max()) == 0.0 for value in found.values())
        assert metrics["gradient/norm"] == 0.0
        assert metrics["loss"] == 0.0


def test_several_mini_batches_and_epochs_take_their_steps_in_order():
    model, reference = step.a_model(0), step.a_model(1)
    recipe = step.a_recipe(
        ALGORITHMS["grpo"], {"method": "ets", "ratio": 0.3, "score_policy": "current"},
        mini_batch_prompts=2, ppo_epochs=2,
    )  # fmt: skip
    batch = scored(model, reference, step.a_batch(7), recipe)
    metrics, kept, trained = run(model, reference, batch, recipe, rate=0.05, micro=2)
    assert metrics["update/count"] == 4.0
    assert set(metrics) <= set(METRICS)
    slow = copy.deepcopy(model)
    for number in range(4):
        rows = [row for row in range(12) if row // 6 == number % 2]
        unscored = replace(batch, old_logp_BT=None, entropy_BT=None, purity_BT=None)
        fresh = scored(slow, None, unscored, step.a_recipe({}, {"method": "ets", "ratio": 0.3}))
        now = replace(fresh, old_logp_BT=batch.old_logp_BT, ref_logp_BT=batch.ref_logp_BT)
        chosen = selected_tokens(slow, now, recipe)
        loss = slow_loss(slow, now.take(torch.tensor(rows)), [chosen[row] for row in rows], recipe)
        wanted = torch.autograd.grad(loss, list(slow.parameters()))
        for parameter, gradient, found in zip(slow.parameters(), wanted, kept[number].values(), strict=True):
            torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-5)
            parameter.data -= 0.05 * gradient
    for parameter, expected in zip(trained.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, atol=1e-6, rtol=1e-5)


def test_the_mini_batch_scope_with_the_current_policy_scores_its_own_rows_only():
    model = step.a_model(0)
    selection = {"method": "ets", "ratio": 0.5, "score_policy": "current", "scope": "mini_batch"}
    recipe = step.a_recipe({}, selection, mini_batch_prompts=2)
    batch = scored(model, None, step.a_batch(7), recipe)
    _, kept, _ = run(model, None, batch, recipe, rate=0.0)
    _, as_old, _ = run(model, None, batch, replace(recipe, selection=replace(recipe.selection, score_policy="old")))
    for found, expected in zip(kept, as_old, strict=True):
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], atol=1e-10, rtol=0)


def test_dropped_groups_compete_but_are_not_trained():
    model = step.a_model(0)
    batch = step.a_batch(3)
    is_trained_B = torch.tensor([False] * 3 + [True] * 9)
    assert mini_batches(replace(batch, is_trained_B=is_trained_B), 2).tolist() == [-1] * 3 + [0] * 6 + [1] * 3
    recipe = step.a_recipe({"dynamic_sampling": True}, {"method": "ets", "ratio": 0.3, "order": "before_filter"})
    batch = replace(scored(model, None, batch, recipe), is_trained_B=is_trained_B)
    chosen = selected_tokens(model, batch, recipe)
    rows = list(range(3, 12))
    loss = slow_loss(model, batch.take(torch.tensor(rows)), [chosen[row] for row in rows], recipe)
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    _, (found,), _ = run(model, None, batch, recipe)
    for value, expected in zip(found.values(), wanted, strict=True):
        torch.testing.assert_close(value, expected, atol=2e-7, rtol=2e-6)


def test_gradient_clipping_reports_the_norm_before():
    model = step.a_model(0)
    recipe = step.a_recipe(max_grad_norm=1e-3)
    batch = scored(model, None, step.a_batch(1), recipe)
    metrics, (found,), _ = run(model, None, batch, recipe)
    _, (free,), _ = run(model, None, batch, step.a_recipe())
    norm = torch.sqrt(sum(value.square().sum() for value in free.values()))
    assert metrics["gradient/norm"] == pytest.approx(float(norm), rel=1e-9)
    clipped = torch.sqrt(sum(value.square().sum() for value in found.values()))
    assert float(clipped) == pytest.approx(1e-3, rel=1e-2)


def test_a_gradient_that_is_not_finite_stops_the_run():
    model = step.a_model(0)
    recipe = step.a_recipe()
    batch = scored(model, None, step.a_batch(1), recipe)
    broken = replace(batch, advantage_B=batch.advantage_B * float("inf"))
    with pytest.raises(OrchError, match="step 1 is not finite"):
        run(model, None, broken, recipe)


def test_an_empty_batch_changes_nothing():
    model = step.a_model(0)
    recipe = step.a_recipe({}, {"method": "ets", "ratio": 0.2})
    batch = scored(model, None, step.a_batch(1).take(torch.zeros(0, dtype=torch.int64)), recipe)
    metrics, kept, _ = run(model, None, batch, recipe)
    assert kept == []
    assert metrics["update/count"] == 0.0


def test_an_order_that_changes_nothing_is_refused():
    before = {"method": "ets", "ratio": 0.3, "order": "before_filter"}
    step.a_recipe({"dynamic_sampling": True}, before)
    with pytest.raises(OrchError, match="changes nothing"):
        step.a_recipe({}, before)
    with pytest.raises(OrchError, match="changes nothing"):
        step.a_recipe({"dynamic_sampling": True}, before | {"scope": "response"})


def test_an_advantage_per_token_moves_the_selection_to_short_responses():
    batch = step.a_batch(1, num_groups=2, group_size=2)
    batch = replace(
        batch,
        response_length_B=torch.tensor([9, 3, 9, 3]),
        prompt_length_B=torch.ones(4, dtype=torch.int64),
        tokens_BS=torch.ones(4, 10, dtype=torch.int64),
        advantage_B=torch.ones(4),
        old_logp_BT=torch.zeros(4, 9),
        entropy_BT=torch.ones(4, 9),
        purity_BT=torch.ones(4, 9),
    )
    weights = {}
    for per_token in (None, True):
        selection = {"method": "gmts", "ratio": 0.25, "advantage_per_token": per_token}
        recipe = step.a_recipe({}, selection, group_size=2, prompts_per_step=2, mini_batch_prompts=2)
        plan = plan_step(batch, recipe, step=1, seed=0)
        tokens = competitors(batch, recipe, batch.scores, scope_B=plan.scope_B, draw_seed=plan.draw_seed)
        selected_BT = select_first(batch, plan).selected_BT
        weights[per_token] = (tokens.weight_BT[:, 0].tolist(), selected_BT.sum(1).tolist())
    assert weights[None][0] == [1.0] * 4
    assert weights[True][0] == pytest.approx([1 / 18, 1 / 6, 1 / 18, 1 / 6])
    assert weights[True][1] == [0, 3, 0, 3]


def test_responses_that_are_all_empty_change_nothing():
    model = step.a_model(0)
    batch = step.a_batch(1)
    batch = replace(batch, response_length_B=torch.zeros_like(batch.response_length_B))
    recipe = step.a_recipe({}, {"method": "ict", "ratio": 0.2})
    metrics, (found,), _ = run(model, None, scored(model, None, batch, recipe), recipe)
    assert metrics["update/head_share"] == 0.0
    assert all(float(value.abs().max()) == 0.0 for value in found.values())
