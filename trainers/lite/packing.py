"""Lays the rows of a pass end to end, each distinct prompt once: no token is computed twice, and no padding at all.

A group of G responses shares one prompt; running it G times would be most of the work where prompts are long. What
is computed is the same as row by row, up to rounding, gradients included. Shapes: R rows, U distinct prompts, W prompt
tokens but the last (which predicts the first response token and so runs with the response), Q positions of the longest
row of a block, L keys of a row, N tokens end to end, the prompts first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from eval.engines.attention import IMPLEMENTATION, Block

if TYPE_CHECKING:
    from trainers.lite.forward import Pass

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
    """Layers with a window or a state see more or less than a packing says."""
    config = decoder.config
    if config.model_type not in PACKED_MODELS or config._attn_implementation != IMPLEMENTATION:
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def _row_by_row(part: Pass) -> DecoderInputs:
    # Padding stands on the right of causal rows, so it needs no mask.
    arguments = {"input_ids": part.tokens_RL, "use_cache": False}
    return DecoderInputs(arguments=arguments, index_N=part.row_N * part.tokens_RL.shape[1] + part.column_N)


def _packed(part: Pass) -> DecoderInputs:
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
