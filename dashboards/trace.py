"""Where a number comes from: trials, checkpoints, sample files, grader and configuration behind a cell of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dashboards.frame import frame
from dashboards.names import index_of
from dashboards.papers.compared import ComparedTable
from dashboards.papers.comparison_table import compare_with_paper, published_of
from dashboards.papers.render import cell_text
from dashboards.render import shown_cell
from dashboards.table import table
from eval.benchmarks.registry import short_name
from eval.samples import FILE as SAMPLES_FILE
from orchestrator.plan.identity import hash_of
from orchestrator.plan.trial import PlannedTrial
from orchestrator.status.state import first_line
from orchestrator.store.record import RunRecord, ScoreEntry
from orchestrator.store.scores import final_step, shown_scores
from orchestrator.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTrace:
    """A benchmark's part in one trial."""

    benchmark: str
    score: ScoreEntry | None
    """With its key, grader version, data digest and settings; None where there is none."""
    score_file: str | None
    """Verdicts by question; None where it is not on this disk."""
    samples_file: str | None
    """The completions; None where they are not on this disk."""
    num_samples_stored: int
    """Lines of that file: raising K later leaves more there than an older score has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTrace:
    """One seed behind a cell."""

    trial: str
    label: str
    seed: int | None
    status: str
    failure: str
    """Why it has no number; empty where it did not fail."""
    config_digest: str
    """12 hex digits of the recipe; equal for all seeds of an arm."""
    model_digest: str
    data_digest: str | None
    step: int
    checkpoint: str | None
    """Folder of the policy that was evaluated; None for a base model, or where it is not on this disk."""
    num_attempts: int
    commit: str | None
    """Of the last attempt's code."""
    is_dirty: bool | None
    scores: tuple[ScoreTrace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTrace:
    """One cell, and all that is behind it."""

    experiment: str
    plan_digest: str
    row: str
    column: str
    shown: str
    """The cell as tables print it."""
    trials: tuple[TrialTrace, ...]


def trace_cell(store: Store, experiment: str, row: str, column: str) -> CellTrace:
    """Trace a cell of the table beside the paper where the experiment names one, else of its own table.

    Raises:
        StoreError: no such experiment, or a record does not read.
        OrchError: no such row or column; the nearest is named.
    """
    plan = store.plans.read(experiment)
    if published_of(plan) is not None:
        found = _cell_beside_paper(compare_with_paper(store, experiment), row, column)
    else:
        found = _cell_of_own_table(store, experiment, row, column)
    planned = [one for one in plan.entries if one.trial.id in found.trial_ids]
    return CellTrace(
        experiment=experiment,
        plan_digest=plan.digest,
        row=found.row,
        column=found.column,
        shown=found.shown,
        trials=tuple(_trial(one, store, found.benchmarks) for one in planned),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    row: str
    column: str
    shown: str
    trial_ids: tuple[str, ...]
    benchmarks: tuple[str, ...]


def _cell_beside_paper(compared: ComparedTable, row: str, column: str) -> _Found:
    cell = compared.cell(row, column)
    found_column = next(one for one in compared.columns if one.id == cell.column)
    return _Found(
        row=cell.row,
        column=found_column.id,
        shown=cell_text(cell, found_column) + (f" ({cell.note})" if not found_column.is_run else ""),
        trial_ids=cell.trial_ids if found_column.is_run else (),
        benchmarks=found_column.benchmarks,
    )


def _cell_of_own_table(store: Store, experiment: str, row: str, column: str) -> _Found:
    data = frame(store, experiment)
    shown = table(data)
    columns = [*shown.benchmarks, *([] if shown.is_single else ["Avg"])]
    labels = [(",".join(part for part in one.labels if part != "–"), " · ".join(one.labels)) for one in shown.rows]
    found_row = shown.rows[index_of(labels, row, noun="row", where=experiment)]
    number = index_of([(name,) for name in columns], column, noun="column", where=experiment)
    is_average = number == len(shown.benchmarks)
    return _Found(
        row=" · ".join(found_row.labels),
        column=columns[number],
        shown=shown_cell(found_row.average if is_average else found_row.cells[number]),
        trial_ids=tuple(dict.fromkeys(data.loc[data["arm"] == found_row.arm, "trial"])),
        benchmarks=shown.benchmarks if is_average else (columns[number],),
    )


def _trial(planned: PlannedTrial, store: Store, benchmarks: Sequence[str]) -> TrialTrace:
    trial = planned.trial
    record = store.find(trial.id)
    provenance = record.attempts[-1].provenance if record is not None and record.attempts else None
    return TrialTrace(
        trial=trial.id,
        label=planned.label,
        seed=trial.seed,
        status="not run yet" if record is None else record.status.value,
        failure=_failure(record),
        config_digest=hash_of(trial.recipe if trial.recipe is not None else trial.model),
        model_digest=trial.model_digest,
        data_digest=trial.data_digest,
        step=final_step(planned),
        checkpoint=_checkpoint(record, store),
        num_attempts=0 if record is None else len(record.attempts),
        commit=None if provenance is None else provenance.commit,
        is_dirty=None if provenance is None else provenance.is_dirty,
        scores=tuple(_score(planned, record, name, store) for name in benchmarks),
    )


def _failure(record: RunRecord | None) -> str:
    if record is None or record.failure is None:
        return ""
    return f"{record.failure.kind}: {first_line(record)}"


def _checkpoint(record: RunRecord | None, store: Store) -> str | None:
    if record is None or record.train is None:
        return None
    return _if_there(store.trial_folder(record.trial.id) / record.train.model_folder)


def _score(planned: PlannedTrial, record: RunRecord | None, benchmark: str, store: Store) -> ScoreTrace:
    shown = shown_scores(record, planned.evaluation)
    step = final_step(planned)
    entry = next((one for (name, at), one in shown.items() if (short_name(name), at) == (benchmark, step)), None)
    if entry is None:
        return ScoreTrace(benchmark=benchmark, score=None, score_file=None, samples_file=None, num_samples_stored=0)
    folder = store.eval_folder(planned.trial.id, entry.key)
    samples = folder / SAMPLES_FILE
    return ScoreTrace(
        benchmark=benchmark,
        score=entry,
        score_file=_if_there(folder / "score.json"),
        samples_file=_if_there(samples),
        num_samples_stored=_num_lines(samples) if samples.exists() else 0,
    )


def _if_there(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _num_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
