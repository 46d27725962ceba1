"""Hidden states at the positions that are needed, and no work for the others where that is exact.

On a CPU the rows of a pass lie end to end, each distinct prompt once: no token is computed twice, and there is no
padding. A group of G responses shares one prompt; running it G times would be most of the work where prompts are long.
What is computed is the same as row by row, up to rounding, gradients included.

Shapes: R rows of one pass, U distinct prompts, W prompt tokens but the last (which predicts the first response token
and so runs with the response), L input positions of the pass, Q positions of the longest row of a block, K keys of a
row, S positions of the batch, T response positions, N needed tokens (row by row, each row in order), D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from eval.engines.attention import IMPLEMENTATION, Block
from trainers.batch import RolloutBatch


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
    # The last needed token is predicted by the position before it, and nothing reads that token's own position.
    length_B = batch.prompt_length_B + last_B - 1
    # Two stable sorts: by prompt, then by length in whole prompts, so that rows of about one length stay by prompt.
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
    """Return the feed-forward block of the last layer, where the decoder has one under the usual name."""
    layers = getattr(decoder, "layers", None)
    block = getattr(layers[-1], "mlp", None) if layers is not None and len(layers) else None
    return block if isinstance(block, nn.Module) else None


@contextmanager
def _narrowed(block: nn.Module | None, index_N: Tensor) -> Iterator[None]:
    """Make a positionwise block compute at the given flat positions only, and return 0 elsewhere."""
    if block is None:
        yield
        return
    # The layer adds the block's output to its input, which has all positions: hence the zeros in the others.
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


PACKED_MODELS: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Decoders of transformers that hand a packing on to attention; others run row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderInputs:
    """What a decoder is called with, and where the needed tokens stand in what it returns."""

    arguments: dict[str, Any]
    index_N: Tensor
    """int64, into the flattened positions: one for each needed token."""


def decoder_inputs(decoder: Any, part: Pass) -> DecoderInputs:
    """Return the call that gives the pass's hidden states, end to end where the decoder can do that."""
    return _packed(part) if _can_pack(decoder) else _row_by_row(part)


def _can_pack(decoder: Any) -> bool:
    """Whether every layer sees what a packing says: one with a window or a state sees more or less than that."""
    config = decoder.config
    if config.model_type not in PACKED_MODELS or config._attn_implementation != IMPLEMENTATION:
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def _row_by_row(part: Pass) -> DecoderInputs:
    # Padding stands on the right of causal rows, so it needs no mask.
    arguments = {"input_ids": part.tokens_RL, "use_cache": False}
    return DecoderInputs(arguments=arguments, index_N=part.row_N * part.tokens_RL.shape[1] + part.column_N)


def _packed(part: Pass) -> DecoderInputs:
    """Lay the distinct prompts end to end, then the responses; each response's attention sees its prompt and itself.

    A prompt is laid down without its last token: that one predicts the first response token and differs from row to
    row in what follows, so that it runs with each response.
    """
    first_R = part.prompt_length_R - 1
    last_R = torch.zeros_like(first_R).scatter_reduce(0, part.row_N, part.column_N, "amax")
    row_U, prompt_R = _distinct_prompts(part.tokens_RL, first_R)
    prompts = _Spans.end_to_end(row_U, column_R=torch.zeros_like(row_U), length_R=first_R[row_U], offset=0)
    num_prompt_tokens = int(prompts.length_R.sum())
    rows = torch.arange(len(first_R), device=first_R.device)
    responses = _Spans.end_to_end(rows, column_R=first_R, length_R=last_R - first_R + 1, offset=num_prompt_tokens)
    prompt_blocks = [_block(prompts, members, None) for members in prompts.by_size()]
    response_blocks = [_block(responses, members, prompts.take(prompt_R[members])) for members in responses.by_size()]
    (row_of_prompt_token, prompt_column), (row_of_token, column) = prompts.tokens(), responses.tokens()
    column_N = torch.cat([prompt_column, column])
    token_N = part.tokens_RL[torch.cat([row_of_prompt_token, row_of_token]), column_N]
    return DecoderInputs(
        arguments={
            "input_ids": token_N[None],
            "position_ids": column_N[None],
            # transformers would build an N × N mask, which nothing reads; one of four dimensions it takes as it is.
            "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=token_N.device),
            "packing": [*prompt_blocks, *response_blocks],
            "use_cache": False,
        },
        index_N=responses.start_R[part.row_N] + part.column_N - first_R[part.row_N],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spans:
    """Pieces of rows that lie end to end, short ones first: all int64 (R,)."""

    row_R: Tensor
    """Which row of the pass a piece is cut from."""
    column_R: Tensor
    """The input position of its first token."""
    length_R: Tensor
    start_R: Tensor
    """Where its first token lies."""

    @staticmethod
    def end_to_end(row_R: Tensor, *, column_R: Tensor, length_R: Tensor, offset: int) -> _Spans:
        """Lay the pieces down from `offset` on, by size and then in order."""
        order_R = torch.argsort(_size(length_R), stable=True)
        start_R = torch.empty_like(length_R)
        start_R[order_R] = length_R[order_R].cumsum(0) - length_R[order_R] + offset
        return _Spans(row_R=row_R, column_R=column_R, length_R=length_R, start_R=start_R)

    def take(self, indices_M: Tensor) -> _Spans:
        """Return the pieces at the given indices, where they lie."""
        return _Spans(
            row_R=self.row_R[indices_M],
            column_R=self.column_R[indices_M],
            length_R=self.length_R[indices_M],
            start_R=self.start_R[indices_M],
        )

    def by_size(self) -> list[Tensor]:
        """Return the indices of pieces of about one length, int64 (M,) each, in the order in which they lie."""
        size_R = _size(self.length_R).masked_fill(self.length_R == 0, -1)
        return [(size_R == size).nonzero()[:, 0] for size in sorted(set(size_R.tolist()) - {-1})]

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Return row and input position of every token, in the order in which they lie."""
        order_R = torch.argsort(self.start_R, stable=True)
        piece_N = order_R.repeat_interleave(self.length_R[order_R])
        place_N = torch.arange(len(piece_N), device=piece_N.device) + int(self.start_R[order_R[0]])
        return self.row_R[piece_N], self.column_R[piece_N] + place_N - self.start_R[piece_N]

    def places(self) -> tuple[Tensor, Tensor]:
        """Return where the tokens of each piece lie, (R, longest), and which of these there are, bool."""
        # Shorter pieces repeat their last place, which exists; the mask says that these are no tokens.
        step_Q = torch.arange(int(self.length_R.max()), device=self.length_R.device)
        last_R1 = (self.length_R - 1).clamp(min=0)[:, None]
        return self.start_R[:, None] + torch.minimum(step_Q, last_R1), step_Q < self.length_R[:, None]


def _size(length_R: Tensor) -> Tensor:
    """Return the power of two that a length rounds up to: rows of one block waste at most half of their places."""
    return length_R.clamp(min=1).double().log2().ceil().long()


def _block(spans: _Spans, members_R: Tensor, prompts: _Spans | None) -> Block:
    """Return the block of some pieces, each of which sees its prompt, if it has one, and itself up to each token."""
    place_RQ, is_token_RQ = spans.take(members_R).places()
    rows, width = place_RQ.shape
    causal_QQ = torch.ones(width, width, dtype=torch.bool, device=place_RQ.device).tril()
    key_RL, is_seen_RQL = place_RQ, causal_QQ.expand(rows, -1, -1)
    if prompts is not None:
        place_RW, is_token_RW = prompts.places()
        key_RL = torch.cat([place_RW, key_RL], dim=1)
        is_seen_RQL = torch.cat([is_token_RW[:, None].expand(-1, width, -1), is_seen_RQL], dim=2)
    return Block(
        query_RQ=place_RQ,
        key_RL=key_RL,
        is_seen_R1QL=is_seen_RQL[:, None],
        filled_M=is_token_RQ.flatten().nonzero()[:, 0],
    )


def _distinct_prompts(tokens_RL: Tensor, length_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row for each distinct prompt, (U,), and the place of each row's prompt among them, (R,)."""
    width = max(1, int(length_R.max()))
    is_prompt_RW = torch.arange(width, device=length_R.device) < length_R[:, None]
    # Two prompts are one if all tokens are; -1 stands behind the end, so that lengths count too.
    _, prompt_R = torch.unique(tokens_RL[:, :width].masked_fill(~is_prompt_RW, -1), dim=0, return_inverse=True)
    row_R = torch.arange(len(length_R), device=length_R.device)
    first_row_R = torch.full_like(row_R, len(length_R)).scatter_reduce(0, prompt_R, row_R, "amin")
    return first_row_R[first_row_R < len(length_R)], prompt_R
