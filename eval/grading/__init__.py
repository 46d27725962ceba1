"""One grader for reward and evaluation: extract the boxed answer, compare exactly, and only then ask math_verify.

    grade(response, problem) -> Grade        is_correct is the reward
    grade_answer(answer, problem) -> Grade   the same for a bare answer
    grade_many(pairs) -> list[Grade]         undecided pairs go to the pool together

Everything that is not a complete, equal answer is wrong, and `status` says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from time import perf_counter

from eval.api import Grade, GradeStatus, Problem
from eval.grading.exact import decide
from eval.grading.extract import extract
from eval.grading.pool import Verdict, shared_pool
from eval.grading.version import grader_version

__all__ = ["grade", "grade_answer", "grade_answer_async", "grade_async", "grade_many", "grader_version"]


def grade(response: str, problem: Problem) -> Grade:
    """Grade one response by its last complete boxed answer. At most seconds; microseconds for most."""
    return grade_async(response, problem).result()


def grade_answer(answer: str, problem: Problem) -> Grade:
    """Grade a bare answer, without looking for a box."""
    return grade_answer_async(answer, problem).result()


def grade_answer_async(answer: str, problem: Problem) -> Future[Grade]:
    """Grade a bare answer without waiting."""
    return _grade_answer(answer.strip(), problem, perf_counter())


def grade_many(pairs: Iterable[tuple[str, Problem]]) -> list[Grade]:
    """Grade (response, problem) pairs, in order; what is undecided is worked on by all workers at once."""
    return [future.result() for future in [grade_async(response, problem) for response, problem in pairs]]


def grade_async(response: str, problem: Problem) -> Future[Grade]:
    """Grade one response without waiting: the future is done at once unless the slow path is needed."""
    started = perf_counter()
    extraction = extract(response)
    if extraction.answer is None:
        return _done(False, None, "extract", extraction.status, started)
    return _grade_answer(extraction.answer, problem, started)


def _grade_answer(answer: str, problem: Problem, started: float) -> Future[Grade]:
    if not answer:
        return _done(False, None, "extract", "empty", started)
    decision = decide(answer, problem)
    if decision.is_correct is not None:
        return _done(decision.is_correct, answer, decision.method, "ok", started)
    return _ask_pool(answer, problem, started)


def _ask_pool(answer: str, problem: Problem, started: float) -> Future[Grade]:
    graded: Future[Grade] = Future()

    def finish(verdict: Future[Verdict]) -> None:
        found = verdict.result()
        graded.set_result(_grade(found.is_correct, answer, "math_verify", found.status, started))

    shared_pool().submit(answer, problem.answer).add_done_callback(finish)
    return graded


def _done(is_correct: bool, answer: str | None, method: str, status: GradeStatus, started: float) -> Future[Grade]:
    graded: Future[Grade] = Future()
    graded.set_result(_grade(is_correct, answer, method, status, started))
    return graded


def _grade(is_correct: bool, answer: str | None, method: str, status: GradeStatus, started: float) -> Grade:
    return Grade(
        is_correct=is_correct,
        answer=answer,
        method=method,
        status=status,
        elapsed_ms=(perf_counter() - started) * 1e3,
        grader_version=grader_version(),
    )
