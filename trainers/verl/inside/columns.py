"""Columns of verl's batches as plain lists, whatever holds them."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def column(values: Any) -> list[Any]:
    """Return one item a row: of a tensor its rows, of tensordict's stacks and lists the objects themselves."""
    if isinstance(values, Tensor):
        return list(values.unbind())
    items: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return items
