"""Triton kernels over a chunk of logits: what `distribution.py` and `deviation.py` compute, in one read of the chunk.

On a GPU these statistics cost what their bytes cost: a chunk of logits is written once by the product with the head and
read once by each kernel here. All arithmetic is float32. `TRITON_INTERPRET=1` runs the same kernels on a CPU, which is
how they are tested; nothing imports this module where neither holds.

Shapes: N tokens of a chunk, V vocabulary, C cells, S shares of the vocabulary.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-any-return"
from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E: Final = 1.4426950408889634
LN2: Final = 0.6931471805599453
_LN2 = tl.constexpr(LN2)
_BLOCK: Final = 4096
_WARPS: Final = 8
_SHARES: Final = 8
"""Programs that share the vocabulary of one cell: a chunk has too few cells to fill a GPU."""
_CELL_BLOCK: Final = 1024
_CELL_WARPS: Final = 4


@triton.jit
def _statistics_kernel(
    logits_ptr, token_ptr, logp_ptr, entropy_ptr, purity_ptr, lse_ptr,
    stride, vocabulary, log2e_over_t,
    BLOCK: tl.constexpr, HAS_STATISTICS: tl.constexpr,
):  # fmt: skip
    """One row a program. With u = (z − max z)/T in units of ln 2: s = Σ 2ᵘ, t = Σ 2ᵘ·(−u), q = Σ 4ᵘ.

    When the running maximum rises by a, older terms shrink: s·2⁻ᵃ, t → 2⁻ᵃ(t + a·s), q·4⁻ᵃ. Sums are kept a lane and
    added up at the end, so that only the maximum is reduced in the loop.
    """
    row = tl.program_id(0).to(tl.int64)
    place = logits_ptr + row * stride
    peak = -float("inf")
    sum_ = tl.zeros([BLOCK], tl.float32)
    spread = tl.zeros([BLOCK], tl.float32)
    square = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        column = start + tl.arange(0, BLOCK)
        z = tl.load(place + column, mask=column < vocabulary, other=-float("inf")).to(tl.float32) * log2e_over_t
        new_peak = tl.maximum(peak, tl.max(z, 0))
        safe = tl.where(new_peak == -float("inf"), 0.0, new_peak)  # a block of −inf alone
        rise = tl.where(peak == -float("inf"), 0.0, safe - peak)
        shrink = tl.where(peak == -float("inf"), 0.0, tl.exp2(-rise))
        u = z - safe
        e = tl.exp2(u)
        if HAS_STATISTICS:
            spread = shrink * (spread + rise * sum_) + tl.where(e > 0.0, -u * e, 0.0)
            square = shrink * shrink * square + e * e
        sum_ = shrink * sum_ + e
        peak = new_peak
    total = tl.sum(sum_, 0)
    log2_total = tl.log2(total)
    token = tl.load(token_ptr + row)
    chosen = tl.load(place + token).to(tl.float32) * log2e_over_t
    tl.store(logp_ptr + row, (chosen - peak - log2_total) * _LN2)
    tl.store(lse_ptr + row, (peak + log2_total) * _LN2)
    if HAS_STATISTICS:
        tl.store(entropy_ptr + row, (log2_total + tl.sum(spread, 0) / total) * _LN2)
        tl.store(purity_ptr + row, tl.sum(square, 0) / (total * total))


@triton.jit
def _deviation_kernel(
    logits_ptr, lse_ptr, row_ptr, first_ptr, found_ptr,
    stride, vocabulary, num_rows, share, log2e_over_t,
    BLOCK: tl.constexpr, IS_JS: tl.constexpr, LEAVE_ONE_OUT: tl.constexpr,
):  # fmt: skip
    """One cell and one share of the vocabulary a program: the mean of its members' block, then each one's terms.

    The second look at a block finds it in the cache. `row_ptr` lists the rows of cells one after another, `first_ptr`
    where each cell begins.
    """
    cell, part = tl.program_id(0), tl.program_id(1)
    first, last = tl.load(first_ptr + cell), tl.load(first_ptr + cell + 1)
    count = (last - first).to(tl.float32)
    for start in range(part * share, tl.minimum(part * share + share, vocabulary), BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < tl.minimum(part * share + share, vocabulary)
        total = tl.zeros([BLOCK], tl.float32)
        for member in range(first, last):
            row = tl.load(row_ptr + member).to(tl.int64)
            lse = tl.load(lse_ptr + row)
            z = tl.load(logits_ptr + row * stride + column, mask=inside, other=-float("inf")).to(tl.float32)
            total += tl.exp2(z * log2e_over_t - lse * 1.4426950408889634)
        for member in range(first, last):
            row = tl.load(row_ptr + member).to(tl.int64)
            lse = tl.load(lse_ptr + row)
            z = tl.load(logits_ptr + row * stride + column, mask=inside, other=-float("inf")).to(tl.float32)
            p = tl.exp2(z * log2e_over_t - lse * 1.4426950408889634)
            if LEAVE_ONE_OUT:
                q = tl.maximum(total - p, 0.0) / tl.maximum(count - 1.0, 1.0)
            else:
                q = total / count
            if IS_JS:
                terms = _js_terms(p, q)
            else:
                terms = _kl_terms(p, q)
            place = found_ptr + part * num_rows + row
            tl.store(place, tl.load(place) + tl.sum(terms, 0))


@triton.jit
def _js_terms(p, q):
    """s/4·[(1 + d)ln(1 + d) + (1 − d)ln(1 − d)] with s = p + q and d = (p − q)/s; a series where the logs cancel."""
    s = p + q
    d = (p - q) / tl.maximum(s, 1e-37)
    d2 = d * d
    series = d2 * (1.0 + d2 * (1 / 6 + d2 * (1 / 15 + d2 * (1 / 28 + d2 * (1 / 45 + d2 * (1 / 66))))))
    up, down = 1.0 + d, 1.0 - d
    logs = up * tl.log2(tl.maximum(up, 1e-37)) + down * tl.log2(tl.maximum(down, 1e-37))
    return 0.25 * s * tl.where(d2 < 0.0625, series, logs * _LN2)


@triton.jit
def _kl_terms(p, q):
    """p·ln(p/q) − p + q: none is negative."""
    logs = tl.log2(tl.maximum(p, 1e-37)) - tl.log2(tl.maximum(q, 1e-37))
    return p * logs * _LN2 - p + q


@triton.jit
def _gradient_kernel(
    logits_ptr, token_ptr, lse_ptr, entropy_ptr, logp_gradient_ptr, entropy_gradient_ptr, gradient_ptr,
    stride, gradient_stride, vocabulary, log2e_over_t, one_over_t,
    BLOCK: tl.constexpr, HAS_ENTROPY: tl.constexpr,
):  # fmt: skip
    """∂/∂z of g·log p_y + h·H: (g·(1[y] − p) − h·p·(ln p + H))/T; one row a program of the first axis."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < vocabulary
    token, lse, g = tl.load(token_ptr + row), tl.load(lse_ptr + row), tl.load(logp_gradient_ptr + row)
    z = tl.load(logits_ptr + row * stride + column, mask=inside, other=-float("inf")).to(tl.float32)
    log2_p = z * log2e_over_t - lse * 1.4426950408889634
    p = tl.exp2(log2_p)
    value = g * (tl.where(column == token, 1.0, 0.0) - p)
    if HAS_ENTROPY:
        h, entropy = tl.load(entropy_gradient_ptr + row), tl.load(entropy_ptr + row)
        value -= tl.where(p > 0.0, h * p * (log2_p * _LN2 + entropy), 0.0)
    place = gradient_ptr + row * gradient_stride + column
    tl.store(place, (value * one_over_t).to(gradient_ptr.dtype.element_ty), mask=inside)


def chunk_statistics(
    logits_NV: Tensor,
    token_N: Tensor,
    *,
    temperature: float,
    has_statistics: bool = True,
    block: int = _BLOCK,
    num_warps: int = _WARPS,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (log-prob of the token, entropy, purity, log-sum-exp), float32 (N,), of z/T; −inf logits are allowed.

    Args:
        logits_NV: z, float32, bfloat16 or float16, rows contiguous.
        token_N: int64.
        temperature: T.
        has_statistics: whether entropy and purity are wanted; they are undefined otherwise.
        block: logits of a row worked on at a time.
        num_warps: warps of a program.
    """
    num_rows, vocabulary = logits_NV.shape
    logp_N, entropy_N, purity_N, lse_N = torch.empty(4, num_rows, device=logits_NV.device)
    _statistics_kernel[(num_rows,)](
        logits_NV, token_N, logp_N, entropy_N, purity_N, lse_N,
        logits_NV.stride(0), vocabulary, LOG2E / temperature,
        BLOCK=min(block, triton.next_power_of_2(vocabulary)), HAS_STATISTICS=has_statistics, num_warps=num_warps,
    )  # fmt: skip
    return logp_N, entropy_N, purity_N, lse_N


def chunk_deviation(
    logits_NV: Tensor,
    lse_N: Tensor,
    row_N: Tensor,
    first_C: Tensor,
    *,
    temperature: float,
    distance: str = "js",
    leave_one_out: bool = False,
    block: int = _CELL_BLOCK,
    num_warps: int = _CELL_WARPS,
    shares: int = _SHARES,
) -> Tensor:
    """Return each token's JS or KL from the mean distribution of its cell, float32 (N,).

    Args:
        logits_NV: z of whole cells.
        lse_N: log-sum-exp of z/T.
        row_N: int64, the rows of cells, one cell after another.
        first_C: int64 (C + 1,): where each cell begins in `row_N`, and its end.
        temperature: T.
        distance: `js` or `kl`.
        leave_one_out: average over the other members only.
        block: logits of a row worked on at a time.
        num_warps: warps of a program.
        shares: programs that share the vocabulary of one cell.
    """
    num_rows, vocabulary = logits_NV.shape
    block = min(block, triton.next_power_of_2(vocabulary))
    share = triton.cdiv(triton.cdiv(vocabulary, shares), block) * block
    shares = triton.cdiv(vocabulary, share)
    found_SN = torch.zeros(shares, num_rows, device=logits_NV.device)
    _deviation_kernel[(len(first_C) - 1, shares)](
        logits_NV, lse_N, row_N, first_C, found_SN,
        logits_NV.stride(0), vocabulary, num_rows, share, LOG2E / temperature,
        BLOCK=block, IS_JS=distance == "js", LEAVE_ONE_OUT=leave_one_out, num_warps=num_warps,
    )  # fmt: skip
    return found_SN.sum(0).clamp_(0.0, LN2 if distance == "js" else None)


def chunk_gradient(
    logits_NV: Tensor,
    token_N: Tensor,
    lse_N: Tensor,
    logp_gradient_N: Tensor,
    *,
    temperature: float,
    entropy_N: Tensor | None = None,
    entropy_gradient_N: Tensor | None = None,
    out_NV: Tensor,
    block: int = _BLOCK,
    num_warps: int = _WARPS,
) -> Tensor:
    """Return ∂(Σ g·log p_y + Σ h·H)/∂z in `out_NV`, which may be the logits themselves if their type is the one wanted.

    Args:
        logits_NV: z.
        token_N: y, int64.
        lse_N: log-sum-exp of z/T.
        logp_gradient_N: g, float32.
        temperature: T.
        entropy_N: H of each row, where there is an entropy bonus.
        entropy_gradient_N: h, float32.
        out_NV: where the gradient goes, in the type of the product that follows.
        block: logits of a row worked on at a time.
        num_warps: warps of a program.
    """
    num_rows, vocabulary = logits_NV.shape
    block = min(block, triton.next_power_of_2(vocabulary))
    has_entropy = entropy_gradient_N is not None
    _gradient_kernel[(num_rows, triton.cdiv(vocabulary, block))](
        logits_NV, token_N, lse_N, entropy_N if has_entropy else lse_N, logp_gradient_N,
        entropy_gradient_N if has_entropy else lse_N, out_NV,
        logits_NV.stride(0), out_NV.stride(0), vocabulary, LOG2E / temperature, 1 / temperature,
        BLOCK=block, HAS_ENTROPY=has_entropy, num_warps=num_warps,
    )  # fmt: skip
    return out_NV
