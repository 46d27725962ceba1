"""Colours and dashes by what is drawn, so that a method keeps its colour from figure to figure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.figures.drawing import DASHES

_METHOD_ORDER = ("full", "random", "ets", "gmts", "ict")
_BOTTOM = 3
"""Steps from the colour of a method to that of its lowest tokens."""


def colour_of(method: str, *, end: str = "top") -> int:
    """Index into `COLOURS`."""
    known = method in _METHOD_ORDER
    colour = _METHOD_ORDER.index(method) if known else len(_METHOD_ORDER) + len(method) % 3
    return colour + (_BOTTOM if end == "bottom" else 0)


def dash_of(names: Sequence[str], name: str) -> int:
    """Index into `DASHES`: one a name, in their order."""
    return names.index(name) % len(DASHES)
