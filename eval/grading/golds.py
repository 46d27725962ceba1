"""Judges gold answers: which are not compared as they stand, and which would accept an answer that says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from eval.api import Problem
from eval.grading.equations import is_empty_equation
from eval.grading.exact import decide
from eval.grading.formula.nodes import Chain
from eval.grading.reading import read

SAYING_NOTHING = ("", "1=1", "0=0", "x=x", "0")
"""Answers that no gold may accept, but `0` where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldFinding:
    """One gold that a reader of a score should know of."""

    id: str
    gold: str
    message: str
    """What is wrong with it and what is compared instead."""


def judge_golds(problems: Iterable[Problem]) -> Iterator[GoldFinding]:
    """Yield a finding for each gold that is compared otherwise than it stands."""
    for problem in problems:
        message = _judge(problem)
        if message is not None:
            yield GoldFinding(id=problem.id, gold=problem.answer, message=message)


def accepts_nothing(problem: Problem) -> str | None:
    """Return the empty answer that a gold accepts, or None."""
    if problem.kind == "choice":
        return None
    says_zero = "0" in problem.answer and not any(digit in "123456789" for digit in problem.answer)
    tried = (text for text in SAYING_NOTHING if not (text == "0" and says_zero))
    return next((text for text in tried if decide(text, problem).verdict == "right"), None)


def _judge(problem: Problem) -> str | None:
    if problem.kind == "choice":
        return None
    reading = read(problem.answer)
    if reading.is_empty:
        return "says nothing: no answer can be right"
    if isinstance(reading.answer, Chain) and is_empty_equation(reading.answer):
        return "is true of everything: only the same text is right"
    accepted = accepts_nothing(problem)
    if accepted is not None:
        return f"accepts {accepted!r}"
    if reading.has_prose:
        return f"ends in prose; compared is {reading.text!r}"
    if reading.answer is None:
        return "is not read for certain: compared as text, then by math_verify"
    if reading.label:
        return f"begins with the label of an option; compared is {reading.text!r}"
    return None
