"""The Triton kernels of the fused head; `trainers/head/fused.py` launches them and says how they fit together.

Products of hidden states and head are float32 in memory; a product becomes a logit when it is read: bias, cap and
temperature cost no pass of their own. Each program sees one block of columns and stores one partial sum.

TRITON_INTERPRET=1 runs them on a CPU, which is how the tests check them.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs
from triton.language.extra import libdevice

_INTERPRETED = knobs.runtime.interpret
_LOG2E = tl.constexpr(1.4426950408889634)
_NEVER = tl.constexpr(-1e4)
"""log₂ of what counts as 0; −inf times 0 would be NaN."""
_LOWEST = tl.constexpr(-126.0)
"""log₂ of the smallest normal float32."""
_LN2 = tl.constexpr(0.6931471805599453)


if _INTERPRETED:  # which knows nothing of the device's own functions

    @triton.jit
    def _exp2(x):
        return tl.exp2(x)

    @triton.jit
    def _log2(x):
        return tl.log2(x)

    @triton.jit
    def _over(x, y):
        return x / y
else:
    # One instruction each, right to 2^-22; Triton's own add the care for denormal numbers, of which nothing here has
    # need, and its logarithm is a polynomial: with them the distance kernel waits for arithmetic, not for memory.

    @triton.jit
    def _exp2(x):
        return libdevice.exp2(x)

    @triton.jit
    def _log2(x):
        return libdevice.fast_log2f(x)

    @triton.jit
    def _over(x, y):
        return libdevice.fast_dividef(x, y)


@triton.jit
def _logit(product, bias, column, inside, scale, softcap, HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr):
    """The logit times `scale`, 1/T or log₂e/T; −inf outside, where the products were loaded as −inf."""
    z = product
    if HAS_BIAS:
        z += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_CAP:
        z = tl.where(inside, softcap * _tanh(z / softcap), float("-inf"))
    return z * scale


@triton.jit
def _tanh(x):
    small = _exp2(tl.abs(x) * (-2 * _LOG2E))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit(do_not_specialize=["first_part", "first_column"])
def statistics_kernel(
    product, row_stride, num_columns, first_column, token, chosen, values, value_stride, num_parts, first_part,
    bias, inverse_temperature, softcap,
    HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr, WITH_SHAPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum one block of columns of one token, relative to the block's largest logit."""
    block = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    inside = column < num_columns
    raw = tl.load(product + row * row_stride + column, mask=inside, other=float("-inf"))
    z = _logit(raw, bias, column, inside, inverse_temperature, softcap, HAS_BIAS, HAS_CAP)
    peak = tl.max(z, axis=0)
    # A block may hold nothing but −inf, and −inf − −inf is NaN: it counts from 0, and all its sums are 0.
    u = z - tl.where(peak == float("-inf"), 0.0, peak)
    e = _exp2(u * _LOG2E)
    place = values + row * num_parts + first_part + block
    tl.store(place, peak)
    tl.store(place + value_stride, tl.sum(e, axis=0))
    if WITH_SHAPE:
        tl.store(place + 2 * value_stride, tl.sum(tl.where(e > 0, e * u, 0.0), axis=0))
        tl.store(place + 3 * value_stride, tl.sum(e * e, axis=0))
    mine = tl.load(token + row).to(tl.int32) - first_column
    if (mine >= block * BLOCK) & (mine < block * BLOCK + BLOCK) & (mine < num_columns):
        raw_chosen = tl.load(product + row * row_stride + mine)
        is_there = mine < num_columns
        tl.store(
            chosen + row,
            _logit(raw_chosen, bias, mine, is_there, inverse_temperature, softcap, HAS_BIAS, HAS_CAP),
        )


@triton.jit
def combine_kernel(
    values, value_stride, num_parts, chosen, out, out_stride, WITH_SHAPE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Add up the blocks of one token: their sums are brought to one largest logit, H = ln Σe − Σeu/Σe."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, BLOCK)
    inside = part < num_parts
    place = values + row * num_parts + part
    peak = tl.load(place, mask=inside, other=float("-inf"))
    total = tl.load(place + value_stride, mask=inside, other=0.0)
    highest = tl.max(peak, axis=0)
    # −inf − −inf is NaN: a block without a possible token takes no part.
    below = tl.where(peak == float("-inf"), 0.0, peak - highest)
    share = tl.where(peak == float("-inf"), 0.0, _exp2(below * _LOG2E))
    whole = tl.sum(share * total, axis=0)
    log_whole = tl.log(whole)
    tl.store(out + row, tl.load(chosen + row) - highest - log_whole)
    tl.store(out + out_stride + row, highest + log_whole)
    if WITH_SHAPE:
        spread = tl.load(place + 2 * value_stride, mask=inside, other=0.0)
        square = tl.load(place + 3 * value_stride, mask=inside, other=0.0)
        moved = tl.sum(share * (spread + below * total), axis=0)
        tl.store(out + 2 * out_stride + row, log_whole - moved / whole)
        tl.store(out + 3 * out_stride + row, tl.sum(share * share * square, axis=0) / (whole * whole))


@triton.jit
def _js_term(p, log_p, q, log_q):
    """½(p·ln(2p/s) + q·ln(2q/s)), s = p + q; logarithms come in base 2.

    The two parts cancel where p ≈ q. With d = (p − q)/s the term is s/4·Σₖ d²ᵏ/(k(2k − 1)), of which six summands are
    exact in float32 below |d| = .4; above it nothing cancels.
    """
    s = p + q + 1e-30  # no division by 0: what is added is less than 1e-24 over the vocabulary
    d = _over(p - q, s)
    x = d * d
    series = x * (1.0 + x * (1 / 6 + x * (1 / 15 + x * (1 / 28 + x * (1 / 45 + x * (1 / 66))))))
    log_half = _log2(s) - 1
    logs = p * (log_p - log_half) + q * (log_q - log_half)
    return tl.where(x < 0.16, s * series * 0.25, logs * (0.5 * _LN2))


@triton.jit
def _log_probability(
    product, lse, row, last, row_stride, column, num_columns, bias, inverse_temperature, softcap,
    HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr,
):  # fmt: skip
    """One block of log₂p of a row; so low that p is 0 outside the vocabulary and for rows behind the last."""
    # Such a row reads the last one again: a mask by row would keep loads from being as wide as they can.
    read = tl.minimum(row, last - 1)
    inside = column < num_columns
    raw = tl.load(product + read * row_stride + column, mask=inside, other=float("-inf"))
    z = _logit(raw, bias, column, inside, inverse_temperature * _LOG2E, softcap, HAS_BIAS, HAS_CAP)
    away = tl.where(row < last, 0.0, -_NEVER)
    return tl.maximum(z - (tl.load(lse + read) * _LOG2E + away), _NEVER)


@triton.jit
def distance_kernel(
    product, row_stride, num_columns, lse, start, carry, out, bias, inverse_temperature, softcap,
    HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr, KIND: tl.constexpr, LEAVE_ONE_OUT: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum one block of columns of one cell: the mean over its members, then each member's distance from it.

    A member's block is read from memory once; the second loop finds it in the cache.
    """
    block = tl.program_id(0)
    num_parts = tl.num_programs(0)
    cell = tl.program_id(1)
    first = tl.load(start + cell)
    last = tl.load(start + cell + 1)
    column = block * BLOCK + tl.arange(0, BLOCK)
    inside = column < num_columns
    total = tl.zeros([BLOCK], dtype=tl.float32)
    # UNROLL rows at a time, so that their loads are in flight together.
    for group in range(0, last - first, UNROLL):
        for step in tl.static_range(UNROLL):
            log_p = _log_probability(
                product, lse, first + group + step, last, row_stride, column, num_columns,
                bias, inverse_temperature, softcap, HAS_BIAS, HAS_CAP,
            )  # fmt: skip
            total += _exp2(log_p)
    count = (last - first).to(tl.float32)
    q = total / count
    log_q = tl.maximum(_log2(q), _NEVER)
    for group in range(0, last - first, UNROLL):
        for step in tl.static_range(UNROLL):
            row = first + group + step
            log_p = _log_probability(
                product, lse, row, last, row_stride, column, num_columns,
                bias, inverse_temperature, softcap, HAS_BIAS, HAS_CAP,
            )  # fmt: skip
            p = _exp2(log_p)
            if LEAVE_ONE_OUT:
                q = tl.maximum(total - p, 0.0) / tl.maximum(count - 1, 1.0)
                log_q = tl.maximum(_log2(q), _NEVER)
            if KIND == "js":
                term = _js_term(p, log_p, q, log_q)
            elif KIND == "kl":
                # p·ln(p/q) − p + q: no term is negative. Where q is 0, ln q is as low as float32 has it.
                term = p * (log_p - tl.maximum(log_q, _LOWEST)) * _LN2 - p + q
            elif KIND == "mass":
                term = p - q
            else:
                ahead = tl.load(carry + row * num_parts + block, mask=row < last, other=0.0)
                term = tl.where(inside, tl.abs(ahead + tl.cumsum(p - q, axis=0)), 0.0)
            found = tl.where(count > 1, tl.sum(term, axis=0), 0.0)
            tl.store(out + row * num_parts + block, found, mask=row < last)


@triton.jit(do_not_specialize=["first_column"])
def gradient_kernel(
    product, row_stride, num_columns, first_column, token, lse, entropy, logp_gradient, entropy_gradient, out,
    bias, inverse_temperature, softcap,
    HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr, HAS_ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """∂/∂product of Σ g·log p(token) + h·H: (g·(onehot − p) − h·p·(ln p + H))/T, times the cap's slope 1 − tanh²."""
    block = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    inside = column < num_columns
    raw = tl.load(product + row * row_stride + column, mask=inside, other=float("-inf"))
    z = _logit(raw, bias, column, inside, inverse_temperature, softcap, HAS_BIAS, HAS_CAP)
    logp = z - tl.load(lse + row)
    p = _exp2(logp * _LOG2E)
    g = tl.load(logp_gradient + row)
    is_token = column == tl.load(token + row).to(tl.int32) - first_column
    result = tl.where(is_token, g, 0.0) - g * p
    if HAS_ENTROPY:
        h = tl.load(entropy_gradient + row)
        result -= tl.where(p > 0, h * p * (logp + tl.load(entropy + row)), 0.0)
    if HAS_CAP:
        bent = z / inverse_temperature / softcap
        result *= tl.where(inside & (p > 0), 1 - bent * bent, 0.0)
    tl.store(out + row * row_stride + column, (result * inverse_temperature).to(out.dtype.element_ty), mask=inside)
