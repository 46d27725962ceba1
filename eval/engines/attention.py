"""Attention of the models that we run: quick for short sequences on a CPU, and over rows that lie end to end.

Registered with transformers as `orch`. Everything in a decoder but attention treats tokens one by one, so rows of
different lengths can be laid end to end without padding, and a prompt that several rows share need stand there once;
a `Packing` tells attention, and attention alone, which tokens see which.

Shapes: R rows, H query heads, K key heads, Q query positions, L key positions, D head width, N tokens end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

IMPLEMENTATION: Final = "orch"
MAX_SCORES: Final = 1 << 21
"""Attention scores R·H·Q·L up to which matrix products beat the fused kernel on a CPU. A single query a row goes that
way at any length: the kernel works on blocks of queries (benchmarks/bench_attention.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some of the tokens that lie end to end, as rows that attend together."""

    query_RQ: Tensor
    """int64: where each row's tokens lie; any place beyond a row's end."""
    key_RL: Tensor
    """int64: where the tokens lie that a row may see."""
    is_seen_R1QL: Tensor
    """bool: which of them each query sees."""
    filled_M: Tensor
    """int64: the places of `query_RQ`, flattened, that hold a token, in the order in which the tokens lie."""


Packing = Sequence[Block]
"""Blocks whose tokens, one block after the other, are all N."""


def attention(
    module: torch.nn.Module,
    query_RHQD: Tensor,
    key_RKLD: Tensor,
    value_RKLD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return softmax(q·k·scaling + mask)·v as (R, Q, H, D), and no weights: the signature that transformers calls.

    With a packing there is one row, (1, N, H, D), and the mask is not read.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if dropout or query.is_cuda or _is_long(query, key):
            attended: Tensor
            # Keys may lie turned in a cache, which the kernel refuses.
            key = key.contiguous()
            attended, _ = sdpa_attention_forward(module, query, key, value, mask, dropout, scaling, **kwargs)
            return attended
        return _products(query, key, value, mask, query.shape[-1] ** -0.5 if scaling is None else scaling)

    if packing is None:
        return attend(query_RHQD, key_RKLD, value_RKLD, attention_mask), None
    query_NHD, key_NKD, value_NKD = (states.transpose(1, 2)[0] for states in (query_RHQD, key_RKLD, value_RKLD))
    attended = [
        attend(
            _rows(query_NHD, block.query_RQ),
            _rows(key_NKD, block.key_RL),
            _rows(value_NKD, block.key_RL),
            block.is_seen_R1QL,
        )
        .flatten(0, 1)
        .index_select(0, block.filled_M)
        for block in packing
    ]
    return torch.cat(attended)[None], None


def _is_long(query_RHQD: Tensor, key_RKLD: Tensor) -> bool:
    return query_RHQD.shape[2] > 1 and query_RHQD.shape[:3].numel() * key_RKLD.shape[2] > MAX_SCORES


def _rows(states_NHD: Tensor, place_RQ: Tensor) -> Tensor:
    """Return the states at the given places as (R, H, Q, D)."""
    rows_NHD = states_NHD.index_select(0, place_RQ.flatten())
    return rows_NHD.view(*place_RQ.shape, *states_NHD.shape[1:]).transpose(1, 2)


def _products(query_RHQD: Tensor, key_RKLD: Tensor, value_RKLD: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Attend by matrix products, in which the heads that share a key head are rows: keys are not repeated for them.

    A query that sees no key gets the mean of all values, a finite number that nothing reads.
    """
    rows, heads, queries, width = query_RHQD.shape
    key_heads, keys = key_RKLD.shape[1:3]
    scaled = (query_RHQD * scaling).reshape(rows, key_heads, heads // key_heads * queries, width)
    scores_RHQL = (scaled @ key_RKLD.transpose(2, 3)).view(rows, heads, queries, keys)
    bias = _bias(mask, scores_RHQL)
    share_RHQL = (scores_RHQL if bias is None else scores_RHQL + bias).softmax(dim=-1)
    attended = share_RHQL.view(rows, key_heads, -1, keys) @ value_RKLD
    return attended.view(rows, heads, queries, width).transpose(1, 2).contiguous()


def _bias(mask: Tensor | None, scores_RHQL: Tensor) -> Tensor | None:
    """Return what is added to the scores: the lowest finite number where a key is hidden; None where none is."""
    queries, keys = scores_RHQL.shape[2:]
    if mask is None:
        if queries == 1:
            return None
        mask = torch.ones(queries, keys, dtype=torch.bool, device=scores_RHQL.device).tril(keys - queries)
    if mask.dtype != torch.bool:
        return mask
    lowest = torch.finfo(scores_RHQL.dtype).min
    return torch.zeros(mask.shape, dtype=scores_RHQL.dtype, device=mask.device).masked_fill_(~mask, lowest)


AttentionInterface.register(IMPLEMENTATION, attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
