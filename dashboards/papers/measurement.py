"""What our trials say of one arm on one benchmark, under the metric that a paper's column asks for.

Seeds that are failed, missing, unreadable or graded otherwise are counted and named, never averaged away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from dashboards.cells import difference, mean_of_arms
from dashboards.papers.compared import HAS_NUMBER, CellState
from dashboards.table import arm_behind
from eval.comparison import Arm, Difference
from eval.stats import PerProblem, pass_at_k

NOBODY = Arm(runs={})
ORDER: tuple[CellState, ...] = (
    *("not_run", "missing", "running", "stopped", "failed", "mixed"),
    *("partial", "other_grader"),
)
"""What a mean over benchmarks is called after: the first of these that one of them is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One arm on one benchmark."""

    state: CellState
    note: str
    arm: Arm
    """The seeds that count; none unless the state has a number."""
    num_seeds_planned: int
    num_samples: int
    grader: str | None = None
    """Version behind the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """One arm over the benchmarks of a column. Fractions."""

    state: CellState
    note: str
    value: float | None
    standard_error: float | None
    num_problems: int
    num_seeds: int


def not_run(note: str = "not run") -> Measurement:
    """Of an arm or benchmark that the experiment does not have."""
    return Measurement(state="not_run", note=note, arm=NOBODY, num_seeds_planned=0, num_samples=0)


def measure(rows: pd.DataFrame, metrics: Sequence[str], *, usual_grader: str | None) -> Measurement:
    """Read the seeds of an arm on a benchmark.

    Args:
        rows: of `ExperimentRuns.rows_of`, one a seed.
        metrics: `avg@K`, `pass@1`, `pass@4`, …; of several the mean by question.
        usual_grader: version that graded most of the table.
    """
    if rows.empty:
        return not_run()
    seeds = zip(rows["state"], rows["reason"], rows["per_problem"], strict=True)
    faults = [str(reason) if state != "scored" else _fault(verdicts, metrics) for state, reason, verdicts in seeds]
    good = rows[[not fault for fault in faults]]
    if good.empty:
        return _absent(rows, faults)
    state, note = _condition(good, len(rows), usual_grader)
    found = arm_behind(good if state in HAS_NUMBER else good.iloc[:0])
    runs = {seed: _values(per_problem, metrics) for seed, per_problem in found.runs.items()}
    return Measurement(
        state=state,
        note=note,
        arm=replace(found, runs=runs),
        num_seeds_planned=len(rows),
        num_samples=int(rows["num_samples"].iloc[0]),
        grader=str(good["grader_version"].iloc[0]),
    )


def mean_of(measurements: Sequence[Measurement]) -> Mean:
    """Plain mean over benchmarks; no number where one of them has none, as a mean over fewer is another number."""
    state, note = _worst(measurements)
    seeds = min(len(one.arm.runs) for one in measurements)
    if state not in HAS_NUMBER:
        return Mean(state=state, note=note, value=None, standard_error=None, num_problems=0, num_seeds=0)
    average = mean_of_arms([one.arm for one in measurements])
    return Mean(
        state=state,
        note=note,
        value=average.value,
        standard_error=None if average.standard_error != average.standard_error else average.standard_error,
        num_problems=average.num_problems,
        num_seeds=seeds,
    )


def difference_of(first: Sequence[Measurement], second: Sequence[Measurement]) -> Difference | None:
    """First − second, paired by question on each benchmark, then averaged.

    None where a number is missing, or the two answered other questions or were graded by other versions.
    """
    pairs = list(zip(first, second, strict=True))
    if any(ours.grader != theirs.grader for ours, theirs in pairs):
        return None
    return difference([one.arm for one in first], [one.arm for one in second])


def _fault(per_problem: Mapping[str, Sequence[int]], metrics: Sequence[str]) -> str:
    """Why a seed that is scored cannot be counted; empty if it can."""
    wanted = max(_k_of(metric) for metric in metrics)
    fewest = min(len(samples) for samples in per_problem.values())
    return "" if fewest >= wanted else f"pass@{wanted} needs {wanted} samples a question, there are {fewest}"


def _absent(rows: pd.DataFrame, faults: Sequence[str]) -> Measurement:
    """No seed counts: the reason of the first, and of how many."""
    states = list(rows["state"])
    state: CellState = next((one for one in ("failed", "running", "stopped") if one in states), "missing")
    reasons = [fault for fault, one in zip(faults, states, strict=True) if one == state or state == "missing"]
    note = reasons[0] if len(set(faults)) == 1 else f"{reasons[0]} ({len(reasons)} of {len(rows)} seeds)"
    return Measurement(
        state=state, note=note, arm=NOBODY, num_seeds_planned=len(rows), num_samples=int(rows["num_samples"].iloc[0])
    )


def _condition(good: pd.DataFrame, num_planned: int, usual_grader: str | None) -> tuple[CellState, str]:
    versions = [str(version) for version in good["grader_version"].unique()]
    if len(versions) > 1:
        return "mixed", f"seeds graded by {len(versions)} versions: {', '.join(versions)}"
    questions = {frozenset(per_problem) for per_problem in good["per_problem"]}
    if len(questions) > 1 or good["benchmark_digest"].nunique() > 1:
        return "mixed", "its seeds answer different questions"
    seeds = "" if len(good) == num_planned else f"{len(good)} of {num_planned} seeds"
    if usual_grader is not None and versions[0] != usual_grader:
        return "other_grader", ", ".join([*([seeds] if seeds else []), f"grader {versions[0]}"])
    return ("partial", seeds) if seeds else ("ok", "")


def _values(per_problem: PerProblem, metrics: Sequence[str]) -> PerProblem:
    """Samples as they are for an average over samples; else one number a question, the mean of the metrics."""
    if all(_k_of(metric) == 1 for metric in metrics):
        return per_problem
    values = {}
    for problem, samples in per_problem.items():
        chances = [pass_at_k({problem: samples}, _k_of(metric))[0] for metric in metrics]
        values[problem] = (sum(chances) / len(chances),)
    return values


def _k_of(metric: str) -> int:
    """Of pass@k; an avg@K is an average of single samples."""
    kind, _, k = metric.partition("@")
    return int(k) if kind == "pass" else 1


def _worst(measurements: Sequence[Measurement]) -> tuple[CellState, str]:
    if len(measurements) == 1:
        return measurements[0].state, measurements[0].note
    for state in ORDER:
        found = [one for one in measurements if one.state == state]
        if found:
            note = found[0].note if len({one.note for one in found}) == 1 else found[0].note + ", …"
            is_all = len(found) == len(measurements)
            return state, note if is_all else f"{note} ({len(found)} of {len(measurements)} benchmarks)"
    return "ok", ""
