"""Frame → Table: base first, then arms in planned order; one column a benchmark, their macro average, Δ with p.

Seeds of an arm share a row, and the row says how many of those planned are in it. What failed or is missing stands in
its place and is never averaged away. All numbers are fractions here; `dashboards.render` prints percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dashboards.cells import Cell, Found, make_cell
from dashboards.frame import AXIS
from dashboards.more_seeds import MoreSeeds, more_seeds
from dashboards.selector_contrasts import SelectorContrast, control_fact, selector_contrasts
from eval.comparison import MOST_SEEDS, Arm, Difference, holm
from eval.graders.api import grader_name, regrade_command
from eval.seed_model import FEWEST_SEEDS
from trainers.methods import DENSE

DASH = "–"
"""Where an axis does not apply, and where there is nothing to compare with."""
SIGNIFICANT = 0.05
ONE_SEED: Final = "one seed: no verdict"
_SETTINGS = (
    ("temperature", "temperature"),
    ("template", "template"),
    ("max_new_tokens", "new tokens ≤"),
    ("grader_version", "grader"),
    ("engine", "engine"),
)
"""Column → how a table's foot calls it."""


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
    p_base: float | None
    """p that the average's Δ base is one of methods, Holm-adjusted over the rows."""
    p_dense: float | None
    """p that the average's Δ dense is one of methods, Holm-adjusted over the rows."""
    more_base: MoreSeeds | None
    """What would decide the average's Δ base; None where it is decided, or cannot be told."""
    more_dense: MoreSeeds | None
    num_seeds_planned: int
    mean_tokens: float | None
    clip_rate: float | None
    no_box_rate: float | None
    notes: tuple[str, ...]
    """A line for each trial that has no number, and for each comparison that could not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What every format prints."""

    experiment: str
    label_columns: tuple[str, ...]
    benchmarks: tuple[str, ...]
    selectors: tuple[SelectorContrast, ...]
    """Selector against selector on as many tokens: what is shown first."""
    rows: tuple[Row, ...]
    facts: tuple[str, ...]
    """What holds for the whole table: n × K, sampling settings, versions, how errors were made."""
    warnings: tuple[str, ...]
    """What must not be overlooked: several graders, an experiment that changed since its sweep."""

    @property
    def is_single(self) -> bool:
        """Whether there is one benchmark, whose column is then the average."""
        return len(self.benchmarks) == 1


def table(frame: pd.DataFrame) -> Table:
    """Lay out the frame of one experiment."""
    axes = [str(column) for column in frame.columns if str(column).startswith(AXIS)]
    benchmarks = tuple(str(name) for name in frame["benchmark"].unique())
    parts = {str(arm): part for arm, part in frame.groupby("arm", sort=False)}
    found = {arm: [_found(part, name) for name in benchmarks] for arm, part in parts.items()}
    rows = []
    for arm, part in parts.items():
        base, dense = _base_of(part, frame), _dense_of(part, frame)
        others = {"base": found[base] if base else None, "dense": found[dense] if dense else None}
        cells = [
            make_cell([one], **{name: other and other[n : n + 1] for name, other in others.items()})
            for n, one in enumerate(found[arm])
        ]
        rows.append((part, cells, make_cell(found[arm], **others), (base, dense)))
    p_base = holm([_p_of(average.delta_base) for _, _, average, _ in rows])
    p_dense = holm([_p_of(average.delta_dense) for _, _, average, _ in rows])
    label = _Labels(axes, has_many_bases=int(frame.loc[frame["kind"] == "base", "arm"].nunique()) > 1)
    shown = tuple(
        _row(
            part,
            cells,
            average,
            labels=label.of(part),
            adjusted=(p_base[n], p_dense[n]),
            others=tuple(None if other is None else parts[other] for other in others),
        )
        for n, (part, cells, average, others) in enumerate(rows)
    )
    return Table(
        experiment=str(frame.attrs.get("experiment", "")),
        label_columns=tuple(axis.removeprefix(AXIS) for axis in axes) or ("arm",),
        benchmarks=benchmarks,
        selectors=selector_contrasts(
            parts, found, {arm: label.of(part) for arm, part in parts.items()}, significant=SIGNIFICANT
        ),
        rows=shown,
        facts=_facts(frame, shown),
        warnings=_warnings(frame),
    )


def size_facts(frame: pd.DataFrame) -> tuple[str, ...]:
    """How many questions × samples of each benchmark that is scored."""
    facts = []
    for name, part in frame[frame["state"] == "scored"].groupby("benchmark", sort=False):
        sizes = f"n = {_distinct(part['num_problems'])} questions × K = {_distinct(part['num_samples'])} samples"
        facts.append(f"{name}: {sizes}, data {_distinct(part['benchmark_digest'].str[:12])}")
    return tuple(facts)


def settings_fact(frame: pd.DataFrame) -> tuple[str, ...]:
    """How everything was sampled and graded, in one line; none where nothing is scored."""
    scored = frame[frame["state"] == "scored"]
    settings = [f"{label} {_distinct(scored[column])}" for column, label in _SETTINGS if len(scored)]
    return (" · ".join(settings),) if settings else ()


def seed_fact(frame: pd.DataFrame) -> str:
    """How many training seeds an arm has, and what its error therefore covers."""
    seeds = frame[frame["kind"] == "train"].groupby("arm")["trial"].nunique()
    fewest, most = (int(seeds.min()), int(seeds.max())) if len(seeds) else (1, 1)
    number = str(fewest) if fewest == most else f"{fewest} to {most}"
    if most < FEWEST_SEEDS:
        return "Training seeds: 1 an arm; errors are over questions alone and say nothing of training again."
    few = "; where an arm has one, over questions alone" if fewest < FEWEST_SEEDS else ""
    return f"Training seeds: {number} an arm; errors are over questions and seeds{few}."


@dataclass(frozen=True, slots=True)
class _Labels:
    """Names rows by their place in the grid."""

    axes: list[str]
    has_many_bases: bool

    def of(self, part: pd.DataFrame) -> tuple[str, ...]:
        """One text a label column."""
        first = part.iloc[0]
        if first["kind"] == "base":
            name = f"base {first['model']}" if self.has_many_bases else "base"
            return (name, *[DASH] * (len(self.axes) - 1))
        if not self.axes:
            return (f"{first['algorithm']} · {first['method']}",)
        return tuple(DASH if pd.isna(first[axis]) else _shown(first[axis]) for axis in self.axes)


def _row(
    part: pd.DataFrame,
    cells: Sequence[Cell],
    average: Cell,
    *,
    labels: tuple[str, ...],
    adjusted: tuple[float | None, float | None],
    others: tuple[pd.DataFrame | None, ...],
) -> Row:
    unscored = part[part["state"] != "scored"]
    notes = [f"{label}: {reason}" for label, reason in zip(unscored["label"], unscored["reason"], strict=True)]
    spoken = zip(part["label"], part["alarms"], strict=True)
    notes += [f"{label}: guard {text}" for label, texts in spoken for text in texts]
    deltas = (average.delta_base, average.delta_dense)
    for name, other, delta in zip(("base", "dense"), others, deltas, strict=True):
        if other is not None and average.avg is not None and delta is None:
            notes.append(f"{' · '.join(labels)}: not compared with {name}: no score, other questions or another grader")
    more = [_more(part, *pair) for pair in zip(others, deltas, adjusted, strict=True)]
    return Row(
        arm=str(part["arm"].iloc[0]),
        kind=str(part["kind"].iloc[0]),
        labels=labels,
        cells=tuple(cells),
        average=average,
        p_base=adjusted[0],
        p_dense=adjusted[1],
        more_base=more[0],
        more_dense=more[1],
        num_seeds_planned=int(part["trial"].nunique()),
        mean_tokens=_mean(part["mean_tokens"]),
        clip_rate=_mean(part["clip_rate"]),
        no_box_rate=_mean(part["no_box_rate"]),
        notes=tuple(dict.fromkeys(notes)),
    )


def _found(part: pd.DataFrame, benchmark: str) -> Found:
    rows = part[part["benchmark"] == benchmark]
    return Found(
        arm=arm_behind(rows),
        graders=tuple(str(version) for version in rows["grader_version"].dropna().unique()),
        num_planned=len(rows),
        num_samples=int(rows["num_samples"].iloc[0]) if len(rows) else 0,
        absence=_absence(rows),
    )


def arm_behind(rows: pd.DataFrame) -> Arm:
    """The seeds of one arm on one benchmark that are scored."""
    seeds = [0 if pd.isna(seed) else int(seed) for seed in rows["seed"]]
    runs = {seed: run for seed, run in zip(seeds, rows["per_problem"], strict=True) if isinstance(run, dict)}
    return Arm(runs=runs, is_trained=bool((rows["kind"] == "train").all()))


def _more(
    part: pd.DataFrame, other: pd.DataFrame | None, delta: Difference | None, adjusted: float | None
) -> MoreSeeds | None:
    """Seeds that would decide a contrast; None where it is decided."""
    is_decided = adjusted is not None and adjusted < SIGNIFICANT
    return None if other is None or delta is None or is_decided else more_seeds(part, other, delta)


def _absence(rows: pd.DataFrame) -> str:
    """What stands in a cell that no seed has a number for."""
    reasons = list(dict.fromkeys(rows["reason"]))
    return str(reasons[0]) if len(reasons) == 1 else ", ".join(dict.fromkeys(rows["state"])) or "not asked for"


def _base_of(part: pd.DataFrame, frame: pd.DataFrame) -> str | None:
    """The base row that an arm started from; None for a base row itself."""
    if part["kind"].iloc[0] == "base":
        return None
    found = frame[(frame["kind"] == "base") & (frame["model_digest"] == part["model_digest"].iloc[0])]
    return str(found["arm"].iloc[0]) if len(found) else None


def _dense_of(part: pd.DataFrame, frame: pd.DataFrame) -> str | None:
    """The arm of the same family with full selection; None for that arm itself and for base rows."""
    if part["kind"].iloc[0] == "base" or part["method"].iloc[0] == DENSE:
        return None
    found = frame[(frame["family"] == part["family"].iloc[0]) & (frame["method"] == DENSE)]
    return str(found["arm"].iloc[0]) if len(found) else None


def _p_of(delta: Difference | None) -> float | None:
    return None if delta is None else delta.p_method


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def _mean(values: pd.Series) -> float | None:
    """Mean over the rows that have a number; None where there is none."""
    present = values.dropna()
    return float(present.mean()) if len(present) else None


def _facts(frame: pd.DataFrame, rows: Sequence[Row]) -> tuple[str, ...]:
    facts = [*size_facts(frame)]
    facts.append("Cells: avg@K ± standard error in percent. " + seed_fact(frame))
    facts.append(
        "Δ: difference on the same questions ± its standard error, seeds paired where both arms have them; p: that the "
        f"methods differ, two-sided; * p < {SIGNIFICANT} after Holm's correction over the column."
    )
    contrasts = [delta for row in rows for delta in (row.average.delta_base, row.average.delta_dense)]
    if any(delta is not None and delta.covers_seeds for delta in contrasts):
        facts.append(
            "+N seeds would show a difference of the size seen with 80 % power, at the cost of those so far; "
            f">{MOST_SEEDS} seeds: the difference is too small for these questions."
        )
    if any(delta is not None and not delta.covers_seeds for delta in contrasts):
        facts.append(
            "One seed: no verdict on a method. “These checkpoints differ” is of these two alone: it says nothing of "
            "training again, and at least one seed more of each is needed."
        )
    facts += [*control_fact(frame), *settings_fact(frame)]
    return tuple(facts)


def _warnings(frame: pd.DataFrame) -> tuple[str, ...]:
    counts = frame.loc[frame["state"] == "scored", "grader_version"].value_counts(sort=False)
    if len(counts) < 2:
        return ()
    told = ", ".join(f"{version} ({count} score{'' if count == 1 else 's'})" for version, count in counts.items())
    command = regrade_command(grader_name(str(counts.index[0])))
    return (f"Graded by several versions, which are not compared: {told}. `{command}` brings all to the present one.",)


def _distinct(values: pd.Series) -> str:
    return " or ".join(_shown(value) for value in values.dropna().unique())
