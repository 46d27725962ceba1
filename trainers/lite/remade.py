"""Layers that are made again in the backward pass, so that a forward pass keeps one hidden state a layer.

Source: Chen et al., Training Deep Nets with Sublinear Memory Cost (arXiv 1604.06174), section 4.1: one segment a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trainers.recipe import Recipe


@contextmanager
def remade_layers(model: Any, recipe: Recipe) -> Iterator[None]:
    """Make layers again in backward passes while the block lasts, where the recipe says so; the gradients are the same.

    The last layer is kept: its feed-forward block runs at the needed positions only (`forward.py`), by hooks that are
    gone when the backward pass comes.
    """
    is_asked = recipe.model.gradient_checkpointing
    is_on = next(model.parameters()).is_cuda if is_asked is None else is_asked
    layers = list(getattr(model.get_decoder(), "layers", ()))[:-1] if is_on else []
    if layers:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in layers:
        layer.training = True  # what transformers asks for; the layer's parts stay as they are, without dropout
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
