"""Keys and values of a batch in buffers with room ahead, and the layout of shared prompts for its rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """A layer's keys and values in a buffer with room ahead: a new token is written in place, not concatenated."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length, self.is_initialized = room, 0, False

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append along the sequence and return all keys and values so far, (B, heads, length, head width)."""
        start, self.length = self.length, self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.buffers = [_room_for(states, self.length + self.room) for states in (key_states, value_states)]
        elif self.length > self.buffers[0].shape[-2]:
            self._grow()
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self.length] = states
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the given rows, in the given order, repeated where an index is."""
        self.buffers = [buffer.index_select(0, indices) for buffer in self.buffers]
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)

    def _grow(self) -> None:
        self.room = max(2 * self.room, self.length)
        grown = [_room_for(buffer, self.length + self.room) for buffer in self.buffers]
        for new, old in zip(grown, self.buffers, strict=True):
            new[:, :, : old.shape[-2]] = old
        self.buffers = grown


def _room_for(states: Tensor, capacity: int) -> Tensor:
    return states.new_empty((*states.shape[:-2], capacity, states.shape[-1]))


def merge(caches: list[DynamicCache], prompt_B: Tensor) -> DynamicCache:
    """Join the caches of prompt slices and lay them out for the rows of the batch."""
    first, *others = caches
    for index, layer in enumerate(first.layers):
        parts = [layer, *(cache.layers[index] for cache in others)]
        if isinstance(layer, GrowingLayer):
            buffers = zip(*(part.buffers for part in parts), strict=True)
            layer.buffers = [pieces[0] if len(pieces) == 1 else torch.cat(pieces) for pieces in buffers]
        elif others:
            layer.keys, layer.values = (
                torch.cat([getattr(part, name) for part in parts]) for name in ("keys", "values")
            )
    first.batch_select_indices(prompt_B)
    return first
