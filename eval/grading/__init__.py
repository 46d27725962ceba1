"""One grader for reward and evaluation: extract the boxed answer, compare exactly, and only then ask math_verify.

Inside there are three verdicts, right, wrong and undecided (`eval.grading.verdicts`). What the exact path leaves
undecided goes to math_verify; what stays undecided there is wrong, and counted by its status.

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
    if decision.verdict == "undecided":
        return _ask_pool(answer, problem, started)
    return _done(decision.verdict == "right", answer, decision.method, "ok", started)


def _ask_pool(answer: str, problem: Problem, started: float) -> Future[Grade]:
    graded: Future[Grade] = Future()
    fast_ms = (perf_counter() - started) * 1e3

    def finish(verdict: Future[Verdict]) -> None:
        found = verdict.result()
        graded.set_result(_grade(found.is_correct, answer, "math_verify", found.status, fast_ms + found.elapsed_ms))

    shared_pool().submit(answer, problem.answer).add_done_callback(finish)
    return graded


def _done(is_correct: bool, answer: str | None, method: str, status: GradeStatus, started: float) -> Future[Grade]:
    graded: Future[Grade] = Future()
    graded.set_result(_grade(is_correct, answer, method, status, (perf_counter() - started) * 1e3))
    return graded


def _grade(is_correct: bool, answer: str | None, method: str, status: GradeStatus, elapsed_ms: float) -> Grade:
    return Grade(
        is_correct=is_correct,
        answer=answer,
        method=method,
        status=status,
        elapsed_ms=elapsed_ms,
        grader_version=grader_version(),
    )
