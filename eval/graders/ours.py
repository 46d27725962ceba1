"""Our grader behind the interface of all: what gives rewards and scores (`eval.grading`)."""

from __future__ import annotations

from collections.abc import Iterable

from eval.api import Grade, Problem
from eval.graders.api import OURS, GraderName
from eval.grading import grade_many, grader_version


class OurGrader:
    """A `Grader` over `eval.grading`."""

    name: GraderName = OURS

    @property
    def version(self) -> str:
        """The version that scores carry: without a name before it."""
        return grader_version()

    def grade_many(self, pairs: Iterable[tuple[str, Problem]]) -> list[Grade]:
        """Grade (response, problem) pairs, in order."""
        return grade_many(pairs)
