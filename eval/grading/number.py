r"""Numbers as answers write them, read exactly: integers, decimals, fractions, mixed numbers, percent, powers of 10."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 400
"""Longer literals are left undecided: exact arithmetic on them is not worth its time."""
RELATIVE_TOLERANCE = Fraction(1, 1_000_000)
"""For a number one side writes as a decimal."""

_DECIMAL = r"\d+\.?\d*|\.\d+"
_PLAIN = re.compile(rf"[+-]?(?:{_DECIMAL})")
_SCIENTIFIC = re.compile(
    rf"([+-]?(?:{_DECIMAL}))(?:[eE]([+-]?\d+)|(?:\\times|\\cdot|\*|x|×)10(?:\^|\*\*)(?:\{{([+-]?\d+)\}}|([+-]?\d+)))"
)
_POWER_OF_TEN = re.compile(r"([+-]?)10\^(?:\{([+-]?\d+)\}|(\d))")
_SLASH = re.compile(rf"([+-]?(?:{_DECIMAL}))/([+-]?(?:{_DECIMAL}))")
_FRAC = re.compile(rf"([+-]?)(\d*)\\frac(?:\{{([+-]?(?:{_DECIMAL}))\}}|(\d))(?:\{{([+-]?(?:{_DECIMAL}))\}}|(\d))")
_REPEATING = re.compile(r"([+-]?)(\d*)\.(\d*)\\overline\{(\d+)\}")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value with how it was written."""

    value: Fraction
    is_decimal: bool = False
    """Written with a decimal point or an exponent, hence possibly rounded."""
    is_percent: bool = False


def parse_number(text: str) -> Number | None:
    r"""Read a cleaned answer (no spaces, `\frac` only) as a number, or return None. Never evaluates anything."""
    if not text or len(text) > MAX_DIGITS:
        return None
    if text.endswith("%"):
        inner = parse_number(text[:-1])
        return None if inner is None or inner.is_percent else Number(inner.value, inner.is_decimal, True)
    if text[0] == "(" and text[-1] == ")" and "(" not in text[1:-1]:
        text = text[1:-1]
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if _PLAIN.fullmatch(text):
        return Number(Fraction(text), "." in text)
    return _parse_quotient(text) or _parse_scientific(text) or _parse_repeating(text)


def same_number(left: Number, right: Number) -> bool:
    """Compare exactly; to 1e-6 relative where either is a decimal; a percent sign on one side only is optional."""
    if left.is_percent == right.is_percent:
        return _close(left, left.value, right, right.value)
    percent, plain = (left, right) if left.is_percent else (right, left)
    as_written = _close(percent, percent.value, plain, plain.value)
    return as_written or _close(percent, percent.value / 100, plain, plain.value)


def _close(left: Number, left_value: Fraction, right: Number, right_value: Fraction) -> bool:
    if left_value == right_value:
        return True
    if not (left.is_decimal or right.is_decimal):
        return False
    return abs(left_value - right_value) <= RELATIVE_TOLERANCE * max(abs(left_value), abs(right_value))


def _parse_quotient(text: str) -> Number | None:
    if match := _SLASH.fullmatch(text):
        return _quotient(Fraction(match[1]), Fraction(match[2]), "." in text)
    match = _FRAC.fullmatch(text)
    if match is None:
        return None
    sign = -1 if match[1] == "-" else 1
    quotient = _quotient(Fraction(match[3] or match[4]), Fraction(match[5] or match[6]), "." in text)
    if quotient is None or (match[2] and quotient.value < 0):
        return None
    # A whole number before a fraction is a mixed number: 1\frac{4}{5} is 9/5.
    return Number(sign * (int(match[2] or 0) + quotient.value), quotient.is_decimal)


def _quotient(numerator: Fraction, denominator: Fraction, is_decimal: bool) -> Number | None:
    return Number(numerator / denominator, is_decimal) if denominator else None


def _parse_scientific(text: str) -> Number | None:
    if match := _POWER_OF_TEN.fullmatch(text):
        exponent = int(match[2] or match[3])
        return (
            Number(Fraction(10) ** exponent * (-1 if match[1] == "-" else 1)) if abs(exponent) <= MAX_DIGITS else None
        )
    match = _SCIENTIFIC.fullmatch(text)
    if match is None:
        return None
    exponent = int(match[2] or match[3] or match[4])
    if abs(exponent) > MAX_DIGITS:
        return None
    return Number(Fraction(match[1]) * Fraction(10) ** exponent, True)


def _parse_repeating(text: str) -> Number | None:
    r"""Read `0.1\overline{6}`, which is exact: 1/6."""
    match = _REPEATING.fullmatch(text)
    if match is None:
        return None
    scale = 10 ** len(match[3])
    fixed = Fraction(int((match[2] or "0") + match[3]), scale)
    repeated = Fraction(int(match[4]), (10 ** len(match[4]) - 1) * scale)
    return Number((fixed + repeated) * (-1 if match[1] == "-" else 1))
