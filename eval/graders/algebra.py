"""Numbers and formulas for the graders that compare by sympy: within a relative tolerance, percent or not.

Called only inside a killable worker. Formulas are read as LaTeX alone: where others run an answer as Python code, it is
not read here.
"""

from __future__ import annotations

import math
import re
from typing import Any

from latex2sympy2_extended import latex2sympy
from sympy import Float, Integer, N, simplify

TOLERANCE = 1e-4
"""Relative, between numbers: 3.1416 is π, 0.3333 is not quite 1/3."""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def number(text: str) -> float | None:
    """Return a written number, thousands and percent allowed; None for anything else."""
    plain = text.replace(",", "").strip()
    percent = plain.removesuffix("%").removesuffix("\\")
    if not _NUMBER.fullmatch(percent):
        return None
    return float(percent) / (100 if plain.endswith("%") else 1)


def are_near(left: float, right: float) -> bool:
    """Whether two numbers agree within the tolerance."""
    return math.isclose(left, right, rel_tol=TOLERANCE)


def are_near_as_percent(answer: float, gold: float) -> bool:
    """Whether an answer is a gold, a hundredth of it, or a hundred times it: a percent sign may have been lost."""
    return any(are_near(answer, value) for value in (gold, gold / 100, gold * 100))


def formula(text: str) -> Any | None:
    """Return an answer as sympy has it, or None where it is no LaTeX formula."""
    value = number(text)
    if value is not None:
        return _sympy_number(text.replace(",", ""), value)
    try:
        return latex2sympy(text)
    except Exception:  # the parser raises bare exceptions of its own on whatever it does not read
        return None


def are_same(left: Any, right: Any) -> bool:
    """Whether two formulas are equal: in form, by simplifying their difference, or as numbers within the tolerance."""
    try:
        if left == right or simplify(left - right) == 0:
            return True
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        pass
    try:
        return are_near(float(N(left)), float(N(right)))
    except (TypeError, ValueError, AttributeError, OverflowError):
        return False


def _sympy_number(text: str, value: float) -> Any:
    return Integer(text) if re.fullmatch(r"[-+]?\d+", text) else Float(value)
