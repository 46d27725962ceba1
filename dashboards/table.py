"""Frame → Table: base first, then arms in planned order; one column a benchmark, their macro average, Δ with p.

Seeds of an arm share a row, and the row says how many of those planned are in it. What failed or is missing stands in
its place and is never averaged away. All numbers are fractions here; `dashboards.render` prints percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dashboards.deltas import Delta, PerProblem, macro_delta, merged_seeds, paired_delta
from dashboards.frame import AXIS
from eval.stats import avg_at_k

DASH = "–"
"""Where an axis does not apply, and where there is nothing to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm on one benchmark, or its macro average over benchmarks."""

    avg: float | None
    """None where something of it is missing; `note` says what."""
    standard_error: float | None
    """Clustered by question, seeds merged; of a macro average sqrt(Σ SE²) / B."""
    generation_error: float | None
    num_problems: int
    """Questions, summed over benchmarks for the average."""
    num_samples: int
    """K of one seed."""
    num_seeds: int
    """Seeds that are in the number."""
    delta_base: Delta | None
    delta_dense: Delta | None
    note: str
    """Empty for a number that stands for all that was planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One arm."""

    arm: str
    kind: str
    labels: tuple[str, ...]
    """One a label column: the arm's value on each axis, a dash where the axis does not apply."""
    cells: tuple[Cell, ...]
    """One a benchmark."""
    average: Cell
    """Macro average over the benchmarks; the cell itself where there is one benchmark."""
    num_seeds_planned: int
    mean_tokens: float | None
    clip_rate: float | None
    no_box_rate: float | None
    notes: tuple[str, ...]
    """A line for each trial that has no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What every format prints."""

    experiment: str
    label_columns: tuple[str, ...]
    benchmarks: tuple[str, ...]
    rows: tuple[Row, ...]
    facts: tuple[str, ...]
    """What holds for the whole table: n × K, sampling settings, versions, how errors were made."""

    @property
    def is_single(self) -> bool:
        """Whether there is one benchmark, whose column is then the average."""
        return len(self.benchmarks) == 1

    @property
    def has_seeds(self) -> bool:
        """Whether any arm was planned with several seeds."""
        return any(row.num_seeds_planned > 1 for row in self.rows)


def table(frame: pd.DataFrame) -> Table:
    """Lay out the frame of one experiment."""
    axes = [column for column in frame.columns if str(column).startswith(AXIS)]
    benchmarks = tuple(frame["benchmark"].unique())
    arms = {str(arm): part for arm, part in frame.groupby("arm", sort=False)}
    merged = {(arm, name): _merged(part, name) for arm, part in arms.items() for name in benchmarks}
    num_base = frame.loc[frame["kind"] == "base", "arm"].nunique()
    rows = []
    for arm, part in arms.items():
        base, dense = _base_of(part, frame), _dense_of(part, frame)
        cells = tuple(
            _cell(
                part[part["benchmark"] == name],
                merged[arm, name],
                base=merged.get((base, name)) if base else None,
                dense=merged.get((dense, name)) if dense else None,
            )
            for name in benchmarks
        )
        rows.append(_row(part, cells, labels=_labels(part, axes, has_many_bases=num_base > 1)))
    return Table(
        experiment=str(frame.attrs.get("experiment", "")),
        label_columns=tuple(axis.removeprefix(AXIS) for axis in axes) or ("arm",),
        benchmarks=benchmarks,
        rows=tuple(rows),
        facts=_facts(frame, rows),
    )


def _row(part: pd.DataFrame, cells: tuple[Cell, ...], *, labels: tuple[str, ...]) -> Row:
    unscored = part[part["state"] != "scored"]
    notes = dict.fromkeys(f"{label}: {reason}" for label, reason in zip(unscored.label, unscored.reason, strict=True))
    return Row(
        arm=str(part["arm"].iloc[0]),
        kind=str(part["kind"].iloc[0]),
        labels=labels,
        cells=cells,
        average=cells[0] if len(cells) == 1 else _macro_average(cells),
        num_seeds_planned=int(part["trial"].nunique()),
        mean_tokens=_mean(part["mean_tokens"]),
        clip_rate=_mean(part["clip_rate"]),
        no_box_rate=_mean(part["no_box_rate"]),
        notes=tuple(notes),
    )


def _cell(part: pd.DataFrame, merged: PerProblem | None, *, base: PerProblem | None, dense: PerProblem | None) -> Cell:
    scored = part[part["state"] == "scored"]
    num_samples = int(part["num_samples"].iloc[0]) if len(part) else 0
    if merged is None:
        return _empty_cell(_absence(part), num_samples=num_samples)
    average = avg_at_k(merged)
    planned = len(part)
    return Cell(
        avg=average.mean,
        standard_error=average.standard_error,
        generation_error=average.generation_error,
        num_problems=average.num_problems,
        num_samples=num_samples,
        num_seeds=len(scored),
        delta_base=paired_delta(merged, base),
        delta_dense=paired_delta(merged, dense),
        note="" if len(scored) == planned else f"{len(scored)} of {planned} seeds",
    )


def _empty_cell(note: str, *, num_samples: int) -> Cell:
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


def _macro_average(cells: Sequence[Cell]) -> Cell:
    present = [cell for cell in cells if cell.avg is not None]
    if len(present) < len(cells):
        return _empty_cell(f"{len(present)} of {len(cells)} benchmarks", num_samples=cells[0].num_samples)
    generation = [cell.generation_error for cell in present if cell.generation_error is not None]
    return Cell(
        avg=sum(cell.avg or 0.0 for cell in present) / len(present),
        standard_error=_root_sum(cell.standard_error for cell in present),
        generation_error=_root_sum(generation) if len(generation) == len(present) else None,
        num_problems=sum(cell.num_problems for cell in present),
        num_samples=cells[0].num_samples,
        num_seeds=min(cell.num_seeds for cell in present),
        delta_base=macro_delta([cell.delta_base for cell in present]),
        delta_dense=macro_delta([cell.delta_dense for cell in present]),
        note=next((cell.note for cell in present if cell.note), ""),
    )


def _root_sum(errors: Iterable[float | None]) -> float:
    squares = [math.nan if error is None else error**2 for error in errors]
    return math.sqrt(sum(squares)) / len(squares)


def _merged(part: pd.DataFrame, benchmark: str) -> PerProblem | None:
    scored = part[(part["benchmark"] == benchmark) & (part["state"] == "scored")]
    return merged_seeds([one for one in scored["per_problem"] if one is not None])


def _absence(part: pd.DataFrame) -> str:
    """What stands in a cell that no seed has a number for."""
    scored = part[part["state"] == "scored"]
    if len(scored):
        return "seeds differ in their questions"
    reasons = list(dict.fromkeys(part["reason"]))
    return str(reasons[0]) if len(reasons) == 1 else ", ".join(dict.fromkeys(part["state"]))


def _base_of(part: pd.DataFrame, frame: pd.DataFrame) -> str | None:
    """The base row that an arm started from; None for a base row itself."""
    if part["kind"].iloc[0] == "base":
        return None
    found = frame[(frame["kind"] == "base") & (frame["model_digest"] == part["model_digest"].iloc[0])]
    return str(found["arm"].iloc[0]) if len(found) else None


def _dense_of(part: pd.DataFrame, frame: pd.DataFrame) -> str | None:
    """The arm of the same family with full selection; None for that arm itself and for base rows."""
    if part["method"].iloc[0] in (None, "full"):
        return None
    found = frame[(frame["family"] == part["family"].iloc[0]) & (frame["method"] == "full")]
    return str(found["arm"].iloc[0]) if len(found) else None


def _labels(part: pd.DataFrame, axes: Sequence[str], *, has_many_bases: bool) -> tuple[str, ...]:
    first = part.iloc[0]
    if first["kind"] == "base":
        name = f"base {first['model']}" if has_many_bases else "base"
        return (name, *[DASH] * (len(axes) - 1))
    if not axes:
        return (f"{first['algorithm']} · {first['method']}",)
    return tuple(DASH if pd.isna(first[axis]) else _shown(first[axis]) for axis in axes)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mean(values: pd.Series) -> float | None:
    """Mean over the rows that have a number; None where there is none."""
    present = values.dropna()
    return float(present.mean()) if len(present) else None


def _facts(frame: pd.DataFrame, rows: Sequence[Row]) -> tuple[str, ...]:
    scored = frame[frame["state"] == "scored"]
    sizes = scored.groupby("benchmark", sort=False)[["num_problems", "num_samples"]].max()
    facts = [
        f"{name}: n = {int(size['num_problems'])} questions × K = {int(size['num_samples'])} samples"
        for name, size in sizes.iterrows()
    ]
    facts.append(
        "Cells: avg@K ± standard error in percent, errors clustered by question. "
        "Δ: difference on the same questions ± its standard error, p of the two-sided paired t test, not adjusted "
        "for the number of rows."
    )
    facts.append(_seed_fact(rows))
    for column, label in (
        ("temperature", "temperature"),
        ("template", "template"),
        ("max_new_tokens", "new tokens at most"),
        ("benchmark_digest", "data"),
        ("grader_version", "grader"),
        ("engine", "engine"),
    ):
        values = [_shown(value)[:24] for value in scored[column].dropna().unique()]
        if values:
            facts.append(f"{label}: {', '.join(values)}")
    return tuple(facts)


def _seed_fact(rows: Sequence[Row]) -> str:
    trained = [row for row in rows if row.kind != "base"]
    fewest = min((row.num_seeds_planned for row in trained), default=1)
    if fewest < 3:
        return f"Seeds: {fewest} an arm, so errors hold sampling noise only, not the noise of training."
    return f"Seeds: {fewest} an arm; their samples are merged, so errors do not hold the noise between seeds."
