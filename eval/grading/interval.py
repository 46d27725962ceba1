r"""Inequalities in one variable as intervals: `x \le 3` is `(-\infty,3]`."""

from __future__ import annotations

import re

_SIGN = r"(\\le|\\ge|<=|>=|<|>)"
_VARIABLE = r"([A-Za-z](?:\([a-z]\))?)"
_ONE_SIDED = re.compile(rf"{_VARIABLE}{_SIGN}([^<>=,;]+)")
_REVERSED = re.compile(rf"([^<>=,;]+?){_SIGN}{_VARIABLE}")
_TWO_SIDED = re.compile(rf"([^<>=,;]+?)(\\le|<=|<){_VARIABLE}(\\le|<=|<)([^<>=,;]+)")


def as_interval(text: str) -> str | None:
    """Return a cleaned inequality as a cleaned interval, or None for anything else."""
    if match := _TWO_SIDED.fullmatch(text):
        return _interval(match[1], "[" if "<" != match[2] else "(", match[5], "]" if "<" != match[4] else ")")
    if match := _ONE_SIDED.fullmatch(text):
        return _half_line(match[3], match[2], is_upper=match[2] in ("\\le", "<=", "<"))
    if match := _REVERSED.fullmatch(text):
        return _half_line(match[1], match[2], is_upper=match[2] in ("\\ge", ">=", ">"))
    return None


def _half_line(bound: str, sign: str, *, is_upper: bool) -> str | None:
    is_open = sign in ("<", ">")
    if is_upper:
        return _interval(r"-\infty", "(", bound, ")" if is_open else "]")
    return _interval(bound, "(" if is_open else "[", r"\infty", ")")


def _interval(low: str, opening: str, high: str, closing: str) -> str | None:
    return f"{opening}{low},{high}{closing}" if "\\le" not in low + high and "\\ge" not in low + high else None
