r"""The slow path's verdict: math_verify on the two boxed answers, with guards against what it confuses.

Runs only inside a killable worker (`eval.grading.worker`): sympy can hang in C code that no in-process timeout stops.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from eval.grading.formula.nodes import Answer, Chain, Listing, Matrix, Quantity, Union
from eval.grading.reading import read

RELATIVE_TOLERANCE = 1e-6
MAX_EXPONENT_DIGITS = 4
"""A literal exponent longer than this is not evaluated."""

_CONFIG = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
_NUMPY = re.compile(r"\b(?:np|math)\.(arcsin|arccos|arctan|sin|cos|tan|exp|log|sqrt|pi)\b")
_DOUBLE_BACKSLASH = re.compile(r"\\\\(?=(?:d|t|c)?frac|sqrt|pi|text|left|right)")
_UPRIGHT_LETTER = re.compile(r"\\(?:mathrm|text|mathit|mathbf|rm)\s*\{\s*([A-Za-z])\s*\}")
_BASED = re.compile(r"\s*([0-9A-Z]+)\s*_\s*\{?\s*(\d+)\s*\}?\s*")
_UNIT = re.compile(
    r"(.{0,190}[\d}.)])\s*\\(?:text|textrm|mbox|mathrm|textbf|textit)\s*\{([^{}]*)\}(?:\^\{?\d\}?)?", re.DOTALL
)
_NOT_UNITS = frozenset("pi and or base mod sqrt times percent thousand million billion trillion".split())
_HUGE_EXPONENT = re.compile(rf"(?:\^|\*\*)\s*\{{?\s*[+-]?\d{{{MAX_EXPONENT_DIGITS + 1},}}")


def judge(answer: str, gold: str) -> Literal["right", "wrong", "undecided"]:
    """Return what math_verify can tell of two answers, as far as the guards allow.

    Undecided is what it reads as nothing or as something else: a derivative that became 0, an equation that is true.

    Raises:
        ValueError: an answer that is too dangerous to evaluate.
        Exception: whatever sympy raises on odd input; the worker reports it as a crash.
    """
    based_answer, based_gold = _BASED.fullmatch(answer), _BASED.fullmatch(gold)
    if based_gold and (not based_answer or based_answer.groups() != based_gold.groups()):
        return "wrong"
    parsed_gold, parsed_answer = _parse_gold(prepare(gold)), _parse(prepare(answer))
    if is_degenerate(gold, parsed_gold, is_gold=True) or is_degenerate(answer, parsed_answer):
        return "undecided"
    if not verify(parsed_gold, parsed_answer, strict=True, float_rounding=6, timeout_seconds=None):
        return "wrong"
    return "right" if _numbers_agree(parsed_answer, parsed_gold) else "wrong"


def is_degenerate(text: str, parsed: list[Any], *, is_gold: bool = False) -> bool:
    """Whether a parse says something else than its text: nothing, a truth value, or without one of its variables."""
    if not parsed:
        return True
    first = parsed[0]
    if isinstance(first, str):
        return False  # compared as text
    if isinstance(first, bool) or (getattr(first, "is_Boolean", False) and not getattr(first, "free_symbols", None)):
        return True
    symbols = _symbols_of(read(text).answer, is_gold=is_gold)
    if any("/d" in symbol and symbol.startswith(("d", "partial")) for symbol in symbols):
        return True  # sympy takes the derivative of one symbol by another, which is 0
    found = {str(symbol).lstrip("\\")[:1] for symbol in getattr(first, "free_symbols", ())}
    # Greek letters keep their names; accents, calls and indices are compared by what they start with.
    return bool(symbols) and not {symbol.split()[-1][:1] for symbol in symbols} <= found


def _symbols_of(answer: Answer | None, *, is_gold: bool) -> set[str]:
    """Return the variables of an answer; letters that may be a unit are variables in a gold, as of `6m`."""
    if isinstance(answer, Quantity):
        if is_gold and answer.with_unit_as_symbols is not None:
            return set(answer.with_unit_as_symbols.symbols)
        return set((answer.formula if answer.unit else answer.with_unit_as_symbols or answer.formula).symbols)
    parts: tuple[Answer, ...] = ()
    if isinstance(answer, Listing | Union):
        parts = answer.items
    elif isinstance(answer, Chain):
        parts = answer.sides
    elif isinstance(answer, Matrix):
        parts = tuple(cell for row in answer.rows for cell in row)
    return set[str]().union(*(_symbols_of(part, is_gold=is_gold) for part in parts))


def prepare(answer: str) -> str:
    r"""Return the answer as math_verify reads it best: units off, `\mathrm{e}` as e, numpy names as LaTeX."""
    if _HUGE_EXPONENT.search(answer):
        raise ValueError("exponent too large to evaluate")
    text = _DOUBLE_BACKSLASH.sub(r"\\", answer)
    text = _UPRIGHT_LETTER.sub(r"\1", text)
    text = _NUMPY.sub(r"\\\1", text).replace("\\!", "").replace("$,$", ",").replace("$, $", ",")
    unit = _UNIT.fullmatch(text.strip().strip("$").strip())
    if unit is not None and not _NOT_UNITS.intersection(unit[2].lower().split()):
        text = unit[1].strip().rstrip("\\")
    return text.replace("$", "").strip()


def _parse(text: str) -> list[Any]:
    return parse(f"\\boxed{{{text}}}", extraction_config=_CONFIG, parsing_timeout=None)  # type: ignore[no-any-return]


@lru_cache(maxsize=4096)
def _parse_gold(text: str) -> list[Any]:
    return _parse(text)


def _numbers_agree(answer: list[Any], gold: list[Any]) -> bool:
    """Hold math_verify's six decimals to 1e-6 relative where both sides are numbers: 2e-10 is not 1e-10."""
    left, right = _number(answer), _number(gold)
    if left is None or right is None:
        return True
    return abs(left - right) <= RELATIVE_TOLERANCE * max(abs(left), abs(right))


def _number(parsed: list[Any]) -> complex | None:
    if not parsed or not getattr(parsed[0], "is_number", False):
        return None
    try:
        return complex(parsed[0])
    except (TypeError, ValueError, OverflowError):
        return None
