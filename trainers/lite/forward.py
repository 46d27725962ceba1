"""Hidden states at the positions that are needed, and no work for the others where that is exact.

Shapes: R rows of one pass, L input positions of the pass, S positions of the batch, T response positions, N needed
tokens (row by row, each row in order), D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainers.batch import RolloutBatch
from trainers.lite.packing import decoder_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One forward pass: some rows of a batch, cut after their last needed token."""

    rows_R: Tensor
    """int64, into the batch."""
    needed_RT: Tensor
    """bool: the response tokens whose distributions are wanted."""
    tokens_RL: Tensor
    column_N: Tensor
    """int64: the input position that predicts each needed token."""
    row_N: Tensor
    """int64, into `rows_R`."""
    prompt_length_R: Tensor


def passes(batch: RolloutBatch, needed_BT: Tensor, sequences: int) -> Iterator[Pass]:
    """Yield passes of at most `sequences` rows that cover the needed tokens, long rows first.

    Rows without a needed token are in no pass. Padding stands on the right of causal rows, so it needs no mask. Rows
    whose lengths differ by less than a prompt stand by prompt: sharing it saves more than the padding costs.
    """
    if not bool(needed_BT.any()):
        return
    last_B = last_needed(needed_BT)
    length_B = batch.prompt_length_B + last_B - 1
    order_B = torch.argsort(batch.group_B, stable=True)
    size_class_B = length_B[order_B] // batch.prompt_length_B.max()
    order_B = order_B[torch.argsort(size_class_B, descending=True, stable=True)]
    for rows_R in torch.split(order_B[last_B[order_B] > 0], sequences):
        yield pass_over(batch, needed_BT, rows_R, int(length_B[rows_R].max()))


def last_needed(needed_BT: Tensor) -> Tensor:
    """Return how many response positions of each row have to run, int64 (B,): up to the last needed one."""
    if not needed_BT.shape[1]:
        return torch.zeros(len(needed_BT), dtype=torch.int64, device=needed_BT.device)
    return (needed_BT * torch.arange(1, needed_BT.shape[1] + 1, device=needed_BT.device)).amax(1)


def pass_over(batch: RolloutBatch, needed_BT: Tensor, rows_R: Tensor, length: int) -> Pass:
    """Return the pass over the given rows, cut to `length` input positions."""
    needed_RT = needed_BT[rows_R]
    row_N, position_N = needed_RT.nonzero(as_tuple=True)
    return Pass(
        rows_R=rows_R,
        needed_RT=needed_RT,
        tokens_RL=batch.tokens_BS[rows_R, :length],
        column_N=batch.prompt_length_B[rows_R][row_N] + position_N - 1,
        row_N=row_N,
        prompt_length_R=batch.prompt_length_B[rows_R],
    )


def needed_hidden(model: Any, part: Pass) -> Tensor:
    """Return the final hidden states at the needed positions, (N, D).

    A prompt with several responses in the pass runs once. The last layer's feed-forward block runs at the needed
    positions only: nothing reads its output elsewhere.
    """
    decoder = model.get_decoder()
    inputs = decoder_inputs(decoder, part)
    with _narrowed(_last_feed_forward(decoder), inputs.index_N):
        hidden_RLD = decoder(**inputs.arguments).last_hidden_state
    hidden_ND: Tensor = hidden_RLD.flatten(0, 1)[inputs.index_N]
    return hidden_ND


def places(parts: list[Pass]) -> tuple[Tensor, Tensor]:
    """Return batch row and response position of every needed token, in the order of `needed_hidden`."""
    found = [part.needed_RT.nonzero(as_tuple=True) for part in parts]
    row_N = torch.cat([part.rows_R[row] for part, (row, _) in zip(parts, found, strict=True)])
    return row_N, torch.cat([position for _, position in found])


def _last_feed_forward(decoder: Any) -> nn.Module | None:
    layers = getattr(decoder, "layers", None)
    block = getattr(layers[-1], "mlp", None) if layers is not None and len(layers) else None
    return block if isinstance(block, nn.Module) else None


@contextmanager
def _narrowed(block: nn.Module | None, index_N: Tensor) -> Iterator[None]:
    """Make a positionwise block compute at the given flat positions only, and return 0 elsewhere."""
    if block is None:
        yield
        return
    shapes: list[torch.Size] = []

    def gather(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        (hidden_RLD,) = inputs
        shapes.append(hidden_RLD.shape)
        return (hidden_RLD.flatten(0, 1)[index_N][None],)

    def scatter(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        wide_MD = output.new_zeros(shapes[-1].numel() // output.shape[-1], output.shape[-1])
        return wide_MD.index_copy(0, index_N, output[0]).view(shapes[-1])

    handles = [block.register_forward_pre_hook(gather), block.register_forward_hook(scatter)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
