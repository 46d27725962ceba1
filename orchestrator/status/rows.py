"""Where each trial of a sweep stands, read from the store alone: what `orch status` and the live table show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import OrchError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.status.driver import Wait, live_drivers, waits_of
from orchestrator.store.outline import Outline
from orchestrator.store.progress import Progress, age_s
from orchestrator.store.record import WORKING, RunRecord, Status
from orchestrator.store.redact import now
from orchestrator.store.requests import NO_ORDER, Hold, Order, Orders
from orchestrator.store.scores import WantedScore, final_step, holds_all, wanted_scores
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from orchestrator.store.record import RunRecord

State = Literal["waiting", "running", "done", "partial", "failed", "stopped", "interrupted", "paused", "cancelled"]
STATES: tuple[State, ...] = (
    "done",
    "running",
    "waiting",
    "partial",
    "paused",
    "stopped",
    "interrupted",
    "failed",
    "cancelled",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One line of the view."""

    id: str
    label: str
    state: State
    """`partial`: done once, and this plan wants more scores; `interrupted`: its process died without a word;
    `paused`, `cancelled`: not started until somebody says so."""
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
    """Why it does not run yet, in the words of the driver that will start it; empty where none runs."""
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
        self._orders = Orders(store.root, now=now)
        self._seen: dict[str, tuple[tuple[int, int], TrialRow]] = {}

    def rows(self) -> tuple[TrialRow, ...]:
        """One row a trial, in the plan's order.

        Raises:
            StoreError: a record does not read.
        """
        self._follow_plan()
        orders, waits = self._orders.all(), waits_of(live_drivers(self._store.root))
        return tuple(
            _asked_row(self.row(planned), orders.get(planned.trial.id, NO_ORDER), waits.get(planned.trial.id))
            for planned in self.trials
        )

    def _follow_plan(self) -> None:
        if self._experiment is None or self._store.plans.stamp(self._experiment) == self._plan_stamp:
            return
        self._plan_stamp = self._store.plans.stamp(self._experiment)
        self.trials = self._store.plans.read(self._experiment).entries

    def row(self, planned: PlannedTrial) -> TrialRow:
        """How one trial stands, whatever is asked of it.

        Raises:
            StoreError: its record does not read.
        """
        trial_id = planned.trial.id
        stamp = self._store.record_stamp(trial_id)
        if trial_id not in self._seen or self._seen[trial_id][0] != stamp:
            wanted = _wanted(planned, self._data_folder)
            row = _resting_row(planned, self._store.find_outline(trial_id), wanted)
            if row.state in ("stopped", "failed") and row.step == 0:
                row = _stopped_row(row, self._store.progress(trial_id))
            if wanted is not None:  # else it changes without the record, when the benchmark is fetched
                self._seen[trial_id] = (stamp, row)
        else:
            row = self._seen[trial_id][1]
        return _moving_row(row, self._store.progress(trial_id)) if row.state == "running" else row


def count_states(rows: Sequence[TrialRow]) -> dict[State, int]:
    """State → how many rows are in it; states without rows are left out."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}


REWARD_METRIC = "reward/mean"
"""The training metric that views show."""


def _resting_row(
    planned: PlannedTrial, record: Outline | RunRecord | None, wanted: Sequence[WantedScore] | None
) -> TrialRow:
    """What the record alone tells; `running` where it says so, whether or not the process still lives."""
    trial = planned.trial
    row = TrialRow(
        id=trial.id,
        label=planned.label,
        state="waiting",
        total=final_step(planned),
        scores={},
        axes=planned.axes,
        seed=trial.seed,
    )
    if record is None:
        return row
    scores, has_everything = _scores(planned, record, wanted)
    return replace(
        row,
        state=_state(record, has_everything),
        step=record.train.step if record.train else 0,
        reward=record.train.metrics.get(REWARD_METRIC) if record.train else None,
        attempts=len(record.attempts),
        scores=scores,
        failure=_first_line(record),
        alarms=tuple(alarm.text for alarm in record.alarms),
    )


def _moving_row(row: TrialRow, progress: Progress | None) -> TrialRow:
    """A running trial's row with what it is doing, or the word that its process is gone."""
    if progress is None or not progress.is_alive():
        return replace(row, state="interrupted")
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


def _stopped_row(row: TrialRow, progress: Progress | None) -> TrialRow:
    """The row of a training that has not ended, with the step that it came to."""
    return row if progress is None or progress.unit != "step" else replace(row, step=progress.step)


def _asked_row(row: TrialRow, order: Order, wait: Wait | None) -> TrialRow:
    """The row with what somebody asked of the trial, and with what it waits for."""
    if row.state == "running":
        return replace(row, reason=_ENDING[order.hold]) if order.hold is not None else row
    if row.state == "done" or (order.hold is None and wait is None):
        return row
    reason = wait.text if wait is not None else f"{order.hold} by {order.by}"
    return replace(row, state=order.hold or row.state, reason=reason)


_ENDING: dict[Hold, str] = {"paused": "pausing: writes its checkpoint", "cancelled": "being cancelled"}


def _wanted(planned: PlannedTrial, data_folder: Path | None) -> tuple[WantedScore, ...] | None:
    """The final policy's scores that this plan wants; None where a benchmark is not on this machine, or not whole."""
    try:
        return wanted_scores(planned, step=final_step(planned), data_folder=data_folder)
    except OrchError:
        return None


def _scores(
    planned: PlannedTrial, record: Outline | RunRecord, wanted: Sequence[WantedScore] | None
) -> tuple[dict[str, float], bool]:
    """The final policy's scores that this plan wants, and whether everything it wants is there.

    Where that is not known, a view still shows what was scored.
    """
    if wanted is None:
        final = final_step(planned)
        return {entry.benchmark: entry.avg for entry in record.scores if entry.step == final}, False
    keys = {one.key for one in wanted}
    scores = {entry.benchmark: entry.avg for entry in record.scores if entry.key in keys}
    return scores, holds_all(record, planned, wanted)


def _state(record: Outline | RunRecord, has_everything: bool) -> State:
    """Done is what this plan finds done: another plan's benchmark that failed or is missing does not count."""
    if record.status in WORKING:
        return "running"
    if has_everything:
        return "done"
    return _STATE_OF[record.status]


_STATE_OF: dict[Status, State] = {
    Status.PENDING: "waiting",
    Status.DONE: "partial",
    Status.FAILED: "failed",
    Status.STOPPED: "stopped",
}


def _first_line(record: Outline | RunRecord) -> str:
    if record.status is not Status.FAILED or record.failure is None:
        return ""
    lines = record.failure.message.splitlines()
    return f"{record.failure.kind}: {lines[0] if lines else ''}"
