"""The reward of reinforcement learning is the verdict of evaluation: one grader, so the two cannot drift apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eval.api import Problem
from eval.grading import grade_many


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """What one response earned."""

    value: float
    """1 for a correct boxed answer, else 0."""
    has_answer: bool
    """Whether a complete boxed answer was found at all."""


def rewards(pairs: Iterable[tuple[str, Problem]]) -> list[Reward]:
    """Return the reward of each (response text, problem), in order."""
    return [Reward(value=float(grade.is_correct), has_answer=grade.answer is not None) for grade in grade_many(pairs)]
