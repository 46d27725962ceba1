"""Batched decoding with a key-value cache for any Hugging Face causal language model, on one device.

What makes it quick: a prompt shared by several samples is read once, the cache is allocated ahead instead of being
copied at every token, finished rows leave the batch, and logits are computed for one position a row. Shapes:
B rows of the batch, U distinct prompts among them, P prompt tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from eval.engines.drawing import draw, statistics
from eval.engines.key_value_cache import GrowingLayer, merge
from eval.engines.vocabulary import num_tokens
from eval.errors import ModelError
from eval.seeds import uniforms

PREFILL_TOKENS = 1 << 16
"""Prompt tokens read in one forward pass: bounds its activations."""
FIRST_CAPACITY = 64
"""Response tokens the cache is first allocated for; it doubles when they are used up."""
COMPACT_BELOW = 0.8
"""Finished rows are dropped once the share of unfinished ones is at most this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How responses are drawn."""

    max_new_tokens: int
    temperature: float
    """0 is greedy."""
    top_p: float = 1.0
    end_tokens: tuple[int, ...]
    """A response ends with the first of these, which belongs to it."""
    pad_token: int
    batch_sequences: int
    """Rows decoded at once."""
    has_statistics: bool = False
    """Whether responses come with `Response.statistics`: a training step then needs no pass of its own for them."""
    is_finished: Callable[[list[int]], bool] | None = None
    """Asked after every token whether a response ends here for another reason, such as a stop string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One decoded response."""

    row: int
    """Index into the prompts."""
    tokens: list[int]
    """The end token included, where there is one."""
    is_complete: bool
    """False when the length limit cut it."""
    statistics: Tensor | None = None
    """float32 (3, tokens), on CPU: log-prob of each token, entropy H in nats and purity Σp² of the distribution that
    it was drawn from, over all tokens at the temperature."""


def generate(
    model: Any, prompts: Sequence[Sequence[int]], *, seeds: Sequence[int], decoding: Decoding
) -> Iterator[Response]:
    """Yield one response for each prompt as they finish, in any order.

    Token t of a row is drawn by inverse CDF from `uniforms(seed, t)`: it depends on the row's own seed and prompt, not
    on its neighbours, up to the rounding of a differently shaped matrix product. The same call goes through the same
    shapes: on the same machine it gives the same bits, on one thread at least (docs/reliability.md).

    Args:
        model: a Hugging Face causal language model on its device; put in evaluation mode meanwhile.
        prompts: token ids, at least one each.
        seeds: one for each prompt, below 2^64.
        decoding: lengths, temperature, end tokens.

    Raises:
        ModelError: an empty prompt, or one that does not fit the model's context with the response.
    """
    _check_lengths(model, prompts, decoding)
    # Neighbours in length and equal prompts go together: less padding, more sharing.
    order = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), tuple(prompts[row]), row))
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), decoding.batch_sequences):
            rows = order[start : start + decoding.batch_sequences]
            batch = _Batch(model, [prompts[row] for row in rows], [seeds[row] for row in rows], decoding)
            for response in batch.responses():
                yield replace(response, row=rows[response.row])
    finally:
        model.train(was_training)


class _Batch:
    """Rows that are decoded together, from their prompts to their ends."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[int], decoding: Decoding) -> None:
        self.model, self.decoding, self.device = model, decoding, model.device
        distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
        place = {prompt: index for index, prompt in enumerate(distinct)}
        self.prompt_B = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=self.device)
        self.distinct = distinct
        self.seed_B = np.array(seeds, dtype=np.uint64)
        self.end_tokens = torch.tensor(decoding.end_tokens, device=self.device)
        self.row_B = torch.arange(len(prompts), device=self.device)
        self.is_live_B = torch.ones(len(prompts), dtype=torch.bool, device=self.device)
        shape = (len(prompts), decoding.max_new_tokens)
        self.tokens_BT = torch.full(shape, decoding.pad_token, device=self.device)
        self.statistics_3BT = torch.zeros((3, *shape), device=self.device) if decoding.has_statistics else None

    @torch.no_grad()
    def responses(self) -> Iterator[Response]:
        """Yield responses, with their row in this batch, as they finish."""
        logits_BV = self._read_prompts()
        num_live = len(self.row_B)
        for step in range(self.decoding.max_new_tokens):
            token_B = self._draw(logits_BV, step)
            self.tokens_BT[self.row_B, step] = token_B
            if self.statistics_3BT is not None:
                self.statistics_3BT[:, self.row_B, step] = statistics(
                    logits_BV, token_B, temperature=self.decoding.temperature
                )
            is_ending_B = self._is_ending(token_B, step) & self.is_live_B
            self.is_live_B &= ~is_ending_B
            num_before, num_live = num_live, int(self.is_live_B.sum())
            if num_live < num_before:
                yield from self._take(is_ending_B, step + 1, is_complete=True)
            if num_live == 0 or step + 1 == self.decoding.max_new_tokens:
                break
            if num_live <= COMPACT_BELOW * len(self.row_B):
                token_B = self._drop_finished(token_B)
            logits_BV = self._forward(token_B[:, None])
        yield from self._take(self.is_live_B, self.decoding.max_new_tokens, is_complete=False)

    def _read_prompts(self) -> Tensor:
        """Run the distinct prompts, left-padded to one width, and repeat their cache for every row."""
        width = max(map(len, self.distinct))
        rows = max(1, PREFILL_TOKENS // width)
        token_UP = torch.full((len(self.distinct), width), self.decoding.pad_token)
        is_token_UP = torch.zeros((len(self.distinct), width), dtype=torch.bool)
        for index, prompt in enumerate(self.distinct):
            token_UP[index, width - len(prompt) :] = torch.tensor(prompt)
            is_token_UP[index, width - len(prompt) :] = True
        token_UP, is_token_UP = token_UP.to(self.device), is_token_UP.to(self.device)
        is_padded = not bool(is_token_UP.all())
        read = [
            self._read_slice(tokens, is_token if is_padded else None)
            for tokens, is_token in zip(torch.split(token_UP, rows), torch.split(is_token_UP, rows), strict=True)
        ]
        self.cache = merge([cache for cache, _ in read], self.prompt_B)
        self.mask_BL = is_token_UP[self.prompt_B].long() if is_padded else None
        self.position_B1 = is_token_UP.sum(dim=1, keepdim=True)[self.prompt_B] - 1
        return torch.cat([logits for _, logits in read])[self.prompt_B]

    def _read_slice(self, token_UP: Tensor, is_token_UP: Tensor | None) -> tuple[DynamicCache, Tensor]:
        cache = DynamicCache(config=self.model.config)
        room = min(self.decoding.max_new_tokens, FIRST_CAPACITY)
        cache.layers = [GrowingLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
        mask_UP = position_UP = None
        if is_token_UP is not None:
            mask_UP = is_token_UP.long()
            position_UP = (mask_UP.cumsum(dim=1) - 1).clamp(min=0)
        output = self.model(
            input_ids=token_UP,
            attention_mask=mask_UP,
            position_ids=position_UP,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache, self._of_tokens(output.logits)

    def _forward(self, token_B1: Tensor) -> Tensor:
        self.position_B1 = self.position_B1 + 1
        if self.mask_BL is not None:
            self.mask_BL = torch.cat([self.mask_BL, self.mask_BL.new_ones((len(self.mask_BL), 1))], dim=1)
        output = self.model(
            input_ids=token_B1,
            attention_mask=self.mask_BL,
            position_ids=self.position_B1,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return self._of_tokens(output.logits)

    def _of_tokens(self, logits_B1V: Tensor) -> Tensor:
        """The last position's logits, without the head's padding."""
        return logits_B1V[:, -1, : num_tokens(self.model, logits_B1V.shape[-1])]

    def _draw(self, logits_BV: Tensor, step: int) -> Tensor:
        uniform_B = torch.from_numpy(uniforms(self.seed_B, step)).to(self.device)
        return draw(logits_BV, uniform_B, temperature=self.decoding.temperature, top_p=self.decoding.top_p)

    def _is_ending(self, token_B: Tensor, step: int) -> Tensor:
        is_ending_B = torch.isin(token_B, self.end_tokens)
        if self.decoding.is_finished is None:
            return is_ending_B
        tokens = self.tokens_BT[self.row_B, : step + 1].tolist()
        asked = [self.decoding.is_finished(row) for row in tokens]
        return is_ending_B | torch.tensor(asked, device=self.device)

    def _drop_finished(self, token_B: Tensor) -> Tensor:
        kept = self.is_live_B.nonzero()[:, 0]
        self.cache.batch_select_indices(kept)
        self.row_B, self.is_live_B = self.row_B[kept], self.is_live_B[kept]
        self.position_B1 = self.position_B1[kept]
        self.mask_BL = None if self.mask_BL is None else self.mask_BL[kept]
        self.seed_B = self.seed_B[kept.cpu().numpy()]
        return token_B[kept]

    def _take(self, is_taken_B: Tensor, length: int, *, is_complete: bool) -> Iterator[Response]:
        rows = self.row_B[is_taken_B]
        tokens = self.tokens_BT[rows, :length].tolist()
        found = None if self.statistics_3BT is None else self.statistics_3BT[:, rows, :length].cpu()
        for place, row in enumerate(rows.tolist()):
            yield Response(
                row=row,
                tokens=tokens[place],
                is_complete=is_complete,
                statistics=None if found is None else found[:, place],
            )


def _check_lengths(model: Any, prompts: Sequence[Sequence[int]], decoding: Decoding) -> None:
    if not all(prompts):
        raise ModelError("a prompt without a token cannot be continued", fix="use a template that adds some text")
    longest = max(map(len, prompts), default=0)
    context = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if context is not None and longest + decoding.max_new_tokens > context:
        raise ModelError(
            f"a prompt of {longest} and a response of {decoding.max_new_tokens} tokens exceed the model's context "
            f"of {context}",
            where="max_new_tokens",
            fix=f"allow at most {max(context - longest, 0)} response tokens, or choose another model",
        )
