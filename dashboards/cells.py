"""One cell of a table: an arm on one or several benchmarks, averaged over its seeds, and its distance from others.

Source: docs/evaluation.md#statistics; the numbers are those of `eval.comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eval.comparison import Arm, Difference, Estimate, Part, compare_on_all, estimate
from eval.errors import DataError
from eval.stats import avg_at_k


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm on one benchmark, or its macro average over benchmarks. Fractions, not percent."""

    avg: float | None
    """Mean over seeds of avg@K; None where there is none, and `note` says why."""
    standard_error: float | None
    """Over seeds and questions from two seeds on; of one checkpoint over questions."""
    generation_error: float | None
    """From sampling alone; None for K = 1 and one seed."""
    num_problems: int
    """Questions, summed over benchmarks for the average."""
    num_samples: int
    """K of one seed."""
    num_seeds: int
    """Seeds that are in the number; the fewest of a benchmark."""
    delta_base: Difference | None
    """Over the model that it started from; None for that model itself."""
    delta_dense: Difference | None
    """Over the same recipe trained on all tokens; None for that arm itself."""
    note: str
    """Empty for a number that stands for all that was planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there of one arm on one benchmark."""

    arm: Arm
    """The seeds that are scored."""
    graders: tuple[str, ...]
    """Versions that graded them, each once."""
    num_planned: int
    num_samples: int
    absence: str
    """What to say where there are no runs."""

    @property
    def lack(self) -> str:
        """Why there is no number; empty if there is."""
        runs = self.arm.runs
        if not runs:
            return self.absence
        if len(self.graders) > 1:
            return f"seeds graded by {len(self.graders)} versions: {', '.join(self.graders)}"
        return "" if len({frozenset(run) for run in runs.values()}) == 1 else "its seeds answer different questions"


def make_cell(found: Sequence[Found], *, base: Sequence[Found] | None, dense: Sequence[Found] | None) -> Cell:
    """Average an arm over its benchmarks and compare it with those that the same versions graded.

    Empty where a benchmark has no number, as a mean over fewer is another number.
    """
    lacks = [one.lack for one in found]
    if any(lacks):
        count = sum(not lack for lack in lacks)
        note = lacks[0] if len(set(lacks)) == 1 else f"{count} of {len(found)} benchmarks"
        return empty_cell(note, num_samples=found[0].num_samples)
    average = mean_of_arms([one.arm for one in found])
    return Cell(
        avg=average.value,
        standard_error=average.standard_error,
        generation_error=_generation_error(found),
        num_problems=average.num_problems,
        num_samples=found[0].num_samples,
        num_seeds=min(len(one.arm.runs) for one in found),
        delta_base=_difference(found, base),
        delta_dense=_difference(found, dense),
        note=next((_partial(one) for one in found if _partial(one)), ""),
    )


def empty_cell(note: str, *, num_samples: int) -> Cell:
    """A cell without a number, and why."""
    return Cell(
        avg=None,
        standard_error=None,
        generation_error=None,
        num_problems=0,
        num_samples=num_samples,
        num_seeds=0,
        delta_base=None,
        delta_dense=None,
        note=note,
    )


def mean_of_arms(arms: Sequence[Arm]) -> Estimate:
    """The plain mean over benchmarks of an arm, one entry a benchmark."""
    return estimate([Part(weight=1 / len(arms), benchmark=str(place), arm=arm) for place, arm in enumerate(arms)])


def difference(first: Sequence[Arm], second: Sequence[Arm]) -> Difference | None:
    """First − second over the benchmarks; None where either is empty or they do not answer the same questions."""
    if not all(arm.runs for arm in (*first, *second)):
        return None
    try:
        return compare_on_all(first, second)
    except DataError:
        return None


def _difference(found: Sequence[Found], other: Sequence[Found] | None) -> Difference | None:
    if other is None or any(ours.graders != theirs.graders for ours, theirs in zip(found, other, strict=True)):
        return None
    return difference([one.arm for one in found], [one.arm for one in other])


def _partial(found: Found) -> str:
    count = len(found.arm.runs)
    return "" if count == found.num_planned else f"{count} of {found.num_planned} seeds"


def _generation_error(found: Sequence[Found]) -> float | None:
    """sqrt(Σ SE²) / B: what is drawn on one benchmark says nothing of another."""
    errors = []
    for one in found:
        runs = list(one.arm.runs.values())
        merged = {problem: [sample for run in runs for sample in run[problem]] for problem in runs[0]}
        errors.append(avg_at_k(merged).generation_error)
    present = [error for error in errors if error is not None]
    return math.sqrt(sum(error**2 for error in present)) / len(errors) if len(present) == len(errors) else None
