r"""Compares formulas by value: parsed by a small grammar, evaluated at fixed points, exactly where that is possible.

Decides most of what string and fraction comparison leave open, `-2+2\sqrt{3}` against `2\sqrt3-2`, in tens of
microseconds. What it does not know for certain how to read (text, equations, `f(x)`, `\pm`, sums with limits) it
leaves undecided. Nothing of an answer is ever run: the grammar knows numbers, letters, six operators and a table of
functions, with caps on length, depth and size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from eval.grading.formula_nodes import Node, Run, Unreadable, Value, constant
from eval.grading.formula_parser import parse
from eval.grading.number import parse_number

MAX_CHARS = 400
NUM_POINTS = 3
NUM_WHOLE_POINTS = 8
"""Points for formulas that are about whole numbers: with floors, factorials or binomials of a variable."""
EQUAL = 1e-10
"""Relative difference up to which two values of floating point are the same."""
DIFFERENT = 1e-6
"""Relative difference from which on they are not; between the two, undecided."""
LARGEST_FOR_FLOATS = 1e5
"""Above this, agreement to 1e-10 could hide a difference in the units: undecided."""

_ENDING = re.compile(r"(?:[A-Za-z/]|\\cdot|\^(?:-?[1-3]|\{-?[1-3]\}))*$")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z]*[{(])")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_SCIENTIFIC = re.compile(r"\d[eE][-+]?\d")


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed answer."""

    node: Node
    variables: frozenset[str]
    is_whole: bool
    """About whole numbers."""
    may_have_unit: bool
    """Its variables all stand at the end, as a unit would: `5m/s`."""
    has_decimals: bool
    has_bare_log: bool
    r"""`\log` without a base may mean either."""


@lru_cache(maxsize=16384)
def parse_formula(text: str) -> Formula | None:
    """Parse a cleaned answer, or return None where the reading is not certain."""
    if not text or len(text) > MAX_CHARS or "\\\\" in text or is_prose(text):
        return None
    if _SCIENTIFIC.search(text):
        # 7e-11 is a number alone; inside a formula it may be 7·e − 11.
        number = parse_number(text)
        return None if number is None or number.is_percent else _constant_formula(number.value)
    try:
        parser = parse(text)
        parser.node(Run(0, parser.is_whole))
    except (Unreadable, ArithmeticError, ValueError, RecursionError):
        return None
    return Formula(
        node=parser.node,
        variables=frozenset(parser.variables),
        is_whole=parser.is_whole,
        may_have_unit=_may_have_unit(text),
        has_decimals="." in text,
        has_bare_log=r"\log" in text and r"\log_" not in text,
    )


def _may_have_unit(text: str) -> bool:
    r"""Whether all variables stand at the end in one piece: `5m/s^2`, but not `-\tau` or `\frac{1}{4p^2}`."""
    ending = _ENDING.search(text)
    before = text[: ending.start()] if ending else text
    is_apart = before.count("{") == before.count("}") and not before.endswith("\\")
    return len(before) < len(text) and is_apart and not _LETTER.search(before)


def _constant_formula(value: Fraction) -> Formula:
    return Formula(
        node=constant(value),
        variables=frozenset(),
        is_whole=False,
        may_have_unit=False,
        has_decimals=True,
        has_bare_log=False,
    )


def is_prose(text: str) -> bool:
    """Whether letters run on as in words: `not10it's`. A product of so many variables is left to others too."""
    return _PROSE.search(text) is not None


def same_formula(left: Formula, right: Formula) -> bool | None:
    """Return whether two formulas agree at every point; None where that cannot be told."""
    if left.has_bare_log != right.has_bare_log:
        return None
    if left.variables != right.variables:
        return _with_other_variables(left, right)
    is_whole = left.is_whole or right.is_whole
    num_points = (NUM_WHOLE_POINTS if is_whole else NUM_POINTS) if left.variables else 1
    verdicts = []
    for point in range(num_points):
        try:
            first, second = Run(point, is_whole), Run(point, is_whole)
            values = left.node(first), right.node(second)
        except (Unreadable, ArithmeticError, ValueError):
            return None
        has_decimals = left.has_decimals or right.has_decimals
        verdicts.append(_same_value(*values, largest=max(first.largest, second.largest), has_decimals=has_decimals))
    return False if False in verdicts else None if None in verdicts else True


def _with_other_variables(left: Formula, right: Formula) -> bool | None:
    """What depends on a variable that the other side lacks is another answer, unless the variable may be a unit."""
    for one, other in ((left, right), (right, left)):
        if not one.variables - other.variables or one.may_have_unit:
            continue
        try:
            # The variable may cancel: 1+x-x.
            values = {_rounded(one.node(Run(point, one.is_whole))) for point in range(NUM_POINTS)}
        except (Unreadable, ArithmeticError, ValueError):
            return None
        return False if len(values) > 1 else None
    return None


def _rounded(value: Value) -> complex:
    number = complex(value)
    return complex(float(f"{number.real:.6g}"), float(f"{number.imag:.6g}"))


def _same_value(left: Value, right: Value, *, largest: float, has_decimals: bool) -> bool | None:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        if left == right:
            return True
        return has_decimals and abs(left - right) <= Fraction(DIFFERENT) * max(abs(left), abs(right))
    first, second = complex(left), complex(right)
    gap, size = abs(first - second), max(abs(first), abs(second))
    if gap > DIFFERENT * size and gap > 1e-9 * largest:
        return False
    if has_decimals:
        return True if gap <= DIFFERENT * size else None
    return True if gap <= EQUAL * size and size < LARGEST_FOR_FLOATS and largest < LARGEST_FOR_FLOATS else None
