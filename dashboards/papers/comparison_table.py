"""Published table × swept experiment → ComparedTable: ours | published | Δ, marks, and a verdict for each claim.

Rows and columns stand as printed. Which trials are behind a row is data: the row's arm in the published YAML, and
`published:` in the experiment (orchestrator/config/published.py). A benchmark that only the experiment runs, as a
twin does, stands as a column of its own behind the printed ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dashboards.drift import drift
from dashboards.papers.compared import ComparedCell, ComparedColumn, ComparedRow, ComparedTable
from dashboards.papers.context import table_facts, table_warnings
from dashboards.papers.experiment_runs import ExperimentRuns, read_runs
from dashboards.papers.load import find_table, load_papers
from dashboards.papers.measurement import Measurement, difference_of, mean_of
from dashboards.papers.published import Cell, PaperError, PublishedTable, Row
from dashboards.papers.score_columns import ScoreColumn, measure_row, own_columns, score_column, trials_behind
from dashboards.papers.verdicts import judge_claims
from dashboards.table import SIGNIFICANT
from eval.comparison import holm
from eval.graders.api import OURS, GraderName
from orchestrator.config.published import PublishedBlock, read_published
from orchestrator.plan.trial import Plan
from orchestrator.store.store import Store
from trainers.methods import DENSE

Measured = tuple[tuple[Measurement, ...], ...]
"""Of one row: a column → one measurement a benchmark."""


def published_of(plan: Plan) -> PublishedBlock | None:
    """What an experiment says it stands beside; None where it says nothing."""
    return read_published(plan.config.get("published"))


def compare_with_paper(store: Store, experiment: str, grader: GraderName = OURS) -> ComparedTable:
    """Put a swept experiment, graded by one grader, beside the published table that its file names.

    Raises:
        StoreError: no such experiment, or a record does not read.
        PaperError: the experiment names no published table, or one that does not exist.
    """
    plan = store.plans.read(experiment)
    block = published_of(plan)
    if block is None:
        raise PaperError(
            f"{experiment} names no published table to stand beside",
            where=plan.file,
            fix="add `published: {tables: [ID]}` to it (ids: `orch paper list`) and sweep it again",
        )
    tables = [find_table(table_id) for table_id in block.tables]
    compared = compare(tables, read_runs(store, experiment, block.stands_for, grader))
    changed = drift(plan)
    return replace(compared, warnings=(changed, *compared.warnings)) if changed else compared


def compare(tables: Sequence[PublishedTable], runs: ExperimentRuns) -> ComparedTable:
    """Put runs beside the first table, and beside the rows that only the others print and the runs have."""
    first = tables[0]
    columns = (*(score_column(first, column) for column in first.columns), *own_columns(first, runs))
    printed = list(_printed_rows(tables, runs))
    measured = [tuple(measure_row(row, column, runs) for column in columns) for _, row in printed]
    rows = [_row(table, row, columns, of_row, runs) for (table, row), of_row in zip(printed, measured, strict=True)]
    return ComparedTable(
        experiment=runs.plan.experiment,
        published=first.id,
        place=first.place(),
        caption=first.caption,
        columns=tuple(_shown(column, runs) for column in columns),
        rows=tuple(_marked(rows, measured, [row for _, row in printed])),
        claims=judge_claims(first, load_papers(), runs),
        facts=table_facts(first, [row for _, row in printed], runs),
        warnings=table_warnings([row for _, row in printed], runs),
        doubts=first.doubts,
    )


def _printed_rows(tables: Sequence[PublishedTable], runs: ExperimentRuns) -> Iterator[tuple[PublishedTable, Row]]:
    """Rows of the first table; behind each of its blocks the rows of the others that the runs have and it has not."""
    first, *others = tables
    stated = [row.arm for row in first.rows]
    guests = [
        (table, row)
        for table in others
        for row in table.rows
        if row.role != "gain" and row.arm not in stated and runs.arms_behind(row.arm)
    ]
    for index, row in enumerate(first.rows):
        yield first, row
        is_last = index + 1 == len(first.rows) or first.rows[index + 1].block != row.block
        if is_last:
            yield from (guest for guest in guests if guest[1].block == row.block)
    blocks = {row.block for row in first.rows}
    yield from (guest for guest in guests if guest[1].block not in blocks)


def _row(
    table: PublishedTable, row: Row, columns: Sequence[ScoreColumn], measured: Measured, runs: ExperimentRuns
) -> ComparedRow:
    return ComparedRow(
        id=row.id,
        label=row.label,
        role=row.role,
        block=row.block,
        printed_in=table.id,
        is_run=bool(trials_behind(row, columns, runs)),
        cells=tuple(
            _cell(row, column, of_column, _printed_cell(table, row, column), trials_behind(row, [column], runs))
            for column, of_column in zip(columns, measured, strict=True)
        ),
    )


def _printed_cell(table: PublishedTable, row: Row, column: ScoreColumn) -> Cell | None:
    is_printed = column.is_published and any(one.id == column.id for one in table.columns)
    return table.cell(row.id, column.id) if is_printed else None


def _cell(
    row: Row, column: ScoreColumn, measured: Sequence[Measurement], printed: Cell | None, trial_ids: tuple[str, ...]
) -> ComparedCell:
    mean = mean_of(measured)
    ours = None if mean.value is None else 100 * mean.value
    return ComparedCell(
        row=row.id,
        column=column.id,
        state=mean.state,
        note=mean.note,
        ours=ours,
        standard_error=None if mean.standard_error is None else 100 * mean.standard_error,
        num_problems=mean.num_problems,
        num_samples=max(one.num_samples for one in measured),
        num_seeds=mean.num_seeds,
        num_seeds_planned=max(one.num_seeds_planned for one in measured),
        published=None if printed is None else printed.text,
        published_emphasis="none" if printed is None else printed.emphasis,
        delta=None if ours is None or printed is None else ours - float(printed.value),
        is_best=False,
        is_second=False,
        p_dense=None,
        is_significant=False,
        trial_ids=trial_ids,
    )


def _shown(column: ScoreColumn, runs: ExperimentRuns) -> ComparedColumn:
    benchmarks = tuple(column.metrics)
    return ComparedColumn(
        id=column.id,
        label=column.label,
        metric=column.metric,
        benchmarks=benchmarks,
        is_published=column.is_published,
        is_run=bool(benchmarks) and set(benchmarks) <= set(runs.benchmarks),
    )


def _marked(rows: Sequence[ComparedRow], measured: Sequence[Measured], printed: Sequence[Row]) -> Iterator[ComparedRow]:
    """Rows with best, second best and significance, column by column.

    Best and second best follow the papers' rule: within a block, the untrained model left out. A cell of another
    grader takes no part; one that stands for fewer seeds does, and the note beside it says so.
    """
    by_column = [_marks(column, rows, measured, printed) for column in range(len(rows[0].cells))] if rows else []
    for index, row in enumerate(rows):
        yield replace(row, cells=tuple(marks[index] for marks in by_column))


def _marks(
    column: int, rows: Sequence[ComparedRow], measured: Sequence[Measured], printed: Sequence[Row]
) -> list[ComparedCell]:
    cells = [row.cells[column] for row in rows]
    adjusted = holm([_p_dense(index, column, measured, printed) for index in range(len(rows))])
    marked = []
    for cell, row, p_dense in zip(cells, rows, adjusted, strict=True):
        rank = _rank(cell, [one for one, other in zip(cells, rows, strict=True) if _compete(row, other)])
        marked.append(
            replace(
                cell,
                is_best=rank == 1,
                is_second=rank == 2,
                p_dense=p_dense,
                is_significant=p_dense is not None and p_dense < SIGNIFICANT,
            )
        )
    return marked


def _compete(row: ComparedRow, other: ComparedRow) -> bool:
    return row.block == other.block and "base" not in (row.role, other.role)


def _rank(cell: ComparedCell, competitors: Sequence[ComparedCell]) -> int | None:
    """1 for the best, 2 for the second best number; equal numbers share a rank. None without a number or rivals."""
    graded_alike = [one for one in competitors if one.state != "other_grader"]
    numbers = sorted({one.ours for one in graded_alike if one.ours is not None}, reverse=True)
    if cell not in graded_alike or cell.ours is None or len(numbers) < 2:
        return None
    return numbers.index(cell.ours) + 1


def _p_dense(index: int, column: int, measured: Sequence[Measured], printed: Sequence[Row]) -> float | None:
    """Two-sided p that a method differs from the block's arm on all tokens; None for that arm, and below two seeds."""
    row = printed[index]
    for other, of_other in zip(printed, measured, strict=True):
        is_dense = other.block == row.block and other.arm.method == DENSE and other.arm.model == row.arm.model
        if is_dense and row.role not in ("base", "gain") and other is not row:
            difference = difference_of(measured[index][column], of_other[column])
            return None if difference is None else difference.p_method
    return None
