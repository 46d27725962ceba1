"""Graders that call sympy on what an answer says, hence in workers that can be killed: math_verify, qwen, prime.

response, problem ─ prepare ─▶ Question ─ judge(answer, gold) in a worker of `eval.grading.pool` ─▶ verdict
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from eval.api import Grade, Problem
from eval.graders.api import GraderName
from eval.grading.pool import Verdict, shared_pool
from eval.grading.version import library_versions

_SHARED_FILES = ("pooled.py", "algebra.py", "latex.py", "plain_text.py", "spelling.py", "word_numbers.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a worker is asked."""

    answer: str
    gold: str
    found: str
    """The answer as it stands in the response: what the grade shows."""


Prepare = Callable[[str, Problem], Question | None]
"""(response, problem) → what is judged, or None where the response holds no answer."""


@dataclass(frozen=True)
class PooledGrader:
    """A `Grader` whose module has a function `judge(answer, gold)`."""

    name: GraderName
    module: str
    prepare: Prepare

    @cached_property
    def version(self) -> str:
        """The name, and a hash over the module, what it shares with others, and the libraries that it calls."""
        digest = hashlib.sha256()
        folder = Path(__file__).parent
        for file in (f"{self.module.rpartition('.')[2]}.py", *_SHARED_FILES):
            digest.update(file.encode() + b"\0" + (folder / file).read_bytes() + b"\0")
        for library, version in library_versions().items():
            digest.update(f"{library}=={version}\n".encode())
        return f"{self.name}:{digest.hexdigest()[:12]}"

    def grade_many(self, pairs: Iterable[tuple[str, Problem]]) -> list[Grade]:
        """Grade (response, problem) pairs, in order; all workers at once."""
        questions = [self.prepare(response, problem) for response, problem in pairs]
        asked = [None if question is None else self._ask(question) for question in questions]
        return [
            self._without_answer() if question is None or verdict is None else self._grade(question, verdict.result())
            for question, verdict in zip(questions, asked, strict=True)
        ]

    def _ask(self, question: Question) -> Future[Verdict]:
        return shared_pool(self.module).submit(question.answer, question.gold)

    def _grade(self, question: Question, verdict: Verdict) -> Grade:
        return Grade(
            is_correct=verdict.is_correct,
            answer=question.found,
            method=self.name,
            status=verdict.status,
            elapsed_ms=verdict.elapsed_ms,
            grader_version=self.version,
        )

    def _without_answer(self) -> Grade:
        return Grade(
            is_correct=False,
            answer=None,
            method="extract",
            status="none",
            elapsed_ms=0.0,
            grader_version=self.version,
        )
