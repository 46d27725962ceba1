"""The pass over sampled responses before any update: old log-probs, and what selection ranks by.

One product with the head yields all of it: log-probs, entropy, purity, and the deviation from the group's mean where
the method asks for one, so that scoring costs next to nothing beyond the log-probs every algorithm needs.

Shapes: B sequences, T response tokens, N tokens of one block, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainers.batch import PolicyScores, RolloutBatch
from trainers.head.deviation import group_deviation
from trainers.head.distribution import hidden_logp, hidden_statistics
from trainers.head.operators import Head, TokenStatistics
from trainers.lite.forward import needed_hidden, passes, places
from trainers.methods import METHODS
from trainers.recipe import Recipe


def score_rollouts(
    model: Any, reference: Any | None, batch: RolloutBatch, recipe: Recipe, *, micro_batch_sequences: int
) -> RolloutBatch:
    """Return the batch with old log-probs, entropies, purities, and what the recipe needs beside them.

    A batch that holds the first three from sampling keeps them, unless the method asks for a deviation as well.

    Args:
        model: the policy that sampled, a causal language model of transformers.
        reference: the frozen reference; its log-probs are taken only where `algorithm.kl_coef` is above 0.
        batch: the responses; whole groups, if the method averages over groups.
        recipe: gives temperature, method and KL coefficient.
        micro_batch_sequences: rows of one forward pass; changes rounding only.
    """
    if batch.old_logp_BT is None or METHODS[recipe.selection.method].distance is not None:
        scores = policy_scores(model, batch, recipe, micro_batch_sequences=micro_batch_sequences)
        batch = replace(
            batch,
            old_logp_BT=scores.logp_BT,
            entropy_BT=scores.entropy_BT,
            purity_BT=scores.purity_BT,
            deviation_BT=scores.deviation_BT,
        )
    if recipe.algorithm.kl_coef > 0:
        assert reference is not None, "a KL term needs a reference model"
        batch = replace(batch, ref_logp_BT=_logp(reference, batch, recipe.temperature, micro_batch_sequences))
    return batch


@torch.no_grad()
def policy_scores(model: Any, batch: RolloutBatch, recipe: Recipe, *, micro_batch_sequences: int) -> PolicyScores:
    """Return what the model says of every response token of the batch."""
    method = METHODS[recipe.selection.method]
    distance = method.distance
    head = Head.of(model, recipe.temperature)
    mask_BT = batch.response_mask_BT
    dtype = torch.promote_types(head.weight_VD.dtype, torch.float32)
    logp_BT, entropy_BT, purity_BT, deviation_BT = torch.zeros(4, *mask_BT.shape, dtype=dtype, device=mask_BT.device)
    for rows_B in _blocks(batch, micro_batch_sequences, is_by_group=method.needs_whole_groups):
        parts = list(passes(batch, mask_BT & rows_B[:, None], micro_batch_sequences))
        if not parts:
            continue
        row_N, position_N = places(parts)
        token_N = batch.tokens_BS[row_N, batch.prompt_length_B[row_N] + position_N]
        hidden_ND = torch.cat([needed_hidden(model, part) for part in parts])
        stats: TokenStatistics
        if distance is None:
            stats = hidden_statistics(hidden_ND, head, token_N)
        else:
            # `passes` yields rows by length, which depends on how they were cut. A float sum depends on its order, so
            # that the members of a cell are put in an order of their own before they are averaged.
            by_uid_N = torch.argsort(batch.uid_B[row_N], stable=True)
            row_N, position_N = row_N[by_uid_N], position_N[by_uid_N]
            # One label for each (group, position), as no position reaches the width.
            cell_N = batch.group_B[row_N] * mask_BT.shape[1] + position_N
            deviation_BT[row_N, position_N], stats = group_deviation(
                hidden_ND[by_uid_N],
                head,
                token_N[by_uid_N],
                cell_N,
                distance=distance,
                leave_one_out=bool(recipe.selection.leave_one_out),
            )
        logp_BT[row_N, position_N] = stats.logp_N
        entropy_BT[row_N, position_N] = stats.entropy_N
        purity_BT[row_N, position_N] = stats.purity_N
    return PolicyScores(
        logp_BT=logp_BT,
        entropy_BT=entropy_BT,
        purity_BT=purity_BT,
        deviation_BT=None if distance is None else deviation_BT,
    )


@torch.no_grad()
def _logp(model: Any, batch: RolloutBatch, temperature: float, micro_batch_sequences: int) -> Tensor:
    head = Head.of(model, temperature)
    mask_BT = batch.response_mask_BT
    logp_BT = torch.zeros(mask_BT.shape, dtype=torch.promote_types(head.weight_VD.dtype, torch.float32))
    logp_BT = logp_BT.to(mask_BT.device)
    for part in passes(batch, mask_BT, micro_batch_sequences):
        row_N, position_N = places([part])
        token_N = batch.tokens_BS[row_N, batch.prompt_length_B[row_N] + position_N]
        logp_BT[row_N, position_N] = hidden_logp(needed_hidden(model, part), head, token_N)
    return logp_BT


def _blocks(batch: RolloutBatch, sequences: int, *, is_by_group: bool) -> Iterator[Tensor]:
    """Yield which rows are scored together, bool (B,): rows of about one length, or whole groups.

    A group may be larger than one forward pass: then its passes run one after the other, and their hidden states, not
    their logits, are kept until the group is complete.
    """
    if not is_by_group:
        order_B = torch.argsort(batch.response_length_B + batch.prompt_length_B, descending=True, stable=True)
        blocks = torch.split(order_B, sequences)
    else:
        order_B = torch.argsort(batch.group_B, stable=True)
        _, sizes = torch.unique_consecutive(batch.group_B[order_B], return_counts=True)
        blocks = torch.split(order_B, _joined(sizes.tolist(), sequences))
    for rows in blocks:
        rows_B = torch.zeros(len(batch), dtype=torch.bool, device=order_B.device)
        rows_B[rows] = True
        yield rows_B


def _joined(sizes: list[int], limit: int) -> list[int]:
    """Return sums of neighbouring sizes, each at most `limit` unless it is a single one."""
    joined: list[int] = []
    for size in sizes:
        if joined and joined[-1] + size <= limit:
            joined[-1] += size
        else:
            joined.append(size)
    return joined
