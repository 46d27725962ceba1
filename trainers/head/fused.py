"""The fused head on CUDA: what `trainers/head/operators.py` promises, at the speed of memory.

A chunk of float32 products of hidden states and head is written once by cuBLAS and read once by a kernel. Each program
of a kernel leaves a partial sum for one block of columns, and a small kernel adds these up: the number of programs does
not hang on the number of tokens, sums have one order, and nothing is read twice. Statistics and gradients go by chunks
of columns over all tokens, which reads the head once; distances need whole rows and go by chunks of cells.

Why not one kernel for product and statistics: the product is most of the time, and cuBLAS is faster at it by more than
the one read of the products costs (docs/performance.md).

Imported where a tensor is on CUDA; needs Triton, which comes with PyTorch for CUDA.

Shapes: N tokens, V vocabulary, W columns of a chunk, D hidden, P parts (blocks of columns), M tokens of a chunk,
C cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Any, Final

import torch
import triton
from torch import Tensor

from trainers.head.kernels import combine_kernel, distance_kernel, gradient_kernel, statistics_kernel
from trainers.head.operators import WORKSPACE_BYTES, Head, TokenStatistics

MAX_TOKENS: Final = 16_384
"""Tokens worked on at a time: more would make chunks of columns too narrow for a fast product."""
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Bounds and block sizes, by `benchmarks/bench_selection.py --device cuda` on an H100 (docs/performance.md)."""

    workspace_bytes: int = WORKSPACE_BYTES
    statistics_block: int = 4096
    statistics_warps: int = 4
    # Four logits a thread: 0.339 ms a chunk of 512 MB, where eight (a block of 1,024) took 0.494. What a whole group
    # takes with this tile has not been measured.
    distance_block: int = 512
    distance_warps: int = 4
    distance_unroll: int = 4
    # 8,192 and 8 warps are a twentieth quicker, but chunks are whole blocks: with 16,384 tokens, one of 8,192 columns
    # is larger than the workspace.
    gradient_block: int = 2048
    gradient_warps: int = 4


DEFAULT: Final = Tuning()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputGradients:
    """What the loss says of each token, and what the forward pass said of it; all float32 (N,)."""

    token_N: Tensor
    lse_N: Tensor
    logp_gradient_N: Tensor
    entropy_N: Tensor | None = None
    entropy_gradient_N: Tensor | None = None

    def take(self, rows: slice) -> OutputGradients:
        """Return those of some tokens."""
        return OutputGradients(
            token_N=self.token_N[rows],
            lse_N=self.lse_N[rows],
            logp_gradient_N=self.logp_gradient_N[rows],
            entropy_N=None if self.entropy_N is None else self.entropy_N[rows],
            entropy_gradient_N=None if self.entropy_gradient_N is None else self.entropy_gradient_N[rows],
        )


def token_statistics(hidden_ND: Tensor, head: Head, token_N: Tensor, *, tuning: Tuning = DEFAULT) -> TokenStatistics:
    """Return the statistics of tokens from float16, bfloat16 or float32 hidden states.

    Args:
        hidden_ND: hidden states, of the type of the head's weight; at least one.
        head: the output layer.
        token_N: int64.
        tuning: bound of the workspace, block sizes.
    """
    return _as_statistics(_token_sums(hidden_ND, head, token_N, True, tuning))


def token_logp(hidden_ND: Tensor, head: Head, token_N: Tensor, *, tuning: Tuning = DEFAULT) -> tuple[Tensor, Tensor]:
    """Return log-probs and log-sum-exps alone, float32 (N,)."""
    logp_N, lse_N, *_ = _token_sums(hidden_ND, head, token_N, False, tuning)
    return logp_N, lse_N


def group_distances(
    hidden_ND: Tensor,
    head: Head,
    token_N: Tensor,
    start_C: Tensor,
    *,
    distance: str,
    leave_one_out: bool,
    tuning: Tuning = DEFAULT,
) -> tuple[Tensor, TokenStatistics]:
    """Return each token's distance from the mean distribution of its cell, float32 (N,), and its statistics.

    Args:
        hidden_ND: hidden states, tokens of one cell side by side.
        head: the output layer.
        token_N: int64.
        start_C: int64, where each cell starts, and the end of the last one behind them.
        distance: `js`, `kl` or `wasserstein`.
        leave_one_out: average over the other members only.
        tuning: bound of the workspace, as long as one cell fits into it; block sizes.
    """
    starts = start_C.tolist()  # the one time that the host waits for the device
    deviation_N = torch.empty(len(hidden_ND), dtype=torch.float32, device=hidden_ND.device)
    found_KN = torch.empty(4, len(hidden_ND), dtype=torch.float32, device=hidden_ND.device)
    rows_limit = tuning.workspace_bytes // (_FLOAT_BYTES * head.vocabulary)
    for first, last in _whole_cells(starts, max(1, rows_limit)):
        rows = slice(starts[first], starts[last])
        product_MV = products(hidden_ND[rows], head.weight_VD)
        parts = Parts.empty(len(product_MV), head.vocabulary, True, tuning, hidden_ND.device)
        parts.add(product_MV, head, token_N[rows], 0)
        found_KN[:, rows] = _combined(parts)
        deviation_N[rows] = cell_distances(
            product_MV,
            head,
            found_KN[1, rows],
            start_C[first : last + 1] - rows.start,
            distance=distance,
            leave_one_out=leave_one_out,
            tuning=tuning,
        )
        del product_MV
    return deviation_N, _as_statistics(found_KN)


def cell_distances(
    product_MV: Tensor,
    head: Head,
    lse_M: Tensor,
    start_C: Tensor,
    *,
    distance: str,
    leave_one_out: bool,
    tuning: Tuning = DEFAULT,
) -> Tensor:
    """Return distances from cell means, (M,), by one more read of the products; Wasserstein's takes two."""
    num_rows, num_columns = product_MV.shape
    num_parts = triton.cdiv(num_columns, tuning.distance_block)
    out_MP = torch.empty(num_rows, num_parts, dtype=torch.float32, device=product_MV.device)

    def launch(kind: str, carry_MP: Tensor) -> Tensor:
        distance_kernel[(num_parts, len(start_C) - 1)](
            product=product_MV,
            row_stride=product_MV.stride(0),
            num_columns=num_columns,
            lse=lse_M,
            start=start_C,
            carry=carry_MP,
            out=out_MP,
            KIND=kind,
            LEAVE_ONE_OUT=leave_one_out,
            UNROLL=tuning.distance_unroll,
            BLOCK=tuning.distance_block,
            num_warps=tuning.distance_warps,
            **_reading(head, product_MV, 0),
        )
        return out_MP

    if distance == "wasserstein":
        # The distribution function at the end of each block, then |difference| summed inside of the blocks.
        mass_MP = launch("mass", out_MP)
        return launch("wasserstein", mass_MP.cumsum(1) - mass_MP).sum(1)
    return launch(distance, out_MP).sum(1).clamp_(0.0, log(2.0) if distance == "js" else None)


def gradients(
    hidden_ND: Tensor, head: Head, outputs: OutputGradients, *, needs_weight: bool = True, tuning: Tuning = DEFAULT
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of hidden states, head and bias, from those of log-probs and entropies.

    By chunks of columns, whose products are made again: so a chunk's part of the head's gradient is one product over
    all tokens, rounded once, and there is no running sum as large as the head.
    """
    sum_ND = torch.zeros(hidden_ND.shape, dtype=torch.float32, device=hidden_ND.device)
    weight_gradient_VD = torch.zeros_like(head.weight_VD) if needs_weight else None
    bias_gradient_V = None if head.bias_V is None else torch.zeros_like(head.bias_V, dtype=torch.float32)
    # Beside the products stand their gradients, in the model's type; in float32 they take the products' place.
    bytes_each = _FLOAT_BYTES + (0 if hidden_ND.dtype == torch.float32 else hidden_ND.element_size())
    for number, rows in enumerate(_slices(len(hidden_ND), MAX_TOKENS)):
        part = outputs.take(rows)
        for columns in _columns(head, rows.stop - rows.start, bytes_each, tuning, tuning.gradient_block):
            weight_WD = head.weight_VD[columns]
            gradient_NW = product_gradients(
                products(hidden_ND[rows], weight_WD), head, columns.start, part, hidden_ND.dtype, tuning
            )
            _add_product(sum_ND[rows], gradient_NW, weight_WD)
            if weight_gradient_VD is not None:
                place_WD = weight_gradient_VD[columns]
                if number:
                    place_WD.addmm_(gradient_NW.T, hidden_ND[rows])
                else:
                    torch.mm(gradient_NW.T, hidden_ND[rows], out=place_WD)
            if bias_gradient_V is not None:
                bias_gradient_V[columns] += gradient_NW.sum(0, dtype=torch.float32)
            del gradient_NW  # before the next chunk is made, so that one exists at a time
    return (
        sum_ND.to(hidden_ND.dtype),
        weight_gradient_VD,
        None if bias_gradient_V is None or head.bias_V is None else bias_gradient_V.to(head.bias_V.dtype),
    )


def products(hidden_ND: Tensor, weight_WD: Tensor) -> Tensor:
    """Return hidden states times head in float32: the accumulators themselves, not rounded to the model's type."""
    if hidden_ND.dtype == torch.float32:
        return hidden_ND @ weight_WD.T
    if hidden_ND.is_cuda:
        return torch.mm(hidden_ND, weight_WD.T, out_dtype=torch.float32)
    return hidden_ND.float() @ weight_WD.float().T


def _token_sums(hidden_ND: Tensor, head: Head, token_N: Tensor, with_shape: bool, tuning: Tuning) -> Tensor:
    """Return log-prob, log-sum-exp and, if `with_shape`, entropy and purity, (4, N)."""
    found = [
        _combined(_parts(hidden_ND[rows], head, token_N[rows], with_shape, tuning))
        for rows in _slices(len(hidden_ND), MAX_TOKENS)
    ]
    return torch.cat(found, dim=1)


def _parts(hidden_ND: Tensor, head: Head, token_N: Tensor, with_shape: bool, tuning: Tuning) -> Parts:
    parts = Parts.empty(len(hidden_ND), head.vocabulary, with_shape, tuning, hidden_ND.device)
    for columns in _columns(head, len(hidden_ND), _FLOAT_BYTES, tuning, tuning.statistics_block):
        product_NW = products(hidden_ND, head.weight_VD[columns])
        parts.add(product_NW, head, token_N, columns.start)
        del product_NW
    return parts


class Parts:
    """What each block of columns adds to the statistics of each token."""

    def __init__(self, values_KNP: Tensor, chosen_N: Tensor, tuning: Tuning) -> None:
        self.values_KNP = values_KNP
        """K = 4: the block's largest logit z̄, Σ e^(z − z̄), Σ (z − z̄)e^(z − z̄), Σ e^(2z − 2z̄); or the first two."""
        self.chosen_N = chosen_N
        self.tuning = tuning

    @staticmethod
    def empty(num_rows: int, num_columns: int, with_shape: bool, tuning: Tuning, device: torch.device) -> Parts:
        """Return parts to be filled by `add`, block by block."""
        num_parts = triton.cdiv(num_columns, tuning.statistics_block)
        values_KNP = torch.empty(4 if with_shape else 2, num_rows, num_parts, dtype=torch.float32, device=device)
        return Parts(values_KNP, torch.empty(num_rows, dtype=torch.float32, device=device), tuning)

    def add(self, product_NW: Tensor, head: Head, token_N: Tensor, first_column: int) -> None:
        """Read one chunk of columns."""
        block = self.tuning.statistics_block
        num_rows, num_columns = product_NW.shape
        statistics_kernel[(triton.cdiv(num_columns, block), num_rows)](
            product=product_NW,
            row_stride=product_NW.stride(0),
            num_columns=num_columns,
            first_column=first_column,
            token=token_N,
            chosen=self.chosen_N,
            values=self.values_KNP,
            value_stride=self.values_KNP.stride(0),
            num_parts=self.values_KNP.shape[2],
            first_part=first_column // block,
            WITH_SHAPE=len(self.values_KNP) == 4,
            BLOCK=block,
            num_warps=self.tuning.statistics_warps,
            **_reading(head, product_NW, first_column),
        )


def _combined(parts: Parts) -> Tensor:
    """Return log-prob, log-sum-exp, entropy and purity, (4, N)."""
    num_values, num_rows, num_parts = parts.values_KNP.shape
    out_KN = torch.empty(4, num_rows, dtype=torch.float32, device=parts.values_KNP.device)
    combine_kernel[(num_rows,)](
        values=parts.values_KNP,
        value_stride=parts.values_KNP.stride(0),
        num_parts=num_parts,
        chosen=parts.chosen_N,
        out=out_KN,
        out_stride=num_rows,
        WITH_SHAPE=num_values == 4,
        BLOCK=triton.next_power_of_2(num_parts),
        num_warps=1,
    )
    return out_KN


def _as_statistics(found_KN: Tensor) -> TokenStatistics:
    logp_N, lse_N, entropy_N, purity_N = found_KN
    return TokenStatistics(logp_N=logp_N, entropy_N=entropy_N, purity_N=purity_N, lse_N=lse_N)


def product_gradients(
    product_NW: Tensor, head: Head, first_column: int, outputs: OutputGradients, dtype: torch.dtype, tuning: Tuning
) -> Tensor:
    """Return the gradient of one chunk of products, in the model's type."""
    num_rows, num_columns = product_NW.shape
    out_NW = product_NW if dtype == torch.float32 else torch.empty_like(product_NW, dtype=dtype)
    entropy_N, entropy_gradient_N = outputs.entropy_N, outputs.entropy_gradient_N
    has_entropy = entropy_N is not None and entropy_gradient_N is not None
    gradient_kernel[(triton.cdiv(num_columns, tuning.gradient_block), num_rows)](
        product=product_NW,
        row_stride=product_NW.stride(0),
        num_columns=num_columns,
        first_column=first_column,
        token=outputs.token_N,
        lse=outputs.lse_N,
        entropy=entropy_N if has_entropy else outputs.lse_N,
        logp_gradient=outputs.logp_gradient_N,
        entropy_gradient=entropy_gradient_N if has_entropy else outputs.lse_N,
        out=out_NW,
        HAS_ENTROPY=has_entropy,
        BLOCK=tuning.gradient_block,
        num_warps=tuning.gradient_warps,
        **_reading(head, product_NW, first_column),
    )
    return out_NW


def _reading(head: Head, product: Tensor, first_column: int) -> dict[str, Any]:
    """Return what every kernel is told of how a product becomes a logit; the bias starts at the chunk's column."""
    return {
        "bias": product if head.bias_V is None else head.bias_V[first_column:],
        "inverse_temperature": 1.0 / head.temperature,
        "softcap": 1.0 if head.softcap is None else float(head.softcap),
        "HAS_BIAS": head.bias_V is not None,
        "HAS_CAP": head.softcap is not None,
    }


def _add_product(sum_ND: Tensor, left_NW: Tensor, right_WD: Tensor) -> None:
    """Add a product to a float32 sum, accumulated in float32."""
    if left_NW.dtype == torch.float32:
        sum_ND.addmm_(left_NW, right_WD)
    elif left_NW.is_cuda:
        sum_ND += torch.mm(left_NW, right_WD, out_dtype=torch.float32)
    else:
        sum_ND.addmm_(left_NW.float(), right_WD.float())


def _columns(head: Head, num_rows: int, bytes_each: int, tuning: Tuning, block: int) -> Iterator[slice]:
    """Yield slices over the vocabulary, of whole blocks, whose products with `num_rows` tokens fit the workspace."""
    width = max(1, tuning.workspace_bytes // (bytes_each * num_rows) // block) * block
    return _slices(head.vocabulary, width)


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _whole_cells(starts: list[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of cells of at most `limit` tokens together, or of one cell that has more."""
    first = 0
    while first < len(starts) - 1:
        last = first + 1
        while last < len(starts) - 1 and starts[last + 1] - starts[first] <= limit:
            last += 1
        yield first, last
        first = last
