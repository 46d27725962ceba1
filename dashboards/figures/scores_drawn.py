"""Figures of final scores: bars a benchmark, curves over the keep ratio, gains by model, accuracy against hours.

Each takes the values of the tables, so that a figure and a table cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from dashboards.cells import Cell, difference
from dashboards.figures.drawing import COLOURS, Drawing, Series
from dashboards.figures.gains import Gain, is_gain, pairs_said, series_names
from dashboards.figures.palette import colour_of, dash_of
from dashboards.figures.swept import Swept, label_of, seeds_said
from dashboards.table import Row, arm_behind
from orchestrator.plan.trial import PlannedTrial
from trainers.methods import DENSE
from trainers.recipe import Recipe

MOST_BARS = 24
"""Arms in one figure of bars; a larger experiment is a table."""


@dataclass(frozen=True, slots=True)
class _Arm:
    """A scored arm with one of its trials."""

    row: Row
    planned: PlannedTrial

    @property
    def recipe(self) -> Recipe:
        """What it was trained with; only asked of trained arms."""
        assert self.planned.trial.recipe is not None
        return self.planned.trial.recipe


def draw_scores(swept: Swept) -> Drawing | None:
    """Bars of every arm on every benchmark. Source: GMTS Figures 1 and 4."""
    rows = [row for row in swept.table.rows if any(cell.avg is not None for cell in row.cells)]
    if len(rows) < 2 or len(rows) > MOST_BARS:
        return None
    is_average = swept.table.is_single or len(rows) > len(COLOURS)
    series = [_bars_over_arms(rows)] if is_average else [*_bars_over_benchmarks(rows, swept.table.benchmarks)]
    what = "mean of avg@K over the benchmarks" if is_average and not swept.table.is_single else "avg@K"
    return Drawing(
        id="scores",
        title=f"{swept.name}: avg@{_samples(rows)} on {', '.join(swept.table.benchmarks)}",
        caption=f"Bars: {what} ± standard error. {_basis(rows)}",
        x_label="" if is_average else "benchmark",
        y_label=f"avg@{_samples(rows)}, %",
        series=tuple(series),
    )


def draw_ratios(swept: Swept) -> Drawing | None:
    """Average over the benchmarks against the keep ratio, one curve a method and algorithm. Source: GMTS Figure 5."""
    arms = list(_trained(swept))
    groups: dict[tuple[str, str, str], list[_Arm]] = {}
    for arm in arms:
        if arm.recipe.selection.ratio is not None:
            selection = arm.recipe.selection
            groups.setdefault((arm.recipe.algorithm.name, selection.method, selection.end), []).append(arm)
    curves = {key: found for key, found in groups.items() if len({arm.recipe.selection.ratio for arm in found}) > 1}
    if not curves:
        return None
    algorithms = list(dict.fromkeys(key[0] for key in curves))
    series = [_ratio_series(found, key=key, dash=dash_of(algorithms, key[0])) for key, found in curves.items()]
    for arm in arms:
        algorithm = arm.recipe.algorithm.name
        if arm.recipe.selection.method == DENSE and algorithm in algorithms:
            dash = dash_of(algorithms, algorithm)
            y = (_percent(arm.row.average.avg),)
            name = f"{algorithm} · all tokens"
            series.append(Series(name=name, x=(1.0,), y=y, mark="level", colour=colour_of(DENSE), dash=dash))
    rows = [arm.row for arm in arms]
    return Drawing(
        id="keep_ratio",
        title=f"{swept.name}: accuracy by the share of tokens that is trained on",
        caption=f"Points: mean over benchmarks of avg@K ± standard error. Level: all tokens. {_basis(rows)}",
        x_label="share of the response tokens that is kept, ρ",
        y_label=f"avg@{_samples(rows)}, %",
        series=tuple(series),
    )


def draw_gains_by_model(experiments: Sequence[Swept], benchmark: str | None = None) -> Drawing | None:
    """Each method's gain over the one its paper compares it with, by model. Source: GMTS Figure 5, right.

    Paired by question, at the same ratio; for GMTS it is GMTS − ETS.

    Args:
        experiments: may share models; the first that has a pair counts.
        benchmark: the one to compare on; the first of each experiment without it.
    """
    gains: dict[Gain, dict[str, tuple[float, float, str]]] = {}
    for swept in experiments:
        arms = list(_trained(swept))
        for baseline in arms:
            for arm in (one for one in arms if _is_gain_over(one, baseline)):
                found = _gain(swept, arm, baseline, benchmark or swept.table.benchmarks[0])
                if found is not None:
                    model = baseline.planned.trial.model.path.rpartition("/")[2]
                    gains.setdefault(_gain_of(arm, baseline), {}).setdefault(model, found)
    series = [
        Series(
            name=name,
            x=tuple(by_model),
            y=tuple(delta for delta, _, _ in by_model.values()),
            error=tuple(error for _, error, _ in by_model.values()),
            hover=tuple(text for _, _, text in by_model.values()),
            mark="bars",
            colour=colour,
        )
        for colour, (name, by_model) in enumerate(zip(series_names(gains), gains.values(), strict=True))
    ]
    if len({place for one in series for place in one.x}) < 2:
        return None
    return Drawing(
        id="gain_by_model",
        title=f"{pairs_said(gains)} by model, {benchmark or 'first benchmark'}",
        caption="Difference on the same questions ± its standard error, in percentage points; hover for n and seeds.",
        x_label="model",
        y_label=f"{pairs_said(gains)}, percentage points",
        series=tuple(series),
    )


def draw_accuracy_against_hours(swept: Swept) -> Drawing | None:
    """Average accuracy against what training cost, one point an arm."""
    points = [(arm, hours) for arm in _trained(swept) if (hours := _hours(swept, arm)) is not None]
    if len(points) < 2:
        return None
    has_gpus = any(arm.planned.resources.num_gpus for arm, _ in points)
    series = tuple(
        Series(
            name=label_of(arm.row),
            x=(hours,),
            y=(_percent(arm.row.average.avg),),
            error=(_percent(arm.row.average.standard_error),),
            hover=(_hover(arm.row.average, arm.row),),
            mark="points",
            colour=colour_of(arm.recipe.selection.method) if len(points) > 8 else number,
        )
        for number, (arm, hours) in enumerate(points)
    )
    device = "GPU-hours" if has_gpus else "hours on CPU"
    return Drawing(
        id="accuracy_hours",
        title=f"{swept.name}: accuracy against {device} of training",
        caption=f"One point an arm, mean over its seeds; evaluation is left out of the {device}, repeated and failed "
        f"attempts are in. {_basis([arm.row for arm, _ in points])}",
        x_label=f"{device} of training, mean over seeds",
        y_label="mean over benchmarks, %",
        series=series,
    )


def _trained(swept: Swept) -> Iterator[_Arm]:
    """The trained arms that have an average."""
    for row in swept.table.rows:
        if row.kind == "train" and row.average.avg is not None:
            yield _Arm(row, swept.seeds_of(row.arm)[0])


def _bars_over_arms(rows: Sequence[Row]) -> Series:
    """One bar an arm, where there is one benchmark."""
    return Series(
        name="avg",
        x=tuple(label_of(row) for row in rows),
        y=tuple(_percent(row.average.avg) for row in rows),
        error=tuple(_percent(row.average.standard_error) for row in rows),
        hover=tuple(_hover(row.average, row) for row in rows),
        mark="bars",
    )


def _bars_over_benchmarks(rows: Sequence[Row], benchmarks: Sequence[str]) -> Iterator[Series]:
    """One group of bars a benchmark, and one of the averages."""
    for colour, row in enumerate(rows):
        cells = (*row.cells, row.average)
        yield Series(
            name=label_of(row),
            x=(*benchmarks, "Avg"),
            y=tuple(_percent(cell.avg) for cell in cells),
            error=tuple(_percent(cell.standard_error) for cell in cells),
            hover=tuple(_hover(cell, row) for cell in cells),
            mark="bars",
            colour=colour,
        )


def _ratio_series(arms: Sequence[_Arm], *, key: tuple[str, str, str], dash: int) -> Series:
    ordered = sorted(arms, key=lambda arm: arm.recipe.selection.ratio or 0.0)
    cells = [arm.row.average for arm in ordered]
    return Series(
        name=" · ".join([*key[:2], *(["lowest"] if key[2] == "bottom" else [])]),
        x=tuple(float(arm.recipe.selection.ratio or 0.0) for arm in ordered),
        y=tuple(_percent(cell.avg) for cell in cells),
        error=tuple(_percent(cell.standard_error) for cell in cells),
        hover=tuple(_hover(arm.row.average, arm.row) for arm in ordered),
        colour=colour_of(key[1], end=key[2]),
        dash=dash,
    )


def _is_gain_over(arm: _Arm, baseline: _Arm) -> bool:
    """Whether two arms differ in their method alone, and the one is compared with the other."""
    mine, other = arm.recipe, baseline.recipe
    is_same = mine.algorithm == other.algorithm and arm.planned.trial.model == baseline.planned.trial.model
    same_tokens = (mine.selection.ratio, mine.selection.end) == (other.selection.ratio, other.selection.end)
    return (
        is_same and same_tokens and mine.data == other.data and is_gain(mine.selection.method, other.selection.method)
    )


def _gain_of(arm: _Arm, baseline: _Arm) -> Gain:
    mine, other = arm.recipe, baseline.recipe
    assert mine.selection.ratio is not None, "only methods that keep a share are compared at the same ratio"
    return Gain(mine.selection.method, other.selection.method, mine.algorithm.name, mine.selection.ratio)


def _gain(swept: Swept, mine: _Arm, other: _Arm, benchmark: str) -> tuple[float, float, str] | None:
    data = swept.frame[swept.frame["benchmark"] == benchmark]
    found = difference(*([arm_behind(data[data["arm"] == arm.row.arm])] for arm in (mine, other)))
    if found is None:
        return None
    text = f"{benchmark}, n = {found.num_problems} × {found.num_samples}, seeds {found.num_seeds[0]} and "
    return 100 * found.delta, 100 * found.standard_error, f"{text}{found.num_seeds[1]}"


def _hours(swept: Swept, arm: _Arm) -> float | None:
    """Device-hours of training, mean over the seeds that are done."""
    spent = []
    for planned in swept.seeds_of(arm.row.arm):
        record = swept.records.get(planned.trial.id)
        if record is not None and record.train is not None:
            phases = {name: seconds for name, seconds in record.phase_seconds.items() if name != "evaluate"}
            spent.append(sum(phases.values()) / 3600 * max(planned.resources.num_gpus, 1))
    return fmean(spent) if spent else None


def _percent(value: float | None) -> float | None:
    return None if value is None or value - value != 0 else 100 * value


def _hover(cell: Cell, row: Row) -> str:
    error = _percent(cell.standard_error)
    shown = "" if error is None else f"± {error:.2f}, "
    return f"{shown}n = {cell.num_problems} × {cell.num_samples}, {cell.note or seeds_said(row)}"


def _samples(rows: Sequence[Row]) -> str:
    return " or ".join(str(count) for count in dict.fromkeys(row.average.num_samples for row in rows))


def _basis(rows: Sequence[Row]) -> str:
    """How many questions, samples and seeds stand behind a figure."""
    present = [row for row in rows if row.average.avg is not None]
    questions = sorted({row.average.num_problems for row in present})
    seeds = sorted({row.average.num_seeds for row in present if row.kind == "train"})
    partial = [label_of(row) for row in present if row.average.num_seeds < row.num_seeds_planned]
    plural = "" if seeds == [1] else "s"
    text = f"n = {_range(questions)} questions × K = {_samples(present)} samples; "
    text += f"{_range(seeds)} training seed{plural} an arm"
    return text + (f"; not all planned seeds: {', '.join(partial)}" if partial else "")


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return "0"
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
