r"""The rules of Qwen2.5-Math's evaluation, restated: what many papers' tables of Minerva and MATH-500 were graded by.

1. The answer is the last `\boxed`; without one, what follows the last "answer is" or 答案是; without that, the last
   number of the response.
2. Both sides are respelled; units as words stay on Minerva alone.
3. Right is: the same text in any case; the same letter of an option; numbers within 1e-4 relative, where one may be a
   hundredth or a hundred times the other; the same text without any brackets; tuples and matrices place by place;
   `a = b` against `c = d` where one difference is plus or minus the other; formulas that sympy finds equal, or whose
   values are within 1e-4.

Not restated: answers that are run as Python code, and a few words for units.

Source: Yang et al. (2024), Qwen2.5-Math technical report (arXiv:2409.12122), section 5, and the README of its
evaluation.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from eval.api import Problem
from eval.graders.algebra import are_near_as_percent, are_same, formula, number
from eval.graders.pooled import Question
from eval.graders.spelling import last_box, respelled

KEEPS_UNITS = ("minerva_math",)
"""Benchmarks on which words are not taken for units."""
MAX_DEPTH = 3
"""Tuples inside tuples are compared this far."""

_ANSWER_IS = re.compile(r"(?:he answer is|答案是)")
_LAST_NUMBER = re.compile(r"-?\d*\.?\d+")
_LETTER = re.compile(r"\b([A-E])\b")
_INSIDE = re.compile(r"[(\[](.+)[)\]]", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)
_BRACKETS = str.maketrans("", "", "{}()")


def prepare(response: str, problem: Problem) -> Question | None:
    """Find and respell the answer as these rules do."""
    if problem.kind == "choice":
        letters = _LETTER.findall(last_box(response) or response.rstrip(" .:/"))
        return Question(answer=letters[-1], gold=problem.answer, found=letters[-1]) if letters else None
    found = _found(response)
    if not found:
        return None
    keeps_units = problem.id.startswith(KEEPS_UNITS)
    answer = respelled(re.sub(r"\n\s*", "", found).lstrip(":").rstrip("./"), keeps_units=keeps_units)
    return Question(answer=answer, gold=respelled(problem.answer, keeps_units=keeps_units), found=found)


def _found(response: str) -> str:
    box = last_box(response)
    if box is not None:
        return box.strip()
    said = _ANSWER_IS.split(response)
    if len(said) > 1:
        return said[-1].strip()
    numbers = _LAST_NUMBER.findall(response.replace(",", ""))
    return numbers[-1] if numbers else ""


def judge(answer: str, gold: str) -> Literal["right", "wrong"]:
    """Compare two respelled answers."""
    return "right" if _is_equal(answer, gold, MAX_DEPTH) else "wrong"


def _is_equal(answer: str, gold: str, depth: int) -> bool:
    if answer.casefold() == gold.casefold():
        return True
    first, second = number(answer), number(gold)
    if first is not None and second is not None:
        return are_near_as_percent(first, second)
    if not answer or depth == 0:
        return False
    if _bare(answer, gold) == _bare(gold, answer):
        return True
    pairs = _pairs(answer, gold)
    if pairs is not None and all(_is_equal(one, other, depth - 1) for one, other in pairs):
        return True
    if answer.count("=") == gold.count("=") == 1:
        return _same_equation(answer, gold)
    return _same_formula(answer, gold)


def _bare(text: str, other: str) -> str:
    """An answer without brackets: (1,2), [1,2] and 1,2 are one, but for (…) against […], which only braces leave."""
    is_other_kind = (text[0], other[:1]) in (("(", "["), ("[", "("))
    return (text if is_other_kind else text.strip("()[]")).translate(_BRACKETS).casefold()


def _pairs(answer: str, gold: str) -> list[tuple[str, str]] | None:
    """The parts of two tuples or matrices of one size, place by place."""
    matrices = _MATRIX.fullmatch(answer), _MATRIX.fullmatch(gold)
    if matrices[0] and matrices[1]:
        first, second = (re.split(r"\\\\|&", match[1]) for match in matrices if match)
    else:
        tuples = _INSIDE.fullmatch(answer), _INSIDE.fullmatch(gold)
        if not (tuples[0] and tuples[1]):
            return None
        first, second = (match[1].split(",") for match in tuples if match)
    return list(zip(first, second, strict=True)) if len(first) == len(second) else None


def _same_equation(answer: str, gold: str) -> bool:
    first, second = _zero(answer), _zero(gold)
    return first is not None and second is not None and (are_same(first, second) or are_same(-first, second))


def _zero(equation: str) -> Any | None:
    """Return left − right of an equation; None where a side is no formula."""
    left, right = (formula(side) for side in equation.split("="))
    return None if left is None or right is None else left - right


def _same_formula(answer: str, gold: str) -> bool:
    left, right = formula(answer), formula(gold)
    return left is not None and right is not None and are_same(left, right)
