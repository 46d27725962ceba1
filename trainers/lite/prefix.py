"""Runs each distinct prompt of a pass once: its keys and values serve all of its responses, gradients included.

A group of G responses shares one prompt; running it G times would be most of the work where prompts are long. What
is computed is the same, up to rounding. Shapes: R rows, U distinct prompts, W prompt tokens but the last (which
predicts the first response token and so runs with the response), L input positions, K positions after the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from trainers.lite.forward import Pass


def decoder_inputs(decoder: Any, part: Pass) -> tuple[dict[str, Any], Tensor]:
    """Return the arguments with which the decoder gives the pass's hidden states, and where each row begins, (R,).

    Column k of row r in those arguments is input position `first_R[r] + k` of the row; columns beyond a row's end
    hold whatever follows, which a causal decoder does not show to the others. Runs the prompts where that pays.
    """
    first_R = part.prompt_length_R - 1
    whole_rows = {"input_ids": part.tokens_RL, "use_cache": False}, torch.zeros_like(first_R)
    if not bool((first_R > 0).any()) or not _keeps_prompts(decoder):
        return whole_rows
    prompt_U, prompt_R = _distinct_prompts(part.tokens_RL, first_R)
    if len(prompt_U) == len(prompt_R):
        return whole_rows
    cache, mask_UW = _read_prompts(decoder, part.tokens_RL[prompt_U], first_R[prompt_U])
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.index_select(0, prompt_R), layer.values.index_select(0, prompt_R)
    width = int((part.column_N - first_R[part.row_N]).max()) + 1
    column_RK = first_R[:, None] + torch.arange(width, device=first_R.device)
    arguments = {
        "input_ids": part.tokens_RL.gather(1, column_RK.clamp(max=part.tokens_RL.shape[1] - 1)),
        "attention_mask": None
        if mask_UW is None
        else torch.cat([mask_UW[prompt_R], torch.ones_like(column_RK)], dim=1),
        "position_ids": column_RK,
        "past_key_values": cache,
        "use_cache": True,
    }
    return arguments, first_R


def _distinct_prompts(tokens_RL: Tensor, length_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row for each distinct prompt, (U,), and the place of each row's prompt among them, (R,)."""
    width = int(length_R.max())
    is_prompt_RW = torch.arange(width, device=length_R.device) < length_R[:, None]
    # Two prompts are one if all tokens are; -1 stands behind the end, so that lengths count too.
    _, prompt_R = torch.unique(tokens_RL[:, :width].masked_fill(~is_prompt_RW, -1), dim=0, return_inverse=True)
    row_R = torch.arange(len(length_R), device=length_R.device)
    first_row_R = torch.full_like(row_R, len(length_R)).scatter_reduce(0, prompt_R, row_R, "amin")
    return first_row_R[first_row_R < len(length_R)], prompt_R


def _keeps_prompts(decoder: Any) -> bool:
    """Layers with a window or a state forget the prompt; gradient checkpointing forbids a cache."""
    if decoder.training and getattr(decoder, "gradient_checkpointing", False):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=decoder.config).layers)


def _read_prompts(decoder: Any, tokens_UL: Tensor, length_U: Tensor) -> tuple[DynamicCache, Tensor | None]:
    """Return the cache of the prompts, padded on the left to one width, and their mask where any is padded."""
    width = int(length_U.max())
    column_UW = length_U[:, None] - width + torch.arange(width, device=length_U.device)
    mask_UW = None if bool((column_UW >= 0).all()) else (column_UW >= 0).long()
    cache = DynamicCache(config=decoder.config)
    column_UW = column_UW.clamp(min=0)
    decoder(
        input_ids=tokens_UL.gather(1, column_UW),
        attention_mask=mask_UW,
        position_ids=column_UW,
        past_key_values=cache,
        use_cache=True,
    )
    return cache, mask_UW
