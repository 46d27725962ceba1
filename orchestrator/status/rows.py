"""Where each trial of a sweep stands, read from the store alone: what `orch status` and the live table show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from eval.graders.api import OURS, grader_name
from orchestrator.errors import OrchError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.status.driver import Wait, live_drivers, waits_of
from orchestrator.status.state import STATES, Standing, State, first_line, state_of
from orchestrator.store.outline import Outline
from orchestrator.store.progress import Progress, age_s
from orchestrator.store.record import RunRecord, Status
from orchestrator.store.redact import now
from orchestrator.store.requests import NO_REQUEST, Requests, TrialRequest
from orchestrator.store.scores import RequiredScore, final_step, holds_all, required_scores
from orchestrator.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One line of the view."""

    id: str
    label: str
    state: State
    """`partial`: done once, and this plan wants more scores; `interrupted`: its process died without a word;
    `paused`, `cancelled`: not started until it is resumed or requeued."""
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
    alarms: tuple[str, ...] = ()
    """What guards said, oldest first."""
    reason: str = ""
    """What it waits for, in the words of the driver that will start it or of whoever holds it; else empty."""
    why: str = ""
    """Why it is in its state, and what the next sweep does about it."""
    axes: dict[str, str | int | float] = field(default_factory=dict)
    """Where it stands in the grid: the values that its label names."""
    seed: int | None = None
    """None for a base model."""


class SweepView:
    """Reads the rows of some trials again and again; only records that changed are parsed again."""

    def __init__(
        self,
        store: Store,
        trials: Sequence[PlannedTrial],
        *,
        data_folder: Path | None,
        experiment: str | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            store: the runs folder.
            trials: what to show.
            data_folder: where benchmark files lie, if anywhere.
            experiment: show the trials of its kept plan instead as soon as that is replaced.
        """
        self.trials = tuple(trials)
        self._experiment = experiment
        self._plan_stamp = store.plans.stamp(experiment) if experiment is not None else (0, 0)
        self._store, self._data_folder = store, data_folder
        self._requests = Requests(store.root, now=now)
        self._seen: dict[str, tuple[tuple[int, int], _Known]] = {}

    def rows(self) -> tuple[TrialRow, ...]:
        """One row a trial, in the plan's order.

        Raises:
            StoreError: a record does not read.
        """
        self._follow_plan()
        requests, waits = self._requests.all(), waits_of(live_drivers(self._store.root))
        return tuple(
            self._row(planned, requests.get(planned.trial.id, NO_REQUEST), waits.get(planned.trial.id))
            for planned in self.trials
        )

    def _follow_plan(self) -> None:
        if self._experiment is None or self._store.plans.stamp(self._experiment) == self._plan_stamp:
            return
        self._plan_stamp = self._store.plans.stamp(self._experiment)
        self.trials = self._store.plans.read(self._experiment).entries

    def row(self, planned: PlannedTrial) -> TrialRow:
        """How one trial stands.

        Raises:
            StoreError: its record or what is asked of it does not read.
        """
        return self._row(planned, self._requests.of(planned.trial.id), None)

    def _row(self, planned: PlannedTrial, request: TrialRequest, wait: Wait | None) -> TrialRow:
        known, trial_id = self._known(planned), planned.trial.id
        is_worked_on = partial(self._store.is_worked_on, trial_id)
        standing = state_of(planned, known.record, request, is_complete=known.is_complete, is_worked_on=is_worked_on)
        row = replace(known.row, state=standing.state, why=standing.reason, reason=_reason(standing, request, wait))
        if standing.state == "running":
            return _moving_row(row, self._store.progress(trial_id))
        if standing.state in ("stopped", "failed", "interrupted", "paused", "cancelled") and row.step == 0:
            return _halted_row(row, self._store.progress(trial_id))
        return row

    def _known(self, planned: PlannedTrial) -> _Known:
        """What the record tells; read again when it has changed."""
        trial_id = planned.trial.id
        stamp = self._store.record_stamp(trial_id)
        if trial_id in self._seen and self._seen[trial_id][0] == stamp:
            return self._seen[trial_id][1]
        wanted = _wanted(planned, self._data_folder)
        record = self._store.find_outline(trial_id)
        scores, is_complete = ({}, False) if record is None else _scores(planned, record, wanted)
        known = _Known(record=record, is_complete=is_complete, row=_row_of(planned, record, scores))
        if wanted is not None:  # else it changes without the record, when the benchmark is fetched
            self._seen[trial_id] = (stamp, known)
        return known


def count_states(rows: Sequence[TrialRow]) -> dict[State, int]:
    """State → how many rows are in it; states without rows are left out."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}


REWARD_METRIC = "reward/mean"
"""The training metric that views show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the record of a trial tells of it."""

    record: Outline | RunRecord | None
    is_complete: bool
    row: TrialRow
    """Without its state."""


def _row_of(planned: PlannedTrial, record: Outline | RunRecord | None, scores: dict[str, float]) -> TrialRow:
    row = TrialRow(
        id=planned.trial.id,
        label=planned.label,
        state="waiting",
        total=final_step(planned),
        scores=scores,
        axes=planned.axes,
        seed=planned.trial.seed,
    )
    if record is None:
        return row
    return replace(
        row,
        step=record.train.step if record.train else 0,
        reward=record.train.metrics.get(REWARD_METRIC) if record.train else None,
        attempts=len(record.attempts),
        failure=_failure(record),
        alarms=tuple(alarm.text for alarm in record.alarms),
    )


def _reason(standing: Standing, request: TrialRequest, wait: Wait | None) -> str:
    if standing.state == "done":
        return ""
    if standing.state == "running":
        return standing.reason if request.hold is not None else ""
    if wait is not None:
        return wait.text
    return f"{request.hold} by {request.by}" if request.hold is not None else ""


def _failure(record: Outline | RunRecord) -> str:
    if record.status is not Status.FAILED or record.failure is None:
        return ""
    return f"{record.failure.kind}: {first_line(record)}"


def _moving_row(row: TrialRow, progress: Progress | None) -> TrialRow:
    """A running trial's row with what it is doing; a process that has just begun has not said so yet."""
    if progress is None or not progress.is_alive():
        return row
    return replace(
        row,
        phase=progress.phase,
        step=progress.step,
        total=progress.total,
        unit=progress.unit,
        reward=progress.reward if progress.reward is not None else row.reward,
        eta_s=progress.eta_s,
        age_s=round(age_s(progress.updated_at), 1),
    )


def _halted_row(row: TrialRow, progress: Progress | None) -> TrialRow:
    """The row of a training that has not ended, with the step that it came to."""
    return row if progress is None or progress.unit != "step" else replace(row, step=progress.step)


def _wanted(planned: PlannedTrial, data_folder: Path | None) -> tuple[RequiredScore, ...] | None:
    """The final policy's scores that this plan wants; None where a benchmark is not on this machine, or not whole."""
    try:
        return required_scores(planned, step=final_step(planned), data_folder=data_folder)
    except OrchError:
        return None


def _scores(
    planned: PlannedTrial, record: Outline | RunRecord, wanted: Sequence[RequiredScore] | None
) -> tuple[dict[str, float], bool]:
    """The final policy's scores that this plan wants, and whether everything it wants is there.

    Where that is not known, a view still shows what was scored.
    """
    if wanted is None:
        final = final_step(planned)
        ours = [entry for entry in record.scores if grader_name(entry.grader_version) == OURS]
        return {entry.benchmark: entry.avg for entry in ours if entry.step == final}, False
    keys = {one.key for one in wanted}
    scores = {entry.benchmark: entry.avg for entry in record.scores if entry.key in keys}
    return scores, holds_all(record, planned, wanted)
