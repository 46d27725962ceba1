"""Where each trial of a sweep stands, read from the store alone: what `orch status` and the live table show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.errors import OrchError
from orchestrator.progress import Progress, age_s
from orchestrator.record import RunRecord, Status
from orchestrator.store import Store
from orchestrator.trial import PlannedTrial
from orchestrator.wanted import final_step, is_complete

State = Literal["waiting", "running", "trained", "done", "partial", "failed", "stopped", "interrupted"]
STATES: tuple[State, ...] = ("done", "running", "waiting", "trained", "partial", "stopped", "interrupted", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One line of the view."""

    id: str
    label: str
    state: State
    """`partial`: done once, and this plan wants more scores; `interrupted`: its process died without a word."""
    phase: str = ""
    """What a running trial is doing."""
    step: int = 0
    total: int = 0
    unit: str = "step"
    reward: float | None = None
    eta_s: float | None = None
    age_s: float | None = None
    """Seconds since a running trial last gave a sign of life."""
    attempts: int = 0
    scores: dict[str, float]
    """Benchmark → avg@K of the final policy, as a fraction."""
    failure: str = ""
    """First line of why it failed."""


class SweepView:
    """Reads the rows of some trials again and again; only records that changed are parsed again."""

    def __init__(self, store: Store, trials: Sequence[PlannedTrial], *, data_folder: Path | None) -> None:
        """Nothing is read yet."""
        self._store, self._trials, self._data_folder = store, trials, data_folder
        self._seen: dict[str, tuple[tuple[int, int], RunRecord | None, bool]] = {}

    def rows(self) -> tuple[TrialRow, ...]:
        """One row a trial, in the plan's order.

        Raises:
            StoreError: a record does not read.
        """
        return tuple(self._row(planned) for planned in self._trials)

    def _row(self, planned: PlannedTrial) -> TrialRow:
        record, is_everything_there = self._record(planned)
        if record is None:
            return TrialRow(id=planned.trial.id, label=planned.label, state="waiting", scores={}, total=_steps(planned))
        progress = self._store.progress(planned.trial.id) if record.status in _WORKING else None
        return _row_of(planned, record, progress, is_everything_there)

    def _record(self, planned: PlannedTrial) -> tuple[RunRecord | None, bool]:
        trial_id = planned.trial.id
        stamp = self._store.record_stamp(trial_id)
        if trial_id not in self._seen or self._seen[trial_id][0] != stamp:
            record = self._store.find(trial_id)
            self._seen[trial_id] = (stamp, record, _has_everything(record, planned, self._data_folder))
        return self._seen[trial_id][1:]


def count_states(rows: Sequence[TrialRow]) -> dict[State, int]:
    """State → how many rows are in it; states without rows are left out."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}


_WORKING = (Status.RUNNING, Status.TRAINED)


def _has_everything(record: RunRecord | None, planned: PlannedTrial, data_folder: Path | None) -> bool:
    """False also where a benchmark's file is gone, so that a view never fails for it."""
    try:
        return is_complete(record, planned, data_folder=data_folder)
    except OrchError:
        return False


def _row_of(planned: PlannedTrial, record: RunRecord, progress: Progress | None, has_everything: bool) -> TrialRow:
    is_alive = progress is not None and progress.is_alive()
    final = final_step(planned)
    moving = progress if is_alive else None
    return TrialRow(
        id=planned.trial.id,
        label=planned.label,
        state=_state(record, is_alive, has_everything),
        phase=moving.phase if moving else "",
        step=moving.step if moving else (record.train.step if record.train else 0),
        total=moving.total if moving else _steps(planned),
        unit=moving.unit if moving else "step",
        reward=moving.reward if moving else _last_reward(record),
        eta_s=moving.eta_s if moving else None,
        age_s=round(age_s(moving.updated_at), 1) if moving else None,
        attempts=len(record.attempts),
        scores={entry.benchmark: entry.avg for entry in record.scores if entry.step == final},
        failure=_first_line(record),
    )


def _state(record: RunRecord, is_alive: bool, has_everything: bool) -> State:
    if record.status in _WORKING:
        return "running" if is_alive else "interrupted"
    if record.status is Status.DONE:
        return "done" if has_everything else "partial"
    if record.status is Status.PENDING:
        return "waiting"
    return "failed" if record.status is Status.FAILED else "stopped"


def _steps(planned: PlannedTrial) -> int:
    return final_step(planned)


def _last_reward(record: RunRecord) -> float | None:
    return record.train.metrics.get(REWARD_METRIC) if record.train is not None else None


REWARD_METRIC = "reward/mean"
"""The training metric that views show."""


def _first_line(record: RunRecord) -> str:
    if record.status is not Status.FAILED or record.failure is None:
        return ""
    lines = record.failure.message.splitlines()
    return f"{record.failure.kind}: {lines[0] if lines else ''}"
