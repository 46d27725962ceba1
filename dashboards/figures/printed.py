"""What a paper printed of the arms that an experiment trains: a panel beside ours, on axes of its own.

Ours and the paper's numbers share no axis, because a twin's compare arms and not sizes. A row of a published table is
drawn if the experiment plans its arm; each arm stands once, as the first table that the experiment names prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dashboards.figures.drawing import COLOURS, Drawing, Series
from dashboards.figures.gains import Gain, is_gain, pairs_said, series_names
from dashboards.figures.palette import colour_of, dash_of
from dashboards.papers.experiment_runs import is_behind
from dashboards.papers.load import find_table, load_papers
from dashboards.papers.published import Column, PublishedTable, Row
from orchestrator.config.published import read_published
from orchestrator.plan.trial import Plan
from trainers.methods import DENSE


@dataclass(frozen=True, slots=True)
class _Printed:
    """A printed row in its table."""

    table: PublishedTable
    row: Row

    @property
    def name(self) -> str:
        label = self.row.label.removeprefix("+ ")
        block = self.row.block
        return label if block is None or block.lower() == label.lower() else f"{block} · {label}"

    def value(self, column: Column | None) -> float | None:
        """The number in a column of that id; None where nothing is printed."""
        if column is None or all(one.id != column.id for one in self.table.columns):
            return None
        cell = self.table.cell(self.row.id, column.id)
        return None if cell is None else float(cell.value)


def draw_printed_scores(plan: Plan) -> Drawing | None:
    """Bars of the printed scores: every benchmark while the arms are few, their average where they are many."""
    rows = _printed(plan)
    if not rows:
        return None
    benchmarks, average = _columns(rows[0].table)
    rows = [row for row in rows if row.value(average or benchmarks[0]) is not None]
    if len(rows) < 2:
        return None
    columns = [*benchmarks, *([average] if average else [])]
    if len(columns) == 1 or len(rows) > len(COLOURS):
        shown = average or columns[0]
        series = [_bars([row.name for row in rows], [row.value(shown) for row in rows], name=shown.label)]
        y_label = f"{shown.label}, %"
    else:
        labels = [column.label for column in columns]
        series = [
            _bars(labels, [row.value(column) for column in columns], name=row.name, colour=colour)
            for colour, row in enumerate(rows)
        ]
        y_label = f"{columns[0].metric}, %"
    return _panel("scores", rows, x_label="" if len(series) == 1 else "benchmark", y_label=y_label, series=series)


def draw_printed_ratios(plan: Plan) -> Drawing | None:
    """The printed average against the keep ratio, one curve a method and algorithm, and the level of all tokens."""
    rows = [row for row in _printed(plan) if row.row.arm.algorithm is not None]
    if not rows:
        return None
    benchmarks, average = _columns(rows[0].table)
    shown = average or benchmarks[0]
    curves = _curves(rows, shown)
    if not curves:
        return None
    algorithms = list(dict.fromkeys(algorithm for algorithm, _, _ in curves))
    series = [
        Series(
            name=" · ".join([algorithm, method, *(["lowest"] if end == "bottom" else [])]),
            x=tuple(points),
            y=tuple(points.values()),
            colour=colour_of(method, end=end),
            dash=dash_of(algorithms, algorithm),
        )
        for (algorithm, method, end), points in curves.items()
    ]
    series += [
        Series(
            name=f"{row.row.arm.algorithm} · all tokens",
            x=(1.0,),
            y=(row.value(shown),),
            mark="level",
            colour=colour_of(DENSE),
            dash=dash_of(algorithms, str(row.row.arm.algorithm)),
        )
        for row in rows
        if row.row.arm.method == DENSE and row.row.arm.algorithm in algorithms
    ]
    x_label = "share of the response tokens that is kept, ρ"
    return _panel("keep_ratio", rows, x_label=x_label, y_label=f"{shown.label}, %", series=series)


def draw_printed_gains(plans: Sequence[Plan]) -> Drawing | None:
    """Printed gains, paired as `draw_gains_by_model` does, on each table's first benchmark. Source: GMTS Figure 5."""
    gains: dict[Gain, dict[str, float]] = {}
    used: list[_Printed] = []
    for plan in plans:
        rows = _printed(plan)
        for baseline in rows:
            for row in (one for one in rows if _is_gain_over(one, baseline)):
                column = _columns(baseline.table)[0][0]
                values, arm = (row.value(column), baseline.value(column)), baseline.row.arm
                if values[0] is not None and values[1] is not None and arm.model and arm.ratio:
                    gain = Gain(str(row.row.arm.method), str(arm.method), str(arm.algorithm), arm.ratio)
                    gains.setdefault(gain, {}).setdefault(arm.model, values[0] - values[1])
                    used.append(row)
    if len({model for by_model in gains.values() for model in by_model}) < 2:
        return None
    series = [
        _bars([*by_model], [*by_model.values()], name=name, colour=colour)
        for colour, (name, by_model) in enumerate(zip(series_names(gains), gains.values(), strict=True))
    ]
    y_label = f"{pairs_said(gains)}, percentage points"
    return _panel("gain_by_model", used, x_label="model", y_label=y_label, series=series)


def draw_printed_high_to_low(experiment: str) -> Drawing | None:
    """Printed H/L of the selected tokens, for the experiments that ICT Figure 4 names."""
    figure = next((one for one in load_papers().values() if _draws_high_to_low(one, experiment)), None)
    if figure is None:
        return None
    rows = [_Printed(figure, row) for row in figure.rows]
    labels = [column.label for column in figure.columns]
    series = [
        _bars(
            labels,
            [row.value(column) for column in figure.columns],
            name=f"{row.row.arm.method} · {row.row.arm.ratio:g}",
        )
        for row in rows
    ]
    return _panel("high_to_low", rows, x_label="trained and read on", y_label="H/L", series=series)


def _printed(plan: Plan) -> list[_Printed]:
    block = read_published(plan.config.get("published"))
    found: dict[object, _Printed] = {}
    for table in map(find_table, block.tables if block else ()):
        for row in table.rows:
            is_planned = block and any(is_behind(entry, row.arm, block.stands_for) for entry in plan.entries)
            if row.role != "gain" and is_planned:
                found.setdefault(row.arm, _Printed(table, row))
    return [*found.values()]


def _curves(rows: Sequence[_Printed], column: Column) -> dict[tuple[str, str, str], dict[float, float]]:
    """(algorithm, method, end) → ratio → number, in order of ratios; a single ratio is no curve."""
    curves: dict[tuple[str, str, str], dict[float, float]] = {}
    for row in rows:
        arm, value = row.row.arm, row.value(column)
        if arm.algorithm and arm.method and arm.ratio is not None and value is not None:
            curves.setdefault((arm.algorithm, arm.method, arm.end), {})[arm.ratio] = value
    return {key: dict(sorted(points.items())) for key, points in curves.items() if len(points) > 1}


def _columns(table: PublishedTable) -> tuple[list[Column], Column | None]:
    """Scores of the first metric (pass@1 beside pass@4), and the mean over them."""
    metric = next(column.metric for column in table.columns if column.benchmark)
    same = [column for column in table.columns if column.metric == metric]
    return [one for one in same if one.benchmark], next((one for one in same if one.mean_of), None)


def _is_gain_over(row: _Printed, baseline: _Printed) -> bool:
    mine, other = row.row.arm, baseline.row.arm
    keys = ("model", "training_data", "algorithm", "ratio", "end")
    return is_gain(mine.method, other.method) and all(getattr(mine, key) == getattr(other, key) for key in keys)


def _draws_high_to_low(table: PublishedTable, experiment: str) -> bool:
    return experiment in table.experiments and any(row.id == "high_to_low" for row in table.rows)


def _bars(x: Sequence[str], y: Sequence[float | None], *, name: str, colour: int = 0) -> Series:
    return Series(name=name, x=tuple(x), y=tuple(y), mark="bars", colour=colour)


def _panel(drawing_id: str, rows: Sequence[_Printed], *, x_label: str, y_label: str, series: list[Series]) -> Drawing:
    tables = list({row.table.id: row.table for row in rows}.values())
    return Drawing(
        id=f"{drawing_id}_published",
        title=f"Published: {', '.join(_places(tables))}",
        caption=f"As printed. {'; '.join(dict.fromkeys(_said(table) for table in tables))}.",
        x_label=x_label,
        y_label=y_label,
        series=tuple(series),
    )


def _places(tables: Sequence[PublishedTable]) -> Iterator[str]:
    """`GMTS Table 4, Table 1`: the paper once."""
    seen: set[str] = set()
    for table in tables:
        yield table.number if table.paper in seen else f"{table.paper.upper()} {table.number}"
        seen.add(table.paper)


def _said(table: PublishedTable) -> str:
    if table.sampling is None:
        return "Samples and seeds are not stated"
    plural = "" if table.sampling.seeds == 1 else "s"
    return f"{table.sampling.num_samples} samples a question, {table.sampling.seeds} training seed{plural}"
