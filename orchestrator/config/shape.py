"""The shape of a transformer: what its cost follows from. Keys of the group `model/`, so that no plan asks a hub.

A local folder's config.json and the built-in models' specification win over the keys, since they are the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trainers.models.resolve import BUILTINS
from trainers.recipe import Model

BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
_BYTE_VOCABULARY = 259
"""Tokens of the built-in models: the bytes and three special tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A dense decoder with grouped-query attention and a gated MLP (Qwen2, Qwen3, Llama)."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_key_value_heads: int
    head_size: int
    vocabulary_size: int
    tied_embeddings: bool = False
    """Whether the output head is the embedding matrix."""

    @property
    def attention_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_size

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrix products of all layers; norms and biases (below .1 %) are left out."""
        key_value_size = self.num_key_value_heads * self.head_size
        attention = self.hidden_size * (2 * self.attention_size + 2 * key_value_size)
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def head_parameters(self) -> int:
        """Weights of the output head."""
        return self.hidden_size * self.vocabulary_size

    @property
    def num_parameters(self) -> int:
        """Weights that are kept: layers, embedding, and the head where it is a matrix of its own."""
        return self.layer_parameters + self.head_parameters * (1 if self.tied_embeddings else 2)

    def forward_flops(self, context: float) -> float:
        """Operations of one token's forward pass in sequences of `context` tokens, causal, head included.

        Source: docs/methods.md#cost: 2(P_l + P_h) + A, with A = 4·layers·width over half of the context.
        """
        attention = 2 * self.num_layers * self.attention_size * context
        return 2 * (self.layer_parameters + self.head_parameters) + attention

    def key_value_bytes(self, dtype: str) -> int:
        """Bytes of one token's keys and values in all layers."""
        return 2 * self.num_layers * self.num_key_value_heads * self.head_size * BYTES_OF_DTYPE[dtype]


def shape_of(model: Model, declared: ModelShape | None) -> ModelShape | None:
    """The shape of a model: what the model itself says, else what its group file declares, else None."""
    if model.path in BUILTINS:
        spec = BUILTINS[model.path]
        return ModelShape(
            num_layers=spec.num_layers,
            hidden_size=spec.hidden_size,
            intermediate_size=spec.intermediate_size,
            num_heads=spec.num_heads,
            num_key_value_heads=spec.num_key_value_heads,
            head_size=spec.hidden_size // spec.num_heads,
            vocabulary_size=_BYTE_VOCABULARY,
            tied_embeddings=True,
        )
    return _of_folder(model.path) or declared


@cache
def _of_folder(path: str) -> ModelShape | None:
    try:
        config = json.loads((Path(path) / "config.json").read_text())
        return _of_config(config)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not a folder, or a family with other words; the declared shape stands


def _of_config(config: Mapping[str, Any]) -> ModelShape:
    """Read the words that transformers' configurations of this family share."""
    hidden_size, num_heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    return ModelShape(
        num_layers=int(config["num_hidden_layers"]),
        hidden_size=hidden_size,
        intermediate_size=int(config["intermediate_size"]),
        num_heads=num_heads,
        num_key_value_heads=int(config.get("num_key_value_heads") or num_heads),
        head_size=int(config.get("head_dim") or hidden_size // num_heads),
        vocabulary_size=int(config["vocab_size"]),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )
