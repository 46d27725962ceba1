"""How far each token's distribution lies from the mean of its group at the same position: what ICT ranks by.

Shapes: N tokens, V vocabulary, D hidden, M tokens of a chunk, C cells of a chunk, K cells that have a k-th member.
A cell is one (group, position): the tokens whose distributions are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log
from typing import Final

import torch
from torch import Tensor

from trainers.head.distribution import hidden_statistics, row_blocks, statistics
from trainers.head.operators import CHUNK, Head, Implementation, TokenStatistics, implementation_for
from trainers.methods import Distance

LN2: Final = log(2.0)
_ALMOST_ONE: Final = 1 - 2.0**-24
"""The largest float32 below 1: at d = 1 the term (1 − d)log1p(−d) is 0, and here it is 1e-6."""

Measure = Callable[[Tensor, Tensor], Tensor]


def js_bound(members_N: Tensor) -> Tensor:
    """Return the largest JS(p ‖ p̄) where p̄ averages n distributions and p is one of them; 0 at n = 1.

    Reached by disjoint supports: ½ln(2n/(n+1)) + ln(2/(n+1))/2n + ½(1 − 1/n)ln 2 → ln 2.
    """
    n_N = members_N.double().clamp(min=1)
    return (n_N.mul(2).div(n_N + 1).log() + (2 / (n_N + 1)).log() / n_N + (1 - 1 / n_N) * LN2) / 2


@torch.no_grad()
def group_deviation(
    hidden_ND: Tensor,
    head: Head,
    token_N: Tensor,
    cell_N: Tensor,
    *,
    distance: Distance = "js",
    leave_one_out: bool = False,
    max_logits: int = CHUNK,
    implementation: Implementation | None = None,
) -> tuple[Tensor, TokenStatistics]:
    """Return each token's distance from the mean distribution of its cell, (N,), and its statistics.

    Both come from one product with the head. Tokens are ordered by cell size and by member, so that a cell's k-th
    members lie side by side: means are sums of slices, deterministic on every device. Tokens of one cell must come in
    an order that does not depend on batching if the last bit is not to.

    Args:
        hidden_ND: hidden states at the positions that predict the tokens.
        head: the output layer; its temperature applies.
        token_N: int64, the chosen tokens.
        cell_N: int64 labels; equal labels are averaged: the members of a prompt group that reach a position.
        distance: JS divergence (at most ln 2), KL(p ‖ p̄), or Wasserstein-1 over the token index.
        leave_one_out: average over the other members only; 0 where there is none.
        max_logits: bound on the logits held at once, as long as one cell fits into it.
        implementation: None leaves the choice to device and type.

    Source: ICT eq. (9), with V_t = {i: T_i ≥ t}; docs/methods.md.
    """
    if len(token_N) and distance in IN_KERNEL and (implementation or implementation_for(hidden_ND)) == "triton":
        return _fused_deviation(hidden_ND, head, token_N, cell_N, distance, leave_one_out, max_logits)
    # Full distributions are in memory for one chunk of cells at a time: a group of 16 at 2,048 positions and a
    # vocabulary of 152,000 would be 20 GB of float32.
    measure = DISTANCES[distance]
    deviation_N = torch.zeros(len(token_N), dtype=torch.promote_types(hidden_ND.dtype, torch.float32)).to(
        hidden_ND.device
    )
    order_parts: list[Tensor] = []
    parts: list[TokenStatistics] = []
    for order_M, sizes in _cell_chunks(cell_N, max(1, max_logits // head.vocabulary)):
        logits_MV = head.logits(hidden_ND[order_M])
        parts.append(statistics(logits_MV, token_N[order_M]))
        order_parts.append(order_M)
        _to_probabilities(logits_MV, parts[-1].lse_N)
        deviation_N[order_M] = _deviation(logits_MV, sizes, measure, leave_one_out)
    if not parts:
        return deviation_N, hidden_statistics(hidden_ND, head, token_N)
    return deviation_N, TokenStatistics.concatenate(parts).take(torch.argsort(torch.cat(order_parts)))


def js_divergence(p_NV: Tensor, q_NV: Tensor) -> Tensor:
    """Return JS(p ‖ q) in nats, (N,), within [0, ln 2]; one log1p pair and no difference of entropies.

    With s = p + q and d = (p − q)/s: Σ s/4·[(1 + d)log1p(d) + (1 − d)log1p(−d)].
    """
    s_NV = p_NV + q_NV
    d_NV = (p_NV - q_NV).div_(s_NV.clamp(min=torch.finfo(s_NV.dtype).tiny)).clamp_(-_ALMOST_ONE, _ALMOST_ONE)
    below_NV = torch.log1p(-d_NV).mul_(1 - d_NV)
    terms_NV = torch.log1p(d_NV).mul_(d_NV.add_(1)).add_(below_NV).mul_(s_NV)
    return terms_NV.sum(-1).div_(4).clamp_(0.0, LN2)


def kl_divergence(p_NV: Tensor, q_NV: Tensor) -> Tensor:
    """Return KL(p ‖ q) in nats, (N,), as a sum of p·ln(p/q) − p + q, none of which is negative."""
    floor = torch.finfo(p_NV.dtype).tiny
    ratio_NV = (p_NV.clamp(min=floor) / q_NV.clamp(min=floor)).log_()
    return ratio_NV.mul_(p_NV).sub_(p_NV).add_(q_NV).sum(-1).clamp_(min=0.0)


def wasserstein_distance(p_NV: Tensor, q_NV: Tensor) -> Tensor:
    """Return W₁ over the token index, (N,): Σ |CDF_p − CDF_q|. An ablation of the paper: the index has no meaning."""
    return (p_NV - q_NV).cumsum(-1).abs_().sum(-1)


DISTANCES: Final[dict[Distance, Measure]] = {
    "js": js_divergence,
    "kl": kl_divergence,
    "wasserstein": wasserstein_distance,
}
IN_KERNEL: Final = frozenset({"js", "kl", "wasserstein"})
"""Those that `trainers.head.kernels.distance_kernel` has a case for. It would take any other name for the last case."""


def _fused_deviation(
    hidden_ND: Tensor,
    head: Head,
    token_N: Tensor,
    cell_N: Tensor,
    distance: Distance,
    leave_one_out: bool,
    max_logits: int,
) -> tuple[Tensor, TokenStatistics]:
    from trainers.head.fused import Tuning, group_distances

    order_N = torch.argsort(cell_N, stable=True)
    _, count_C = torch.unique_consecutive(cell_N[order_N], return_counts=True)
    deviation_N, found = group_distances(
        hidden_ND[order_N],
        head,
        token_N[order_N],
        torch.nn.functional.pad(count_C.cumsum(0), (1, 0)),
        distance=distance,
        leave_one_out=leave_one_out,
        tuning=Tuning(workspace_bytes=4 * max_logits),
    )
    back_N = torch.argsort(order_N)
    return deviation_N[back_N], found.take(back_N)


def _to_probabilities(logits_NV: Tensor, lse_N: Tensor) -> None:
    """Turn logits into probabilities in their place, (N, V): a second tensor of that size would double the peak."""
    for rows in row_blocks(logits_NV):
        logits_NV[rows].sub_(lse_N[rows, None]).exp_()


def _cell_chunks(cell_N: Tensor, max_rows: int) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield tokens of whole cells, slot by slot, cells by falling size; and how many cells have a k-th member."""
    # Cells by falling size, so that those with a k-th member are always the first ones of a chunk: `_deviation` then
    # adds the k-th members to a slice of the means, without an index and in a fixed order.
    _, inverse_N, count_C = torch.unique(cell_N, return_inverse=True, return_counts=True)
    by_size_C = torch.argsort(count_C, descending=True, stable=True)
    place_C = torch.empty_like(by_size_C)
    place_C[by_size_C] = torch.arange(len(count_C), device=cell_N.device)
    place_N = place_C[inverse_N]
    order_N = torch.argsort(place_N, stable=True)
    ends_C = count_C[by_size_C].cumsum(0)
    ends = ends_C.tolist()
    first, start = 0, 0
    while first < len(ends):
        # As many whole cells as fit, and at least one: a mean over a part of a cell would be another score.
        last = max(first + 1, int(torch.searchsorted(ends_C, start + max_rows, right=True)))
        tokens_M = order_N[start : ends[last - 1]]
        sizes_C = count_C[by_size_C[first:last]]
        starts_C = sizes_C.cumsum(0) - sizes_C
        member_M = torch.arange(len(tokens_M), device=cell_N.device) - starts_C.repeat_interleave(sizes_C)
        yield tokens_M[torch.argsort(member_M, stable=True)], torch.bincount(member_M).tolist()
        first, start = last, ends[last - 1]


def _deviation(p_MV: Tensor, sizes: list[int], measure: Measure, leave_one_out: bool) -> Tensor:
    """Return each token's distance from the mean of its cell, (M,), of tokens that lie as `_cell_chunks` yields them.

    Args:
        p_MV: probabilities: the first members of all cells, then the second ones, and so on.
        sizes: how many cells have a k-th member; it never rises with k.
        measure: from p and the mean.
        leave_one_out: take p out of the mean.
    """
    slots = torch.split(p_MV, sizes)
    mean_CV = slots[0].clone()
    count_C1 = torch.ones(sizes[0], 1, dtype=p_MV.dtype, device=p_MV.device)
    for slot_KV in slots[1:]:
        mean_CV[: len(slot_KV)] += slot_KV
        count_C1[: len(slot_KV)] += 1
    for rows in row_blocks(mean_CV):
        mean_CV[rows] /= count_C1[rows]
    parts: list[Tensor] = []
    for slot_KV in slots:
        for rows in row_blocks(slot_KV):
            q_KV, count_K1 = mean_CV[: len(slot_KV)][rows], count_C1[: len(slot_KV)][rows]
            if leave_one_out:
                # The mean of the others from the mean of all, by n·q − p; rounding may leave −1e-9 where p is all of q.
                others_KV = (q_KV * count_K1).sub_(slot_KV[rows]).clamp_(min=0.0)
                q_KV = others_KV.div_((count_K1 - 1).clamp(min=1))
            measured_K = measure(slot_KV[rows], q_KV)
            # Alone in its cell a token is its own mean, and leave-one-out has no others to compare it with.
            parts.append(measured_K.masked_fill(count_K1[:, 0] == 1, 0.0))
    return torch.cat(parts)
