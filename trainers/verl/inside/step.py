"""One training step between verl's passes: advantages, selection and the weight of every token. No verl in here.

Shapes: B responses, T response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.batch import PolicyScores, RolloutBatch
from trainers.objective import LossWeights
from trainers.recipe import Recipe
from trainers.rollout_correction import rollout_correction
from trainers.step import StepPlan, mini_batch_weights, select_again, select_first
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


def weigh(batch: RolloutBatch, plan: StepPlan) -> Weighed:
    """Select tokens by the policy that sampled, and weigh those of each mini-batch as `lite` does.

    Args:
        batch: scored, whole groups in training order.
        plan: of this batch.

    Raises:
        OrchError: a score is not a number, or the realised ratio is not the one asked for.
    """
    chosen = select_first(batch, plan)
    policy_BT, regulariser_BT = torch.zeros(2, *chosen.selected_BT.shape)
    for label in range(plan.num_mini_batches):
        weights = _on_whole_batch(batch, chosen.selected_BT, plan, label=label)
        policy_BT += weights.policy_BT  # mini-batches share no row
        regulariser_BT += weights.regulariser_BT
    return Weighed(
        selected_BT=chosen.selected_BT, policy_BT=policy_BT, regulariser_BT=regulariser_BT, metrics=chosen.metrics
    )


def weigh_again(batch: RolloutBatch, scores: PolicyScores, plan: StepPlan, *, label: int) -> LossWeights:
    """Select by the policy as it is now, and return the weights of one mini-batch, float32 (B, T), 0 in other rows.

    Args:
        batch: as `weigh` has it.
        scores: what the present policy says of `plan.rows_competing(label)`.
        plan: of this batch; its recipe `is_rescored`.
        label: of the mini-batch.
    """
    return _on_whole_batch(batch, select_again(batch, scores, plan, label=label), plan, label=label)


def dispatch_order(lengths: Sequence[int], *, mini_batch_rows: int, num_workers: int, together: int = 1) -> list[int]:
    """Return rows in the order in which verl must get them so that its k-th update trains our k-th mini-batch.

    verl gives each worker one contiguous share, and a worker's k-th part of it is trained in the k-th update. All
    workers wait for the one with the most to do, so each mini-batch is dealt out by work: the longest first, to the
    worker that has least.

    Args:
        lengths: tokens of each row, prompts included.
        mini_batch_rows: a multiple of `num_workers` × `together`.
        num_workers: GPUs that train.
        together: rows side by side that must share a worker: those of a group, or 1.
    """
    parts: list[list[list[int]]] = [[] for _ in range(num_workers)]
    for first in range(0, len(lengths), mini_batch_rows):
        units = [list(range(row, row + together)) for row in range(first, first + mini_batch_rows, together)]
        for worker, mine in enumerate(_dealt(units, lengths, num_workers)):
            parts[worker].append(mine)
    return [row for worker in parts for part in worker for row in part]


def _dealt(units: list[list[int]], lengths: Sequence[int], num_workers: int) -> list[list[int]]:
    """Rows of each worker, equally many and in rising order."""
    work = [sum(_work(lengths[row]) for row in unit) for unit in units]
    hands: list[list[int]] = [[] for _ in range(num_workers)]
    done = [0] * num_workers
    most = len(units) // num_workers
    for unit in sorted(range(len(units)), key=lambda unit: (-work[unit], unit)):
        worker = min((w for w in range(num_workers) if len(hands[w]) < most), key=lambda w: (done[w], w))
        hands[worker].append(unit)
        done[worker] += work[unit]
    return [[row for unit in sorted(hand) for row in units[unit]] for hand in hands]


def _work(tokens: int) -> int:
    """What a sequence takes: matrix products by tokens, attention by their square, as verl weighs them (for a 7B)."""
    return tokens * (24_576 + tokens)


def dispatched_part(num_rows: int, *, mini_batch_rows: int, num_workers: int, label: int) -> list[int]:
    """Places of one mini-batch's rows in a batch of `dispatch_order`, worker by worker as well."""
    places = torch.arange(num_rows).view(num_workers, num_rows // mini_batch_rows, -1)
    part: list[int] = places[:, label].flatten().tolist()
    return part


def _on_whole_batch(batch: RolloutBatch, selected_BT: Tensor, plan: StepPlan, *, label: int) -> LossWeights:
    """Return the weights of one mini-batch in its rows of the batch, float32 (B, T), and 0 in all others."""
    weights, rows_M = mini_batch_weights(batch, selected_BT, plan, label=label), plan.rows_trained(label)
    policy_BT, regulariser_BT = torch.zeros(2, *selected_BT.shape)
    policy_BT[rows_M], regulariser_BT[rows_M] = weights.policy_BT.float(), weights.regulariser_BT.float()
    return LossWeights(policy_BT=policy_BT, regulariser_BT=regulariser_BT)
