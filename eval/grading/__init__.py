"""One grader for reward and evaluation: extract the boxed answer, compare exactly, and only then ask math_verify.

    grade(response, problem) -> Grade        is_correct is the reward
    grade_answer(answer, problem) -> Grade   the same for a bare answer
    grade_many(pairs) -> list[Grade]         undecided pairs go to the pool together

Everything that is not a complete, equal answer is wrong, and `status` says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from eval.api import Grade, Problem
from eval.grading.exact import decide
from eval.grading.extract import extract
from eval.grading.version import grader_version

__all__ = ["grade", "grade_answer", "grade_many", "grader_version"]


def grade(response: str, problem: Problem) -> Grade:
    """Grade one response by its last complete boxed answer."""
    started = perf_counter()
    extraction = extract(response)
    if extraction.answer is None:
        return _grade(False, None, "extract", extraction.status, started)
    return _grade_answer(extraction.answer, problem, started)


def grade_answer(answer: str, problem: Problem) -> Grade:
    """Grade a bare answer, without looking for a box."""
    started = perf_counter()
    if not answer.strip():
        return _grade(False, None, "extract", "empty", started)
    return _grade_answer(answer.strip(), problem, started)


def grade_many(pairs: Iterable[tuple[str, Problem]]) -> list[Grade]:
    """Grade (response, problem) pairs, in order."""
    return [grade(response, problem) for response, problem in pairs]


def _grade_answer(answer: str, problem: Problem, started: float) -> Grade:
    decision = decide(answer, problem)
    return _grade(bool(decision.is_correct), answer, decision.method, "ok", started)


def _grade(is_correct: bool, answer: str | None, method: str, status: str, started: float) -> Grade:
    return Grade(
        is_correct=is_correct,
        answer=answer,
        method=method,
        status=status,  # type: ignore[arg-type]
        elapsed_ms=(perf_counter() - started) * 1e3,
        grader_version=grader_version(),
    )
