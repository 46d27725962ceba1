"""One cell of a table: an arm on a benchmark, averaged over its seeds, and its distance from two other arms.

Source: docs/evaluation.md#statistics; the numbers are those of `eval.stats` and `eval.comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from eval.comparison import FEWEST_SEEDS, Arm, Difference, compare_arms, macro_average
from eval.errors import DataError
from eval.stats import Average, avg_at_k, standard_error_of_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm on one benchmark, or its macro average over benchmarks. Fractions, not percent."""

    avg: float | None
    """Mean over seeds of avg@K; None where there is none, and `note` says why."""
    standard_error: float | None
    """Clustered by question; from three seeds on not less than the error over seeds. Macro: sqrt(Σ SE²) / B."""
    generation_error: float | None
    """From sampling alone; None for K = 1 and one seed."""
    num_problems: int
    """Questions, summed over benchmarks for the average."""
    num_samples: int
    """K of one seed."""
    num_seeds: int
    """Seeds that are in the number."""
    delta_base: Difference | None
    """Over the model that it started from; None for that model itself."""
    delta_dense: Difference | None
    """Over the same recipe trained on all tokens; None for that arm itself."""
    note: str
    """Empty for a number that stands for all that was planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there of one arm on one benchmark."""

    runs: Arm
    """One table of verdicts a seed that is scored."""
    graders: tuple[str, ...]
    """Versions that graded them, each once."""
    num_planned: int
    num_samples: int
    absence: str
    """What to say where there are no runs."""


def make_cell(found: Found, *, base: Found | None, dense: Found | None) -> Cell:
    """Average an arm and compare it with those that the same version graded."""
    if not found.runs:
        return empty_cell(found.absence, num_samples=found.num_samples)
    if len(found.graders) > 1:
        note = f"seeds graded by {len(found.graders)} versions: {', '.join(found.graders)}"
        return empty_cell(note, num_samples=found.num_samples)
    if len({frozenset(run) for run in found.runs}) > 1:
        return empty_cell("its seeds answer different questions", num_samples=found.num_samples)
    average = over_seeds(found.runs)
    is_whole = len(found.runs) == found.num_planned
    return Cell(
        avg=average.mean,
        standard_error=average.standard_error,
        generation_error=average.generation_error,
        num_problems=average.num_problems,
        num_samples=found.num_samples,
        num_seeds=len(found.runs),
        delta_base=_difference(found, base),
        delta_dense=_difference(found, dense),
        note="" if is_whole else f"{len(found.runs)} of {found.num_planned} seeds",
    )


def _difference(found: Found, other: Found | None) -> Difference | None:
    return None if other is None or found.graders != other.graders else difference(found.runs, other.runs)


def macro_cell(cells: Sequence[Cell]) -> Cell:
    """Plain mean over benchmarks; empty where any of them is, as a mean over fewer is another number."""
    present = [cell for cell in cells if cell.avg is not None]
    if len(present) < len(cells):
        notes = {cell.note for cell in cells}
        note = notes.pop() if len(notes) == 1 else f"{len(present)} of {len(cells)} benchmarks"
        return empty_cell(note, num_samples=cells[0].num_samples)
    return Cell(
        avg=fmean(cell.avg or 0.0 for cell in present),
        standard_error=root_sum([cell.standard_error for cell in present]),
        generation_error=root_sum([cell.generation_error for cell in present]),
        num_problems=sum(cell.num_problems for cell in present),
        num_samples=cells[0].num_samples,
        num_seeds=min(cell.num_seeds for cell in present),
        delta_base=_macro_difference([cell.delta_base for cell in present]),
        delta_dense=_macro_difference([cell.delta_dense for cell in present]),
        note=next((cell.note for cell in present if cell.note), ""),
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


def difference(first: Arm, second: Arm) -> Difference | None:
    """First − second by question; None where either is empty or they do not answer the same questions."""
    if not first or not second:
        return None
    try:
        return compare_arms(first, second, with_permutation=False)
    except DataError:
        return None


def over_seeds(runs: Arm) -> Average:
    """avg@K with the samples of all seeds merged by question; from three seeds on with the error over seeds."""
    merged = {problem: [sample for run in runs for sample in run[problem]] for problem in runs[0]}
    average = avg_at_k(merged)
    if len(runs) < FEWEST_SEEDS:
        return average
    error_over_seeds = standard_error_of_mean([avg_at_k(run).mean for run in runs])
    return Average(
        mean=average.mean,
        standard_error=max(average.standard_error, error_over_seeds),
        generation_error=average.generation_error,
        num_problems=average.num_problems,
        num_samples=average.num_samples,
    )


def root_sum(errors: Sequence[float | None]) -> float | None:
    """sqrt(Σ SE²) / B: error of a plain mean over benchmarks; None where one of them has none."""
    present = [error for error in errors if error is not None]
    return math.sqrt(sum(error**2 for error in present)) / len(errors) if len(present) == len(errors) else None


def _macro_difference(differences: Sequence[Difference | None]) -> Difference | None:
    present = [one for one in differences if one is not None]
    return macro_average(present) if present and len(present) == len(differences) else None
