"""The three values of a comparison, each with the rule that gave it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["right", "wrong", "undecided"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and the rule behind it."""

    verdict: Verdict
    method: str

    @property
    def is_correct(self) -> bool | None:
        """The verdict as a truth value; None for undecided."""
        return {"right": True, "wrong": False, "undecided": None}[self.verdict]


UNDECIDED = Decision("undecided", "undecided")
EXACT = Decision("right", "exact")
RIGHT = Decision("right", "parts")
WRONG = Decision("wrong", "parts")


def from_bool(is_correct: bool, method: str) -> Decision:
    """Return right or wrong by a rule."""
    return Decision("right" if is_correct else "wrong", method)


def all_of(decisions: Iterable[Decision]) -> Decision:
    """Right if all are; wrong if one is proved to be, after which no more are asked for."""
    is_certain = True
    for decision in decisions:
        if decision.verdict == "wrong":
            return WRONG
        is_certain &= decision.verdict == "right"
    return RIGHT if is_certain else UNDECIDED
