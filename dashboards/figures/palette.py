"""Colours and dashes by what is drawn, so that a method keeps its colour from figure to figure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.figures.drawing import DASHES
from trainers.methods import METHODS

_BOTTOM = 3
"""Steps from the colour of a method to that of its lowest tokens."""


def colour_of(method: str, *, end: str = "top") -> int:
    """Index into `COLOURS`: the method's place in `trainers.methods.METHODS`."""
    return list(METHODS).index(method) + (_BOTTOM if end == "bottom" else 0)


def dash_of(names: Sequence[str], name: str) -> int:
    """Index into `DASHES`: one a name, in their order."""
    return names.index(name) % len(DASHES)
