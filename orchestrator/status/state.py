"""Where a trial stands: the only place that makes a state of what the runs folder holds.

    record            a process has it    all scores there    hold        state
    running, trained  yes                 any                 any         running
    any               any                 yes                 any         done (but for an open record: as below)
    any other         yes                 no                  any         running
    any               no                  no                  paused      paused
    any               no                  no                  cancelled   cancelled
    none, pending     no                  no                  none        waiting
    running, trained  no                  any                 none        interrupted
    done              no                  no                  none        partial
    failed            no                  no                  none        failed
    stopped           no                  no                  none        stopped

A record is open while it says `running` or `trained`: whoever opened it did not live to close it, so a sweep has to.
Plans, views, sweeps, tables and MLflow ask here, each with the same four facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.outline import Outline
from orchestrator.store.record import WORKING, RunRecord, Status
from orchestrator.store.requests import Hold, TrialRequest

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
"""In the order in which they are counted."""
TO_RUN: frozenset[State] = frozenset(("waiting", "partial", "stopped", "interrupted", "failed"))
"""What the next `orch sweep` runs. The others are complete, held, or running in another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a trial stands, and what follows."""

    state: State
    reason: str
    """For people: why it is not done and what happens next, in one line."""


def state_of(
    planned: PlannedTrial,
    record: Outline | RunRecord | None,
    request: TrialRequest,
    *,
    is_complete: bool,
    is_worked_on: Callable[[], bool],
) -> Standing:
    """Where a trial stands.

    Args:
        planned: the trial.
        record: what was done; None where nothing was.
        request: the last request of `orch ctl` or of a guard.
        is_complete: whether it is trained and holds every score that the plan wants (`scores.is_complete`).
        is_worked_on: whether a process has it now (`Store.is_worked_on`); asked only where it matters.
    """
    is_open = record is not None and record.status in WORKING
    if is_complete and not is_open:
        return Standing(state="done", reason="complete")
    if is_worked_on():
        return Standing(
            state="running", reason=_ENDING[request.hold] if request.hold else "another process works on it"
        )
    if request.hold is not None:
        return Standing(
            state=request.hold, reason=f"{request.hold} by {request.by}; `orch ctl {UNDO[request.hold]}` undoes it"
        )
    if record is None or record.status is Status.PENDING:
        return Standing(state="waiting", reason="never run")
    if is_open:
        return Standing(state="interrupted", reason=f"its process is gone; {_what_is_left(planned, record)}")
    if record.status is Status.FAILED:
        return Standing(state="failed", reason=f"failed and will be tried again: {first_line(record)}")
    if record.status is Status.STOPPED:
        return Standing(state="stopped", reason=_what_is_left(planned, record))
    return Standing(state="partial", reason="some scores are missing")


def first_line(record: Outline | RunRecord) -> str:
    """Why the last attempt failed, in the first line of its message, or by its kind; empty where it did not fail."""
    failure = record.failure
    return "" if failure is None else (failure.message.strip() or failure.kind).splitlines()[0]


def _what_is_left(planned: PlannedTrial, record: Outline | RunRecord) -> str:
    if record.train is None and planned.trial.kind == "train":
        return "training continues from its last checkpoint"
    return "some scores are missing"


UNDO: dict[Hold, str] = {"paused": "resume", "cancelled": "requeue"}
"""The `orch ctl` command that lifts a hold."""
_ENDING: dict[Hold, str] = {"paused": "pausing: writes its checkpoint", "cancelled": "being cancelled"}
