"""What a grader is, and how its version names it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, get_args

from eval.api import Grade, Problem

GraderName = Literal["ours", "math_verify", "qwen", "prime", "judge"]
GRADERS: tuple[GraderName, ...] = get_args(GraderName)
OURS: GraderName = "ours"


class Grader(Protocol):
    """Gives verdicts on whole responses: each grader finds the answer in one by rules of its own."""

    @property
    def name(self) -> GraderName:
        """What the command line and the tables call it."""

    @property
    def version(self) -> str:
        """Changes whenever a verdict could: hex digits for ours, `name:…` for any other."""

    def grade_many(self, pairs: Iterable[tuple[str, Problem]]) -> list[Grade]:
        """Grade (response, problem) pairs, in order.

        Raises:
            EngineError: the endpoint of a judge fails; verdicts that it gave are kept for the next call.
        """


def regrade_command(grader: str) -> str:
    """Return the command that gives a grader's verdicts on what is stored."""
    return "orch regrade" if grader == OURS else f"orch regrade --grader {grader}"


def grader_name(version: str) -> str:
    """Return which grader a version is of: `ours`, or what stands before the colon."""
    name, colon, _ = version.partition(":")
    return name if colon else OURS
