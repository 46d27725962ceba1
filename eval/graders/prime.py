r"""The rules of PRIME's reward for mathematics, restated: two graders of which one has to agree.

1. The answer is the last `\boxed`; without one, what follows "answer:" or "answer is", up to the end of its sentence,
   and of that what follows the last "is", "are" or "=".
2. Right is what the grader of PRM800K takes: the same text in any case after respelling, thousands joined; tuples in
   the same brackets place by place; a formula that sympy simplifies to the gold, unless the gold is a whole number
   and the answer is not, or the gold is a fraction and the answer is one in other terms.
3. Or what the comparison of numbers takes: within 1e-4 relative, percent lost or not, with π as itself and as 3.14, and
   a base (`43_{8}`) left out.

Not restated: answers that are run as Python code.

Source: Cui et al. (2025), Process reinforcement through implicit rewards (arXiv:2502.01456), section 4; Lightman et al.
(2023), Let's verify step by step (arXiv:2305.20050), appendix on grading.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from sympy import Float, N, pi

from eval.api import Problem
from eval.graders.algebra import are_near_as_percent, are_same, formula, number
from eval.graders.pooled import Question
from eval.graders.spelling import last_box, respelled

MAX_LETTERS = 2
"""Formulas with more variables are compared as text."""

_SAID = re.compile(r"answer:|answer is|answers are", re.IGNORECASE)
_VERB = re.compile(r"\b(?:be|is|are|get)\s|=|:\s")
_BASE = re.compile(r"_\{?\d+\}?$")
_INSIDE = re.compile(r"([(\[])(.*,.*)([)\]])", re.DOTALL)
_LETTERS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])")
_WHOLE = re.compile(r"-?\d+")
_FRACTION = re.compile(r"-?\\frac\{-?\d+\}\{-?\d+\}")


def prepare(response: str, problem: Problem) -> Question | None:
    """Find and respell the answer as these rules do."""
    found = _found(response)
    if not found:
        return None
    return Question(answer=_respelled(found), gold=_respelled(problem.answer), found=found)


def _found(response: str) -> str:
    box = last_box(response)
    if box is not None:
        return box.strip()
    said = _SAID.split(response)
    text = said[-1].strip()
    if len(said) == 1:
        text = _VERB.split(text)[-1].strip()
    text = text.split(". ")[0].split("\n")[0].strip().rstrip(".")
    return text if re.search(r"\d", text) else ""


def _respelled(text: str) -> str:
    text = respelled(text)
    return re.sub(r"(?<=\d),(?:\\!)?(?=\d{3}(?!\d))", "", text) if not _INSIDE.fullmatch(text) else text


def judge(answer: str, gold: str) -> Literal["right", "wrong"]:
    """Compare two respelled answers."""
    return "right" if _by_text(answer, gold) or _by_value(answer, gold) else "wrong"


def _by_text(answer: str, gold: str) -> bool:
    if answer.casefold() == gold.casefold():
        return True
    tuples = _INSIDE.fullmatch(answer), _INSIDE.fullmatch(gold)
    if tuples[0] and tuples[1]:
        first, second = (match[2].split(",") for match in tuples if match)
        in_same_brackets = tuples[0].group(1, 3) == tuples[1].group(1, 3)
        pairs = zip(first, second, strict=False)
        return in_same_brackets and len(first) == len(second) and all(_is_either(a, b) for a, b in pairs)
    if tuples[0] or tuples[1]:
        return False
    if _FRACTION.fullmatch(answer) and _FRACTION.fullmatch(gold):
        return False  # in lowest terms, or not: by text
    if _WHOLE.fullmatch(gold) and not _WHOLE.fullmatch(answer):
        return False
    return _same_formula(answer, gold)


def _is_either(answer: str, gold: str) -> bool:
    return _by_text(answer, gold) or _by_value(answer, gold)


def _by_value(answer: str, gold: str) -> bool:
    """Compare as numbers, π once as 3.14; formulas without variables are computed."""
    answer, gold = _BASE.sub("", answer), _BASE.sub("", gold)
    if answer == gold:
        return True
    for circle in (math.pi, 3.14):
        first, second = _value(answer, circle), _value(gold, circle)
        if first is not None and second is not None and are_near_as_percent(first, second):
            return True
    return False


def _value(text: str, circle: float) -> float | None:
    """Return what an answer amounts to with a value for π; None where it has variables or is no formula."""
    written = number(text)
    if written is not None:
        return written
    parsed: Any | None = formula(text)
    try:
        return None if parsed is None else float(N(parsed.subs(pi, Float(circle))))
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None


def _same_formula(answer: str, gold: str) -> bool:
    if len({*_LETTERS.findall(answer), *_LETTERS.findall(gold)}) > MAX_LETTERS:
        return False
    left, right = formula(answer), formula(gold)
    return left is not None and right is not None and are_same(left, right)
