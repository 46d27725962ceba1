"""Units written behind a number: split off for comparison, and told apart where both sides name one."""

from __future__ import annotations

import re

MAX_CHARS = 200
"""Units are looked for in answers up to this length."""

_UNIT = re.compile(
    r"(.*[\d}.)])\s*\\(?:text|textrm|mbox|mathrm|textbf|textit)\s*\{([^{}]*)\}(?:\^\{?\d\}?)?", re.DOTALL
)
_TRAILING_WORDS = re.compile(
    r"([-+$\d.,/ \\{}frac]*\d[\d}.]*)\s+([A-Za-z]{2,}(?:\.?\s+[A-Za-z]{2,})*)\.?\s*(?:\^\{?\d\}?)?"
)
_NOT_UNITS = frozenset(
    "pi and or base mod sqrt times sin cos tan log ln percent thousand million billion trillion".split()
)
_SAME = (
    "mm millimeter millimetre",
    "cm centimeter centimetre",
    "m meter metre",
    "km kilometer kilometre",
    "in inch inches inche",
    "ft foot feet",
    "yd yard",
    "mi mile",
    "s sec second",
    "min minute",
    "h hr hour",
    "day",
    "week",
    "month",
    "year yr",
    "mg milligram",
    "g gram",
    "kg kilogram",
    "lb pound",
    "oz ounce",
    "cent",
    "dollar",
    "ml milliliter",
    "l liter litre",
)
_CANONICAL = {name: names.split()[0] for names in _SAME for name in names.split()}


def split_unit(answer: str) -> tuple[str, str]:
    r"""Return (value, unit) of `15\mbox{ cm}^2` or `10 units`; the unit is empty where none is written."""
    text = answer.strip().strip("$").strip()
    if len(text) > MAX_CHARS:
        return text, ""
    match = _UNIT.fullmatch(text) or _TRAILING_WORDS.fullmatch(text)
    if match is None or _NOT_UNITS.intersection(match[2].lower().split()):
        return text, ""
    return match[1].strip().rstrip("\\"), match[2].strip().lower()


def are_different(unit: str, other: str) -> bool:
    """Whether two units are known and not the same: 5 cm is not 5 m. A missing or unknown unit is no difference."""
    first, second = _canonical(unit), _canonical(other)
    return first is not None and second is not None and first != second


def _canonical(unit: str) -> str | None:
    name = unit.strip(" ~.").lower()
    return _CANONICAL.get(name) or _CANONICAL.get(name.removesuffix("s"))
