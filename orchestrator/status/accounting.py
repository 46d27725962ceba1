"""What trials have cost: device-hours by phase, with what was idle and what was lost, per trial, arm and sweep.

A device is a GPU; a trial without GPUs is counted in CPU cores. An attempt books its devices from its start to its end;
phases, `idle` and `lost` add up to that:

    lost   of an attempt that died, all but the steps, scores and checkpoints that outlived it; of any attempt, the
           steps that a later one did again because no checkpoint held them
    idle   what no phase accounts for

A trial that several experiments share is counted whole in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, Literal

from orchestrator.plan.arm import arm_of
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.record import Attempt, Outcome, RunRecord
from orchestrator.store.scores import final_step, shown_scores
from orchestrator.store.store import Store

Device = Literal["gpu", "core"]
PHASES = ("prepare", "sample", "score", "update", "evaluate", "checkpoint", "idle", "lost")
"""In the order in which tables show them."""
_STEP_PHASES = ("sample", "score", "update", "evaluate", "checkpoint")
"""Phases whose seconds a training step reports, as `time/<phase>_s`."""
_DIED = (Outcome.FAILED, Outcome.INTERRUPTED)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAccount:
    """One trial."""

    id: str
    label: str
    device: Device
    num_devices: int
    num_attempts: int
    seconds: dict[str, float]
    """Phase of `PHASES` → wall seconds, over all attempts."""
    accuracy: float | None
    """avg@K of the final policy in percent, mean over the benchmarks that the experiment asks for."""

    @property
    def device_hours(self) -> dict[str, float]:
        """Phase → hours × devices."""
        return {phase: spent * self.num_devices / 3600 for phase, spent in self.seconds.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Some trials together: an arm, or a whole sweep."""

    label: str
    num_trials: int
    """With at least one attempt."""
    num_attempts: int
    hours: dict[Device, dict[str, float]]
    """Device → phase → device-hours."""
    gain: float | None = None
    """Accuracy above the base model in points, mean over the arm's scored trials."""
    num_scored: int = 0
    hours_per_point: float | None = None
    """Device-hours of all the arm's trials, failed ones too, by scored trial and point above base.

    None where nothing was gained, or two kinds of device mix."""

    @property
    def total(self) -> dict[Device, float]:
        """Device → device-hours of all phases."""
        return {device: sum(by_phase.values()) for device, by_phase in self.hours.items()}


def account_of(planned: PlannedTrial, store: Store) -> TrialAccount | None:
    """What a trial has cost so far; None where it was never begun.

    Raises:
        StoreError: its record does not read.
    """
    record = store.find(planned.trial.id)
    if record is None or not record.attempts:
        return None
    progress = store.progress(planned.trial.id)
    if progress is None or not progress.is_alive():
        record = record.with_death(outcome=Outcome.INTERRUPTED, failure=None, at=record.updated_at)
    ends = {attempt.number: _end(attempt, planned.trial.id, store) for attempt in record.attempts}
    rows = {attempt.number: store.attempt_metrics(planned.trial.id, attempt.number) for attempt in record.attempts}
    resources = planned.resources
    return TrialAccount(
        id=planned.trial.id,
        label=planned.label,
        device="gpu" if resources.num_gpus else "core",
        num_devices=(resources.num_gpus or resources.num_cpus) * resources.num_nodes,
        num_attempts=len(record.attempts),
        seconds=trial_seconds(record, ends=ends, rows=rows, checkpoint_every=resources.steps_per_checkpoint),
        accuracy=_accuracy(planned, record),
    )


def trial_seconds(
    record: RunRecord, *, ends: Mapping[int, datetime], rows: Mapping[int, Rows], checkpoint_every: int
) -> dict[str, float]:
    """Phase → wall seconds over all attempts of a trial.

    Args:
        record: its record.
        ends: attempt number → when it gave up its devices, or its last sign of life.
        rows: attempt number → metrics of the training steps that it did.
        checkpoint_every: steps between checkpoints, for the steps of a last attempt that died.
    """
    total: dict[str, float] = {}
    for attempt in record.attempts:
        started = datetime.fromisoformat(attempt.started_at)
        booked_s = max(0.0, (ends[attempt.number] - started).total_seconds())
        kept_before = _first_step_done_again(record, attempt, rows, checkpoint_every)
        own = rows.get(attempt.number, ())
        kept = _step_seconds(row for row in own if int(row["step"]) < kept_before)
        again = _step_seconds(row for row in own if int(row["step"]) >= kept_before)
        if attempt.outcome in _DIED or not attempt.phase_seconds:
            seconds = _of_unaccounted(record, attempt, kept, booked_s, ends[attempt.number])
        else:
            seconds = {phase: max(0.0, spent - again.get(phase, 0.0)) for phase, spent in attempt.phase_seconds.items()}
            seconds["lost"] = sum(again.values())
            seconds["idle"] = max(0.0, booked_s - sum(seconds.values()))
        for phase, spent in seconds.items():
            total[phase] = total.get(phase, 0.0) + spent
    return {phase: total[phase] for phase in (*PHASES, *(total.keys() - {*PHASES})) if total.get(phase)}


def add_up(label: str, accounts: Iterable[TrialAccount | None], *, base: float | None = None) -> Account:
    """Some trials together; with the base model's accuracy, what a point above it cost."""
    begun = [account for account in accounts if account is not None]
    hours: dict[Device, dict[str, float]] = {}
    for account in begun:
        known = hours.setdefault(account.device, {})
        for phase, spent in account.device_hours.items():
            known[phase] = known.get(phase, 0.0) + spent
    gains = [one.accuracy - base for one in begun if one.accuracy is not None] if base is not None else []
    gain = fmean(gains) if gains else None
    spent = sum(sum(by_phase.values()) for by_phase in hours.values())
    return Account(
        label=label,
        num_trials=len(begun),
        num_attempts=sum(account.num_attempts for account in begun),
        hours={device: _ordered(by_phase) for device, by_phase in hours.items()},
        gain=gain,
        num_scored=len(gains),
        hours_per_point=spent / len(gains) / gain if gain is not None and gain > 0 and len(hours) == 1 else None,
    )


def accounts_by_arm(trials: Sequence[PlannedTrial], store: Store) -> tuple[Account, ...]:
    """One account an arm in planned order (base models first), and the whole sweep's last.

    Raises:
        StoreError: a record does not read.
    """
    found = {planned.trial.id: account_of(planned, store) for planned in trials}
    arms: dict[str, list[PlannedTrial]] = {}
    for planned in trials:
        arms.setdefault(arm_of(planned), []).append(planned)
    accounts = (
        add_up(
            members[0].arm_label,
            [found[one.trial.id] for one in members],
            base=base_accuracy(members[0], trials, found),
        )
        for members in arms.values()
    )
    return (*accounts, add_up("all", found.values()))


def base_accuracy(
    planned: PlannedTrial, trials: Sequence[PlannedTrial], found: Mapping[str, TrialAccount | None]
) -> float | None:
    """What the model that a trial trains scores without training; None for a base model, or before it is scored."""
    if planned.trial.kind == "base":
        return None
    same = (one for one in trials if one.trial.kind == "base" and one.trial.model_digest == planned.trial.model_digest)
    base = next(same, None)
    account = found[base.trial.id] if base is not None else None
    return account.accuracy if account is not None else None


def _first_step_done_again(
    record: RunRecord, attempt: Attempt, rows: Mapping[int, Rows], checkpoint_every: int
) -> float:
    """The first step of an attempt that did not outlive it.

    The attempts after it tell. Where none of them trained, a finished training or a clean stop lost nothing, and
    of a dead attempt the steps up to the last multiple of `checkpoint_every` are taken to be safe.
    """
    own = rows.get(attempt.number, ())
    later = [int(row["step"]) for number, done in rows.items() if number > attempt.number for row in done]
    if later:
        return min(later)
    if not own or record.train is not None or attempt.outcome not in _DIED:
        return float("inf")
    last = max(int(row["step"]) for row in own)
    return last - last % checkpoint_every + 1


def _of_unaccounted(
    record: RunRecord, attempt: Attempt, kept: Mapping[str, float], booked_s: float, end: datetime
) -> dict[str, float]:
    """Seconds of an attempt that died or still runs: what outlived it by phase, and the rest."""
    evaluated = sum(
        entry.elapsed_s
        for entry in record.scores
        if datetime.fromisoformat(attempt.started_at) <= datetime.fromisoformat(entry.finished_at) <= end
    )
    seconds = {**kept, "evaluate": max(kept.get("evaluate", 0.0), evaluated)}
    rest = max(0.0, booked_s - sum(seconds.values()))
    return {**seconds, ("lost" if attempt.outcome in _DIED else "prepare"): rest}


def _step_seconds(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for row in rows:
        for phase in _STEP_PHASES:
            spent = row.get(f"time/{phase}_s")
            if isinstance(spent, int | float):
                total[phase] = total.get(phase, 0.0) + spent
    return total


def _end(attempt: Attempt, trial_id: str, store: Store) -> datetime:
    """When an attempt gave up its devices.

    One that vanished is closed by the next, maybe days later: its files say when it last lived.
    """
    ended = datetime.fromisoformat(attempt.ended_at) if attempt.ended_at is not None else None
    if ended is not None and attempt.outcome is not Outcome.INTERRUPTED:
        return ended
    progress = store.progress(trial_id)
    if progress is not None and progress.attempt == attempt.number:
        return datetime.fromisoformat(progress.updated_at)
    written = store.last_written(trial_id, attempt.number)
    seen = datetime.fromtimestamp(written, UTC) if written is not None else datetime.fromisoformat(attempt.started_at)
    return min(seen, ended) if ended is not None else seen


def _accuracy(planned: PlannedTrial, record: RunRecord) -> float | None:
    """Mean over all benchmarks asked for, or None until all of them are scored."""
    scores = shown_scores(record, planned.evaluation)
    step = final_step(planned)
    found = [scores.get((name, step)) for name in planned.evaluation.benchmarks]
    values = [100 * entry.avg for entry in found if entry is not None]
    return fmean(values) if len(values) == len(found) else None


def _ordered(by_phase: Mapping[str, float]) -> dict[str, float]:
    return {phase: by_phase[phase] for phase in (*PHASES, *sorted(by_phase.keys() - {*PHASES})) if phase in by_phase}
