"""Keys and values of a batch in buffers with room ahead, and the layout of shared prompts for its rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """A layer's keys and values in a buffer with room ahead: a new token is written in place, not concatenated.

    On a CPU the positions of a key lie side by side, as the product with a query wants them: four times as quick for
    a query of one position (benchmarks/bench_attention.py).
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length, self.is_initialized = room, 0, False
        self.keys: Tensor
        self.values: Tensor

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append along the sequence and return all keys and values so far, (B, heads, length, head width)."""
        start, self.length = self.length, self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self._move(key_states, value_states, capacity=self.length + self.room)
        elif self.length > self.buffers[0].shape[-2]:
            self.room = max(2 * self.room, self.length)
            self._move(self.keys, self.values, capacity=self.length + self.room)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self.length] = states
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the given rows, in the given order, repeated where an index is."""
        keys, values = (states.index_select(0, indices) for states in (self.keys, self.values))
        self._move(keys, values, capacity=self.buffers[0].shape[-2])
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)

    def _move(self, keys: Tensor, values: Tensor, *, capacity: int) -> None:
        """Copy keys and values to the front of new buffers."""
        *rows, length, width = keys.shape
        is_turned = keys.device.type == "cpu"
        key_room = (
            keys.new_empty((*rows, width, capacity)).mT if is_turned else keys.new_empty((*rows, capacity, width))
        )
        self.buffers = [key_room, values.new_empty((*rows, capacity, values.shape[-1]))]
        for buffer, states in zip(self.buffers, (keys, values), strict=True):
            buffer[:, :, :length] = states


def merge(caches: list[DynamicCache], prompt_B: Tensor) -> DynamicCache:
    """Join the caches of prompt slices and lay them out for the rows of the batch."""
    first, *others = caches
    for index, layer in enumerate(first.layers if others else []):
        parts = [layer, *(cache.layers[index] for cache in others)]
        layer.keys, layer.values = (torch.cat([getattr(part, name) for part in parts]) for name in ("keys", "values"))
    first.batch_select_indices(prompt_B)
    return first
