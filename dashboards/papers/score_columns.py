"""Columns that hold scores: the benchmarks and metrics a printed one asks for, and what stands in for it in a twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards.papers.experiment_runs import ExperimentRuns
from dashboards.papers.measurement import Measurement, measure, not_run
from dashboards.papers.published import Column, PublishedTable, Row

SCORE_METRICS = ("avg@", "pass@")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreColumn:
    """A column as our scores can fill it."""

    id: str
    label: str
    metric: str
    metrics: Mapping[str, tuple[str, ...]]
    """Benchmark → what is asked of it; of several metrics the mean by question. The column is the mean of all."""
    training_data: Mapping[str, tuple[str, ...]]
    """Benchmark → what picks among arms that differ in their training data alone."""
    is_published: bool = True
    """Whether it is the printed column itself."""


def score_column(table: PublishedTable, column: Column) -> ScoreColumn:
    """A printed column; without benchmarks where it holds something other than scores."""
    metrics: dict[str, tuple[str, ...]] = {}
    training_data: dict[str, tuple[str, ...]] = {}
    for leaf in _leaves(table, column):
        assert leaf.benchmark is not None
        metrics[leaf.benchmark] = (*metrics.get(leaf.benchmark, ()), leaf.metric)
        training_data[leaf.benchmark] = leaf.training_data
    return ScoreColumn(
        id=column.id,
        label=column.label,
        metric=column.metric,
        metrics=metrics,
        training_data=training_data,
    )


def own_columns(table: PublishedTable, runs: ExperimentRuns) -> tuple[ScoreColumn, ...]:
    """One for each benchmark that the experiment runs and the table does not print, and each metric of the table."""
    printed = {benchmark for column in table.columns for benchmark in score_column(table, column).metrics}
    asked = dict.fromkeys(leaf.metric for column in table.columns for leaf in _leaves(table, column))
    names = [name for name in runs.benchmarks if name not in printed]
    return tuple(_own_column(name, metric, is_only=len(asked) == 1) for name in names for metric in asked)


def stand_in(column: ScoreColumn, table: PublishedTable, runs: ExperimentRuns) -> ScoreColumn | None:
    """What a claim about a column is judged on here; None where nothing of it is run.

    The column itself where all of its benchmarks are run; the mean over those that are; the experiment's own
    benchmarks where it runs none that the table prints, as a twin on a toy task does.
    """
    run = {name: metrics for name, metrics in column.metrics.items() if name in runs.benchmarks}
    printed = {name for one in table.columns for name in score_column(table, one).metrics}
    if not run and column.metrics and not printed & set(runs.benchmarks):
        asked = next(iter(column.metrics.values()))
        run = dict.fromkeys(runs.benchmarks, asked)
    if not run:
        return None
    if run.keys() == column.metrics.keys():
        return column
    return ScoreColumn(
        id=column.id,
        label=f"{', '.join(run)} in place of {column.label}",
        metric=column.metric,
        metrics=run,
        training_data=column.training_data,
        is_published=False,
    )


def measure_row(row: Row, column: ScoreColumn, runs: ExperimentRuns) -> tuple[Measurement, ...]:
    """One measurement for each benchmark of a column."""
    return tuple(_measurement(row, column, name, runs) for name in column.metrics) or (not_run("not a score"),)


def trials_behind(row: Row, columns: Sequence[ScoreColumn], runs: ExperimentRuns) -> tuple[str, ...]:
    """Ids of the trials behind a row, over the columns."""
    arms = dict.fromkeys(_arm_behind(row, column, name, runs)[0] for column in columns for name in column.metrics)
    return tuple(trial for arm in arms if arm is not None for trial in runs.trial_ids(arm))


def _measurement(row: Row, column: ScoreColumn, benchmark: str, runs: ExperimentRuns) -> Measurement:
    arm, why = _arm_behind(row, column, benchmark, runs)
    if arm is None:
        return not_run(why)
    return measure(runs.rows_of(arm, benchmark), column.metrics[benchmark], usual_grader=runs.usual_grader)


def _arm_behind(row: Row, column: ScoreColumn, benchmark: str, runs: ExperimentRuns) -> tuple[str | None, str]:
    """The arm behind a row on a column's benchmark, or why there is none. Of several, training data decides."""
    if row.role == "gain":
        return None, "a printed difference"
    found = runs.arms_behind(row.arm)
    if len(found) > 1 and (wanted := column.training_data.get(benchmark)):
        found = tuple(name for name in found if runs.training_data(name) in wanted)
    if len(found) == 1:
        return found[0], ""
    return None, "not run" if not found else f"{len(found)} arms agree with this row"


def _leaves(table: PublishedTable, column: Column) -> tuple[Column, ...]:
    """The columns of scores that a column is the mean of, in the end; itself where it is one."""
    if column.benchmark is not None:
        return (column,) if column.metric.startswith(SCORE_METRICS) else ()
    return tuple(leaf for name in column.mean_of for leaf in _leaves(table, table.column(name)))


def _own_column(name: str, metric: str, *, is_only: bool) -> ScoreColumn:
    return ScoreColumn(
        id=name if is_only else f"{name}_{metric.replace('@', '')}",
        label=name if is_only else f"{name} {metric}",
        metric=metric,
        metrics={name: (metric,)},
        training_data={},
        is_published=False,
    )
