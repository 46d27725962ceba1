"""One training step between verl's passes: advantages, selection and the weight of every token. No verl in here.

Shapes: B responses, T response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eval.seeds import derive_seed
from trainers.batch import PolicyScores, RolloutBatch
from trainers.diagnostics import check_ratio, selection_metrics
from trainers.objective import LossWeights, loss_weights
from trainers.recipe import Recipe
from trainers.rollout_correction import rollout_correction
from trainers.selection import Tokens, keep_ratio, scopes, select
from trainers.step import competitors, mini_batches
from trainers.verl.launch.support import is_corrected


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the loss needs of each token, with the metrics of the selection."""

    selected_BT: Tensor
    policy_BT: Tensor
    """Weights of the clipped surrogate; their normaliser is that of each sequence's own mini-batch."""
    regulariser_BT: Tensor
    metrics: dict[str, float]


def with_scores(batch: RolloutBatch, scores: dict[str, Sequence[Tensor]]) -> RolloutBatch:
    """Return the batch with what verl's passes said of each token.

    Args:
        batch: from `trainers.lite.rollout.make_batch`.
        scores: field of `RolloutBatch` → one tensor a response, without padding.
    """
    width = batch.num_response_positions
    padded = {
        name: torch.stack([torch.nn.functional.pad(row.float(), (0, width - len(row))) for row in rows])
        for name, rows in scores.items()
    }
    return replace(batch, **padded)


def corrected(batch: RolloutBatch, recipe: Recipe) -> tuple[RolloutBatch, dict[str, float]]:
    """Return the batch with the weights and rejections of a rollout correction, where there is one, and its metrics."""
    if not is_corrected(recipe):
        return batch, {}
    assert batch.old_logp_BT is not None
    assert batch.rollout_logp_BT is not None
    found = rollout_correction(batch.old_logp_BT, batch.rollout_logp_BT, batch.response_mask_BT, recipe.algorithm)
    return replace(batch, importance_BT=found.weight_BT, accepted_BT=found.accepted_BT), found.metrics


def weigh(batch: RolloutBatch, recipe: Recipe, *, step: int, seed: int) -> Weighed:
    """Select tokens by the policy that sampled, and weigh those of each mini-batch as `lite` does.

    Args:
        batch: scored, whole groups in training order.
        recipe: objective, selection and mini-batches.
        step: the training step, counted from 1.
        seed: the run's seed.

    Raises:
        OrchError: a score is not a number, or the realised ratio is not the one asked for.
    """
    selection = recipe.selection
    mini_batch_B = mini_batches(batch, recipe.mini_batch_prompts)
    scope_B = scopes(selection, batch.group_B, mini_batch_B)
    ratio = keep_ratio(selection, step)
    assert batch.old_logp_BT is not None
    assert batch.entropy_BT is not None
    assert batch.purity_BT is not None
    tokens = competitors(
        batch,
        recipe,
        logp_BT=batch.old_logp_BT,
        entropy_BT=batch.entropy_BT,
        purity_BT=batch.purity_BT,
        deviation_BT=batch.deviation_BT,
        scope_B=scope_B,
        draw_seed=derive_seed(seed, "select", step),
    )
    selected_BT = _choose(tokens, recipe, step)
    check_ratio(tokens, selected_BT, selection, ratio=ratio, step=step)
    policy_BT, regulariser_BT = torch.zeros(2, *selected_BT.shape)
    for label in torch.unique(mini_batch_B):
        rows_M = (mini_batch_B == label).nonzero()[:, 0]
        weights = _weights(batch, recipe, selected_BT, scope_B, rows_M)
        policy_BT[rows_M] = weights.policy_BT.float()
        regulariser_BT[rows_M] = weights.regulariser_BT.float()
    return Weighed(
        selected_BT=selected_BT,
        policy_BT=policy_BT,
        regulariser_BT=regulariser_BT,
        metrics=selection_metrics(tokens, selected_BT, selection, ratio=ratio),
    )


def rows_to_score(batch: RolloutBatch, recipe: Recipe, label: int) -> Tensor:
    """Return, int64, the rows among which the tokens of a mini-batch compete: the batch's or its own."""
    if recipe.selection.scope == "batch":
        return torch.arange(len(batch))
    return (mini_batches(batch, recipe.mini_batch_prompts) == label).nonzero()[:, 0]


def weigh_again(
    batch: RolloutBatch, recipe: Recipe, scores: PolicyScores, *, label: int, step: int, seed: int
) -> LossWeights:
    """Select by the policy as it is now, and return the weights of one mini-batch, (B, T), 0 in other rows.

    Args:
        batch: as `weigh` has it.
        recipe: one that `is_rescored`.
        scores: what the present policy says of `rows_to_score`.
        label: of the mini-batch.
        step: the training step, counted from 1.
        seed: the run's seed.
    """
    mini_batch_B = mini_batches(batch, recipe.mini_batch_prompts)
    scope_B = scopes(recipe.selection, batch.group_B, mini_batch_B)
    rows_C = rows_to_score(batch, recipe, label)
    tokens = competitors(
        batch.take(rows_C),
        recipe,
        logp_BT=scores.logp_BT,
        entropy_BT=scores.entropy_BT,
        purity_BT=scores.purity_BT,
        deviation_BT=scores.deviation_BT,
        scope_B=scope_B[rows_C],
        draw_seed=derive_seed(seed, "select", step),
    )
    selected_BT = torch.zeros_like(batch.response_mask_BT)
    selected_BT[rows_C] = _choose(tokens, recipe, step)
    rows_M = (mini_batch_B == label).nonzero()[:, 0]
    policy_BT, regulariser_BT = torch.zeros(2, *selected_BT.shape)
    weights = _weights(batch, recipe, selected_BT, scope_B, rows_M)
    policy_BT[rows_M], regulariser_BT[rows_M] = weights.policy_BT.float(), weights.regulariser_BT.float()
    return LossWeights(policy_BT=policy_BT, regulariser_BT=regulariser_BT)


def dispatch_order(num_rows: int, *, mini_batch_rows: int, num_workers: int) -> list[int]:
    """Return rows in the order in which verl must get them so that its k-th update trains our k-th mini-batch.

    verl gives each worker one contiguous share, and a worker's k-th part of it is trained in the k-th update.
    """
    rows = torch.arange(num_rows).view(num_rows // mini_batch_rows, num_workers, -1)
    order: list[int] = rows.transpose(0, 1).flatten().tolist()
    return order


def dispatched_part(num_rows: int, *, mini_batch_rows: int, num_workers: int, label: int) -> list[int]:
    """Places of one mini-batch's rows in a batch of `dispatch_order`, worker by worker as well."""
    places = torch.arange(num_rows).view(num_workers, num_rows // mini_batch_rows, -1)
    part: list[int] = places[:, label].flatten().tolist()
    return part


def _choose(tokens: Tokens, recipe: Recipe, step: int) -> Tensor:
    if step <= recipe.selection.warmup_steps:
        return tokens.mask_BT
    return select(tokens, recipe.selection, ratio=keep_ratio(recipe.selection, step))


def _weights(batch: RolloutBatch, recipe: Recipe, selected_BT: Tensor, scope_B: Tensor, rows_M: Tensor) -> LossWeights:
    weights = loss_weights(
        selected_BT=selected_BT[rows_M],
        response_BT=batch.learned_mask_BT[rows_M],
        scope_B=scope_B[rows_M],
        algorithm=recipe.algorithm,
        selection=recipe.selection,
    )
    if batch.importance_BT is None:
        return weights
    return replace(weights, policy_BT=weights.policy_BT * batch.importance_BT[rows_M])
