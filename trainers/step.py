"""The selection of one training step, for every backend: what competes, what is selected, what it weighs in the loss.

A backend samples, scores and updates. Between these passes it calls, in this order:

    plan_step              which optimizer step trains each sequence, and which sequences compete with each other
    select_first           the tokens to train on, by the policy that sampled; with the metrics of the step
    select_again           before each later update of a recipe that `is_rescored`: the same, by the policy as it is now
    mini_batch_weights     what each token of one mini-batch weighs in the loss

Everything here is a function of tensors. No backend stands in this file, so that all of them train on the same tokens
with the same weights: `lite` calls it from `trainers/lite/update.py`, verl from `trainers/verl/inside/step.py`.

Shapes: B sequences of the step, C of them that compete, M of one mini-batch, T response tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eval.seeds import derive_seed
from trainers.batch import PolicyScores, RolloutBatch
from trainers.diagnostics import check_ratio, selection_metrics
from trainers.objective import LossWeights, gradient_weight, loss_weights
from trainers.recipe import Recipe, Selection
from trainers.selection import Tokens, is_warm_up, keep_ratio, scopes, select


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What is known of a training step before any token is looked at, and stays the same over its updates."""

    recipe: Recipe
    step: int
    """Counted from 1."""
    draw_seed: int
    """From (run seed, step): what random selection draws from."""
    mini_batch_B: Tensor
    """int64: the mini-batch of each sequence, from 0; −1 for those that only compete in the selection."""
    scope_B: Tensor
    """int64: sequences with one label compete with each other; `trainers.selection.scopes`."""

    @property
    def ratio(self) -> float:
        """ρ of this step."""
        return keep_ratio(self.recipe.selection, self.step)

    @property
    def num_mini_batches(self) -> int:
        """Optimizer steps of one epoch over the batch; 0 if nothing is trained."""
        return int(self.mini_batch_B.max()) + 1 if len(self.mini_batch_B) else 0

    @property
    def is_batch_wide(self) -> bool:
        """Whether the tokens of different mini-batches compete with each other."""
        return self.recipe.selection.scope == "batch"

    def rows_trained(self, label: int) -> Tensor:
        """Return the rows of one mini-batch, int64 (M,)."""
        return (self.mini_batch_B == label).nonzero()[:, 0]

    def rows_competing(self, label: int) -> Tensor:
        """Return the rows that must be scored before the tokens of one mini-batch can be selected, int64 (C,).

        A scope that is not the whole batch lies within one mini-batch, because a mini-batch holds whole groups. Scoring
        the mini-batch alone is therefore exact, and costs only its share of the batch.
        """
        if self.is_batch_wide:
            return torch.arange(len(self.mini_batch_B), device=self.mini_batch_B.device)
        return self.rows_trained(label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The tokens that the first update of a step trains on, with what a researcher plots of them."""

    selected_BT: Tensor
    """bool."""
    metrics: dict[str, float]
    """Named in `trainers.diagnostics.METRICS`."""


def plan_step(batch: RolloutBatch, recipe: Recipe, *, step: int, seed: int) -> StepPlan:
    """Return the plan of one training step.

    Args:
        batch: whole groups in training order; it need not be scored.
        recipe: mini-batches and selection.
        step: the training step, counted from 1.
        seed: the run's seed.
    """
    mini_batch_B = mini_batches(batch, recipe.mini_batch_prompts)
    return StepPlan(
        recipe=recipe,
        step=step,
        draw_seed=derive_seed(seed, "select", step),
        mini_batch_B=mini_batch_B,
        scope_B=scopes(recipe.selection, batch.group_B, mini_batch_B),
    )


def select_first(batch: RolloutBatch, plan: StepPlan) -> Chosen:
    """Select tokens by the policy that sampled.

    This is right for the first update under `score_policy: current` as well: until then the two policies are one.

    Args:
        batch: scored.
        plan: of this batch.

    Raises:
        OrchError: a score is not a number, or the realised ratio is not the one asked for.
    """
    selection = plan.recipe.selection
    tokens = competitors(batch, plan.recipe, batch.scores, scope_B=plan.scope_B, draw_seed=plan.draw_seed)
    selected_BT = choose(tokens, selection, step=plan.step)
    check_ratio(tokens, selected_BT, selection, ratio=plan.ratio, step=plan.step)
    return Chosen(selected_BT=selected_BT, metrics=selection_metrics(tokens, selected_BT, selection, ratio=plan.ratio))


def select_again(batch: RolloutBatch, scores: PolicyScores, plan: StepPlan, *, label: int) -> Tensor:
    """Select tokens for one mini-batch by the policy as it is now, bool (B, T); False in rows that do not compete.

    Args:
        batch: as `select_first` has it: its own log-probs stay those of the policy that sampled, because the
            importance ratio r = π_θ/π_old inside ω is between the two.
        scores: what the present policy says of `plan.rows_competing(label)`, (C, T).
        plan: of this batch.
        label: of the mini-batch.
    """
    rows_C = plan.rows_competing(label)
    tokens = competitors(
        batch.take(rows_C), plan.recipe, scores, scope_B=plan.scope_B[rows_C], draw_seed=plan.draw_seed
    )
    selected_BT = torch.zeros_like(batch.response_mask_BT)
    selected_BT[rows_C] = choose(tokens, plan.recipe.selection, step=plan.step)
    return selected_BT


def choose(tokens: Tokens, selection: Selection, *, step: int) -> Tensor:
    """Return the tokens that a step trains on, bool (B, T): all that compete during the dense warm-up.

    The warm-up is no matter of ρ alone: a rule such as STAPO has none, and would drop tokens from the first step on.
    """
    if is_warm_up(selection, step):
        return tokens.mask_BT
    return select(tokens, selection, ratio=keep_ratio(selection, step))


def mini_batch_weights(batch: RolloutBatch, selected_BT: Tensor, plan: StepPlan, *, label: int) -> LossWeights:
    """Return what each token of one mini-batch weighs in the loss, (M, T), in the order of `plan.rows_trained`.

    The mini-batch is what the normaliser counts over: one optimizer step has one denominator, however a backend cuts
    it into passes or spreads it over workers.

    Args:
        batch: of the step.
        selected_BT: bool, from `select_first` or `select_again`.
        plan: of this batch.
        label: of the mini-batch.
    """
    rows_M = plan.rows_trained(label)
    weights = loss_weights(
        selected_BT=selected_BT[rows_M],
        # Tokens that a rollout correction rejected are not there for any denominator either.
        response_BT=batch.learned_mask_BT[rows_M],
        scope_B=plan.scope_B[rows_M],
        algorithm=plan.recipe.algorithm,
        selection=plan.recipe.selection,
    )
    if batch.importance_BT is None:
        return weights
    # After the normaliser: the correction re-weighs what the sampler drew, and must not change how many were drawn.
    return replace(weights, policy_BT=weights.policy_BT * batch.importance_BT[rows_M])


def mini_batches(batch: RolloutBatch, prompts: int) -> Tensor:
    """Return the mini-batch of each sequence, int64 (B,): `prompts` trained groups each, in order of appearance.

    Sequences that only compete (`is_trained_B` is False) get −1 and fill no mini-batch.
    """
    place: dict[int, int] = {}
    trained = [True] * len(batch) if batch.is_trained_B is None else batch.is_trained_B.tolist()
    labels = [
        # The first sequence of a group takes the group's place in line; the others find it taken.
        place.setdefault(group, len(place)) // prompts if is_trained else -1
        for group, is_trained in zip(batch.group_B.tolist(), trained, strict=True)
    ]
    return torch.tensor(labels, dtype=torch.int64, device=batch.group_B.device)


def competitors(
    batch: RolloutBatch, recipe: Recipe, scores: PolicyScores, *, scope_B: Tensor, draw_seed: int
) -> Tokens:
    """Return the tokens of a batch as one policy sees them.

    Args:
        batch: holds log-probs under the policy that sampled.
        recipe: gives the objective, whose gradient ω weighs each token.
        scores: what the scored policy says of each token, (B, T).
        scope_B: int64, from `trainers.selection.scopes`.
        draw_seed: from (run seed, step).
    """
    assert batch.old_logp_BT is not None
    advantage_B = batch.advantage_B
    if recipe.selection.advantage_per_token:
        # What the official GMTS code has in its GRPO mode: the loss's 1/(|o_i|·G) is inside A before tokens are ranked.
        advantage_B = advantage_B / (batch.response_length_B.clamp(min=1) * recipe.group_size)
    weight_BT = gradient_weight(
        scores.logp_BT,
        old_logp_N=batch.old_logp_BT,
        advantage_N=advantage_B[:, None].to(scores.logp_BT),
        ref_logp_N=batch.ref_logp_BT,
        algorithm=recipe.algorithm,
    )
    return Tokens(
        mask_BT=batch.learned_mask_BT,
        advantage_B=batch.advantage_B,
        group_B=batch.group_B,
        uid_B=batch.uid_B,
        scope_B=scope_B,
        logp_BT=scores.logp_BT,
        entropy_BT=scores.entropy_BT,
        purity_BT=scores.purity_BT,
        weight_BT=weight_BT,
        deviation_BT=scores.deviation_BT,
        draw_seed=draw_seed,
    )
