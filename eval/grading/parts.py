r"""Splits a cleaned answer into its parts: tuples, intervals, sets, lists, unions, matrices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from eval.grading.clean import LIST_COMMA

Shape = Literal["tuple", "half_open", "interval", "set", "list", "matrix", "union"]
MAX_PARTS = 64

_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_SHAPE_OF_BRACKETS: dict[str, Shape] = {"()": "tuple", "[]": "interval", "(]": "half_open", "[)": "half_open"}
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Parts:
    """An answer made of several."""

    shape: Shape
    brackets: str
    """Opening and closing bracket; the number of columns for a matrix."""
    items: tuple[str, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether the order of the items is part of the answer."""
        return self.shape not in ("set", "list", "union")


def split_parts(text: str) -> Parts | None:
    """Return the parts of a cleaned answer, or None for a single value (or one with too many parts)."""
    if len(text) < 3:
        return None
    if text.startswith("\\begin{"):
        return _matrix(text)
    parts = _union(text) or _bracketed(text) or _list(text)
    if "\\pm" in text:
        parts = _both_signs(parts or Parts("list", "", (text,)))
    return parts if parts is not None and len(parts.items) <= MAX_PARTS else None


def _both_signs(parts: Parts) -> Parts | None:
    r"""Write out `1\pm\sqrt{5}` as two items; several signs in one item, or in an ordered answer, stay unread."""
    if parts.is_ordered or any(item.count("\\pm") > 1 for item in parts.items):
        return None
    items = (item.replace("\\pm", sign) for item in parts.items for sign in ("+-" if "\\pm" in item else "+"))
    return Parts(parts.shape, parts.brackets, tuple(item.removeprefix("+") for item in items))


def _matrix(text: str) -> Parts | None:
    match = _MATRIX.fullmatch(text)
    if match is None:
        return None
    rows = [row.split("&") for row in match[2].strip("\\").split("\\\\") if row]
    if not rows or len({len(row) for row in rows}) != 1:
        return None
    return Parts("matrix", str(len(rows[0])), tuple(item for row in rows for item in row))


def _union(text: str) -> Parts | None:
    if "\\cup" not in text:
        return None
    return Parts("union", "", tuple(text.split("\\cup")))


def _bracketed(text: str) -> Parts | None:
    if text.startswith("\\{") and text.endswith("\\}"):
        inner, brackets = text[2:-2], "{}"
    elif text[0] == "{" and text[-1] == "}":
        inner, brackets = text[1:-1], "{}"
    elif text[0] in "([" and text[-1] in ")]":
        inner, brackets = text[1:-1], text[0] + text[-1]
    else:
        return None
    items = _top_level(inner)
    if items is None:
        return None
    if brackets == "{}":
        return Parts("set", brackets, items)
    return Parts(_SHAPE_OF_BRACKETS[brackets], brackets, items) if len(items) > 1 else None


def _list(text: str) -> Parts | None:
    items = _top_level(text)
    return Parts("list", "", items) if items is not None and len(items) > 1 else None


def _top_level(text: str) -> tuple[str, ...] | None:
    """Split at commas or semicolons outside brackets; None where brackets do not match."""
    # A backslash before a bracket belongs to it: `\{` opens as `{` does.
    depth, start, items = 0, 0, []
    for index, character in enumerate(text):
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
            if depth < 0:
                return None
        elif character in ",;" and depth == 0:
            items.append(text[start:index])
            start = index + 1
    items.append(text[start:])
    stripped = tuple(item.strip(LIST_COMMA[1:]) for item in items)
    return stripped if depth == 0 and all(stripped) else None
