r"""LaTeX answers in one spelling, as text: the rules that the graders after Hendrycks et al.'s share.

Each rule is a rewrite of the text, so their order matters; our own grader reads tokens instead.

Source: Hendrycks et al. (2021), Measuring mathematical problem solving with the MATH dataset, section 3.1:
"normalising" of fractions, units, percent and dollar signs, leading zeros, spaces and `x=`.
"""

from __future__ import annotations

import re

_REMOVED = re.compile(
    r"\\[!,;: ]|~|\n|\\left(?![a-z])|\\right(?![a-z])|\\displaystyle|\^\{?\\circ\}?|°|\\\$|\$|\\?%|\\mbox\{[^{}]*\}"
)
_UNIT_AT_END = re.compile(r"\\(?:text|mathrm|mbox|textrm)\{[^{}]*\}(?:\^\{?-?\d+\}?)?$")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf|textit|operatorname|boldsymbol|bf)\s*\{([^{}]*)\}")
_SHORT_ROOT = re.compile(r"\\sqrt(\w)")
_SHORT_FRACTION = re.compile(r"\\frac(?:([0-9a-z])([0-9a-z])|([0-9a-z])(\{[^{}]*\})|(\{[^{}]*\})([0-9a-z]))")
_SLASHED = re.compile(r"(-?)(\d+)/(\d+)")
_NAMED = re.compile(r"[^=]{1,2}=([^=]+)")
_ZERO_DECIMALS = re.compile(r"(?<=\d)\.0+(?=$|[^\d])")
_BARE_POINT = re.compile(r"(?<![\d\w)}])\.(?=\d)")
_UNITS = re.compile(
    r"(?<![A-Za-z\\])(?:degrees?|cm|km|mm|m|meters?|inch(?:es)?|feet|foot|ft|miles?|mph|units?|square|squared|cubic|"
    r"seconds?|minutes?|min|hours?|hr|days?|weeks?|months?|years?|dollars?|cents?|points?|percent|kg|grams?|g|"
    r"pounds?|ounces?|gallons?|liters?|ml|students|people|ways|pages|books|apples|balls?|cards?|times)(?![A-Za-z])"
)


def respelled(text: str, *, keeps_units: bool = False) -> str:
    r"""Return an answer without spaces, signs and styles, with `\frac{a}{b}` for any fraction.

    Args:
        text: the answer.
        keeps_units: words of units stay; they go by default.
    """
    text = text.strip().rstrip(".").replace("dfrac", "frac").replace("tfrac", "frac").replace("cfrac", "frac")
    text = _without_unit(_REMOVED.sub("", text))
    text = _WRAPPED.sub(r"\1", text)
    if not keeps_units:
        text = _UNITS.sub("", text).strip() or text
    text = _ZERO_DECIMALS.sub("", _BARE_POINT.sub("0.", text))
    named = _NAMED.fullmatch(text)
    text = (named[1] if named else text).replace(" ", "")
    text = _SHORT_FRACTION.sub(_full_fraction, _SHORT_ROOT.sub(r"\\sqrt{\1}", text))
    slashed = _SLASHED.fullmatch(text)
    return f"{slashed[1]}\\frac{{{slashed[2]}}}{{{slashed[3]}}}" if slashed else text


def _without_unit(text: str) -> str:
    """Take words at the end off where something stands before them."""
    without = _UNIT_AT_END.sub("", text.strip()).strip()
    return without or text


def _full_fraction(match: re.Match[str]) -> str:
    parts = [part if part.startswith("{") else f"{{{part}}}" for part in match.groups() if part is not None]
    return "\\frac" + "".join(parts)


def last_box(response: str) -> str | None:
    r"""Return the content of the last `\boxed`, closed or not: to its brace, to a `$`, or to the end."""
    _, box, rest = response.rpartition("boxed")
    if not box:
        return None
    if not rest.startswith("{"):
        return rest.partition("$")[0].strip()
    depth = 0
    for place, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[1:place]
    return rest[1:]
