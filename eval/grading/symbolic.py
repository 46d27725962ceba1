r"""The slow path's verdict: math_verify on the two boxed answers, with guards against what it confuses.

Runs only inside a killable worker (`eval.grading.worker`): sympy can hang in C code that no in-process timeout stops.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from eval.grading.units import split_unit

RELATIVE_TOLERANCE = 1e-6
MAX_EXPONENT_DIGITS = 4
"""A literal exponent longer than this is not evaluated."""

_CONFIG = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
_NUMPY = re.compile(r"\b(?:np|math)\.(arcsin|arccos|arctan|sin|cos|tan|exp|log|sqrt|pi)\b")
_DOUBLE_BACKSLASH = re.compile(r"\\\\(?=(?:d|t|c)?frac|sqrt|pi|text|left|right)")
_UPRIGHT_LETTER = re.compile(r"\\(?:mathrm|text|mathit|mathbf|rm)\s*\{\s*([A-Za-z])\s*\}")
_BASED = re.compile(r"\s*([0-9A-Z]+)\s*_\s*\{?\s*(\d+)\s*\}?\s*")
_HUGE_EXPONENT = re.compile(rf"(?:\^|\*\*)\s*\{{?\s*[+-]?\d{{{MAX_EXPONENT_DIGITS + 1},}}")


def is_equivalent(answer: str, gold: str) -> bool:
    """Return whether two answers mean the same, as far as math_verify can tell and the guards allow.

    Raises:
        ValueError: an answer that is too dangerous to evaluate.
        Exception: whatever sympy raises on odd input; the worker reports it as a crash.
    """
    based_answer, based_gold = _BASED.fullmatch(answer), _BASED.fullmatch(gold)
    if based_gold and (not based_answer or based_answer.groups() != based_gold.groups()):
        return False
    parsed_gold, parsed_answer = _parse_gold(prepare(gold)), _parse(prepare(answer))
    if not verify(parsed_gold, parsed_answer, strict=True, float_rounding=6, timeout_seconds=None):
        return False
    return _numbers_agree(parsed_answer, parsed_gold)


def prepare(answer: str) -> str:
    r"""Return the answer as math_verify reads it best: units off, `\mathrm{e}` as e, numpy names as LaTeX."""
    if _HUGE_EXPONENT.search(answer):
        raise ValueError("exponent too large to evaluate")
    text = _DOUBLE_BACKSLASH.sub(r"\\", answer)
    text = _UPRIGHT_LETTER.sub(r"\1", text)
    text = _NUMPY.sub(r"\\\1", text).replace("\\!", "").replace("$,$", ",").replace("$, $", ",")
    text, _ = split_unit(text)
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
