"""Attention over sequences laid end to end, each to itself alone, without a mask of all positions by all.

transformers' `sdpa` would get such a mask, of T² entries for a pass of T tokens, and could not use a flash kernel. On
CUDA torch's own variable-length flash attention takes the bounds instead; elsewhere the sequences go one by one.

Shapes: T tokens of a pass, H query heads, K key-value heads, D of a head.
"""

from __future__ import annotations

from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from eval.errors import ModelError
from trainers.verl.launch.overrides import PACKED_ATTENTION


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return causal attention within each sequence, (1, T, H, D); called by each layer of a transformers model.

    Args:
        module: the layer's attention; unused.
        query: (1, H, T, D).
        key: (1, K, T, D).
        value: (1, K, T, D).
        attention_mask: None: `_no_mask` makes none.
        cu_seq_lens_q: int32, where each sequence starts, and T behind them.
        max_length_q: tokens of the longest.
        scaling: of the products; None is 1/√D.
        sliding_window: how many positions a token sees, itself included; None is all before it.
        softcap: None.

    Raises:
        ModelError: the model bends its attention scores (Gemma 2), which neither way can.
    """
    if softcap is not None:
        raise ModelError(
            "the model caps its attention scores, which packed passes cannot",
            where="model.path",
            fix="set cluster.micro_batch_sequences instead of cluster.tokens_per_pass, or use another model",
        )
    seen = -1 if sliding_window is None else sliding_window - 1
    query_THD, key_TKD, value_TKD = (part[0].transpose(0, 1) for part in (query, key, value))
    attend = _flash if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) else _one_by_one
    return attend(query_THD, key_TKD, value_TKD, cu_seq_lens_q, max_length_q, scaling, seen)[None], None


def _flash(
    query_THD: Tensor,
    key_TKD: Tensor,
    value_TKD: Tensor,
    starts: Tensor,
    longest: int,
    scaling: float | None,
    seen: int,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # The kernel shares a key head among its query heads by itself; newer versions of torch want to be told.
    shared: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
    found = varlen_attn(
        query_THD, key_TKD, value_TKD, starts, starts, longest, longest, scale=scaling, window_size=(seen, 0), **shared
    )
    assert isinstance(found, Tensor), "nothing beside the values was asked for"
    return found


def _one_by_one(
    query_THD: Tensor,
    key_TKD: Tensor,
    value_TKD: Tensor,
    starts: Tensor,
    longest: int,
    scaling: float | None,
    seen: int,
) -> Tensor:
    parts = []
    bounds = starts.tolist()
    is_windowed = -1 < seen < longest - 1
    for first, last in pairwise(bounds):
        query, key, value = (part[first:last].transpose(0, 1)[None] for part in (query_THD, key_TKD, value_TKD))
        mask = None
        if is_windowed:
            mask = torch.ones(last - first, last - first, dtype=torch.bool, device=query.device).tril().triu(-seen)
        found = torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=not is_windowed,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(found[0].transpose(0, 1))
    return torch.cat(parts)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, _no_mask)
