r"""Rewrites of an answer's text that the graders after Hendrycks et al.'s share; our own grader reads tokens instead.

Source: Hendrycks et al. (2021), Measuring mathematical problem solving with the MATH dataset, section 3.1:
"normalising" of fractions, units, percent and dollar signs, leading zeros, spaces and `x=`.
"""

from __future__ import annotations

import re

_FRACTION = r"\frac"
_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)")


def with_braces(text: str) -> str:
    r"""Return the text with `\frac12` and `\frac1{2}` as `\frac{1}{2}`; as it is where a fraction lacks a side."""
    before, *fractions = text.split(_FRACTION)
    written = [before]
    for rest in fractions:
        if rest.startswith("{"):
            written.append(_FRACTION + rest)
        elif len(rest) < 2:
            return text
        else:
            below = rest[1:] if rest[1] == "{" else f"{{{rest[1]}}}{rest[2:]}"
            written.append(f"{_FRACTION}{{{rest[0]}}}{below}")
    return "".join(written)


def slash_as_fraction(text: str, *, allows_roots: bool = False) -> str:
    r"""Return `a/b` of two whole numbers as `\frac{a}{b}`; a side may have a root in it where that is allowed."""
    sides = text.split("/")
    if len(sides) != 2 or not all(_WHOLE.fullmatch(side) or (allows_roots and "sqrt" in side) for side in sides):
        return text
    return text if "-0" in sides else f"{_FRACTION}{{{sides[0]}}}{{{sides[1]}}}"


def without_name(text: str) -> str:
    """Return `k = 5` as ` 5`, where the name has at most two letters and there is one sign of equality."""
    name, equals, rest = text.partition("=")
    return rest if equals and len(name) <= 2 and "=" not in rest else text


def with_zero(text: str) -> str:
    """Return `.5` as `0.5`, at the start, behind a space and inside a brace."""
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    return f"0{text}" if text.startswith(".") else text


def last_box(response: str) -> str | None:
    r"""Return the content of the last `\boxed`, closed or not: to its brace, to a `$`, or to the end."""
    _, box, rest = response.rpartition("boxed")
    if not box:
        return None
    if not rest.startswith("{"):
        return rest.partition("$")[0].strip()
    return inside_braces(rest) or ""


def inside_braces(text: str, *, has_to_close: bool = False) -> str | None:
    """Return what stands in the brace that a text begins with; to the end, or None, where it is not closed."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return text[1:place]
    return None if has_to_close else text[1:]
