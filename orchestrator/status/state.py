"""What a sweep would do about each trial of a plan, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.store.record import RunRecord

State = Literal["new", "partial", "failed", "running", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a sweep would do about one trial, and why."""

    planned: PlannedTrial
    state: State
    shared_with: tuple[str, ...]
    """Other experiments of the same runs folder that want this trial."""
    reason: str


def reconcile(
    plan: Plan,
    records: Mapping[str, RunRecord],
    *,
    is_complete: Callable[[RunRecord, PlannedTrial], bool],
    is_running: Callable[[str], bool],
    others: Mapping[str, tuple[str, ...]],
) -> list[Decision]:
    """Say of each trial what a sweep would do.

    Args:
        plan: the plan.
        records: trial id → record, of the trials that have one.
        is_complete: whether a record holds all that the plan wants.
        is_running: whether a process works on a trial now.
        others: trial id → names of the other experiments that plan it.
    """
    decisions = []
    for planned in plan.entries:
        shared = others.get(planned.trial.id, ())
        record = records.get(planned.trial.id)
        state, reason = _state(planned, record, is_complete=is_complete, is_running=is_running)
        if shared:
            reason += f"; shared with {', '.join(shared)}"
        decisions.append(Decision(planned=planned, state=state, shared_with=shared, reason=reason))
    return decisions


def _state(
    planned: PlannedTrial,
    record: RunRecord | None,
    *,
    is_complete: Callable[[RunRecord, PlannedTrial], bool],
    is_running: Callable[[str], bool],
) -> tuple[State, str]:
    if is_running(planned.trial.id):
        return "running", "another process works on it"
    if record is None or not record.attempts:
        return "new", "never run"
    if is_complete(record, planned):
        return "done", f"complete since {record.updated_at}"
    if record.failure is not None:
        reason = (record.failure.message or record.failure.kind).splitlines()[0]
        return "failed", f"failed and will be tried again: {reason}"
    if record.train is None and planned.trial.kind == "train":
        return "partial", "training continues from its last checkpoint"
    return "partial", "some scores are missing"
