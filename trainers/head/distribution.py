"""Statistics of next-token distributions: chosen log-prob, entropy H, purity C, log-sum-exp.

From logits, or from hidden states and a head (`trainers/head/operators.py`), so that the logits of a batch never exist
at once. Accumulation is in float32 (float64 for float64 models) whatever the model's dtype; the temperature divides in
that dtype too. The distance from a group's mean distribution: `trainers/head/deviation.py`; gradients:
`trainers/head/log_probs.py`.

Shapes: N tokens, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from trainers.head.operators import CHUNK, NEVER, Head, Implementation, TokenStatistics, implementation_for

CPU_BLOCK: Final = 2**20
"""Logits worked on at a time on a CPU: a few rows that stay in its cache."""
CUDA_BLOCK: Final = 2**26
"""The same on a GPU without Triton, where launching costs more than the cache saves."""


@torch.no_grad()
def statistics(logits_NV: Tensor, token_N: Tensor) -> TokenStatistics:
    """Return the statistics of tokens from their logits (already at the temperature); −inf logits are allowed.

    With u = z − max z and s = Σ eᵘ: H = ln s + Σ eᵘ(−u)/s is a sum of non-negative terms, so nothing cancels; the
    usual lse − Σ p·z loses three digits at V = 151,936.

    Args:
        logits_NV: z/T, float32 or float64.
        token_N: int64, the chosen tokens.
    """
    parts = [_block_statistics(logits_NV[rows], token_N[rows]) for rows in row_blocks(logits_NV)]
    return TokenStatistics.concatenate(parts) if parts else _block_statistics(logits_NV, token_N)


@torch.no_grad()
def hidden_statistics(
    hidden_ND: Tensor,
    head: Head,
    token_N: Tensor,
    *,
    max_logits: int = CHUNK,
    implementation: Implementation | None = None,
) -> TokenStatistics:
    """Return the statistics of tokens from their hidden states, holding at most `max_logits` logits at a time.

    Args:
        hidden_ND: hidden states at the positions that predict the tokens.
        head: the output layer.
        token_N: int64, the chosen tokens.
        max_logits: bound on the logits held at once.
        implementation: None leaves the choice to device and type.
    """
    if len(token_N) and (implementation or implementation_for(hidden_ND)) == "triton":
        from trainers.head.fused import Tuning, token_statistics

        return token_statistics(hidden_ND, head, token_N, tuning=Tuning(workspace_bytes=4 * max_logits))
    parts = [statistics(head.logits(hidden_ND[rows]), token_N[rows]) for rows in head.chunks(len(token_N), max_logits)]
    return TokenStatistics.concatenate(parts) if parts else statistics(head.logits(hidden_ND), token_N)


@torch.no_grad()
def hidden_logp(
    hidden_ND: Tensor,
    head: Head,
    token_N: Tensor,
    *,
    max_logits: int = CHUNK,
    implementation: Implementation | None = None,
) -> Tensor:
    """Return only the chosen log-probs (N,), in nats, which is all that a KL term needs of a reference model."""
    if len(token_N) and (implementation or implementation_for(hidden_ND)) == "triton":
        from trainers.head.fused import Tuning, token_logp

        return token_logp(hidden_ND, head, token_N, tuning=Tuning(workspace_bytes=4 * max_logits))[0]
    parts = [chosen_logp(head.logits(hidden_ND[rows]), token_N[rows]) for rows in head.chunks(len(token_N), max_logits)]
    return torch.cat(parts) if parts else hidden_ND.new_zeros(0)


def chosen_logp(logits_NV: Tensor, token_N: Tensor) -> Tensor:
    """Return log p(token), (N,), in nats."""
    return logits_NV.gather(-1, token_N[:, None])[:, 0] - torch.logsumexp(logits_NV, dim=-1)


@torch.no_grad()
def entropy_of(logits_NV: Tensor, lse_N: Tensor) -> Tensor:
    """Return H in nats, (N,), from logits whose log-sum-exp is known."""
    parts = []
    for rows in row_blocks(logits_NV):
        logp_RV = (logits_NV[rows] - lse_N[rows, None]).clamp_(min=NEVER)
        parts.append(-(logp_RV.exp().mul_(logp_RV)).sum(-1))
    return torch.cat(parts)


def gradient_norm_square(logp_N: Tensor, purity_N: Tensor) -> Tensor:
    """Return ‖∂ log p_y/∂z‖² = 1 − 2·p_y + C, (N,): the exact form of what GMTS approximates by the entropy.

    Source: GMTS eq. (2) with the L2 norm; docs/methods.md, gnorm.
    """
    return (1 - 2 * logp_N.exp() + purity_N).clamp(min=0.0)  # rounding goes below 0 where p_y is almost 1


def row_blocks(values_NV: Tensor) -> Iterator[slice]:
    """Yield slices of rows so small that elementwise work on them stays in cache."""
    limit = CUDA_BLOCK if values_NV.is_cuda else CPU_BLOCK
    rows = max(1, limit // values_NV.shape[1])
    for start in range(0, values_NV.shape[0], rows):
        yield slice(start, start + rows)


def _block_statistics(logits_NV: Tensor, token_N: Tensor) -> TokenStatistics:
    """`statistics` of a block of rows that fits into cache."""
    # u ≤ 0, so that no exponential overflows and the largest is exactly 1: s ≥ 1, and ln s ≥ 0.
    peak_N1 = logits_NV.amax(-1, keepdim=True)
    u_NV = logits_NV - peak_N1
    # Read before `clamp_` below changes u in its place: a chosen token at −inf has the log-prob −inf.
    chosen_N = u_NV.gather(-1, token_N[:, None])[:, 0]
    e_NV = u_NV.exp()
    sum_N = e_NV.sum(-1)
    log_N = sum_N.log()
    # Σ eᵘ·u. At −inf it would be 0·(−inf), which is NaN: the clamp makes it 0·(a finite number).
    spread_N = u_NV.clamp_(min=NEVER).mul_(e_NV).sum(-1)
    return TokenStatistics(
        logp_N=chosen_N - log_N,
        entropy_N=log_N - spread_N / sum_N,
        purity_N=e_NV.square_().sum(-1) / sum_N.square(),
        lse_N=peak_N1[:, 0] + log_N,
    )
