"""What is known about one trial: the content of `runs/<id>/record.json`. Frozen; every change writes a new one.

`run.run_trial` writes a record after each piece of work; plan, status, tracking and dashboards read it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from eval.api import Score, ScoreFields
from orchestrator.errors import StoreError
from orchestrator.plan.trial import Trial
from orchestrator.store.alarm import Alarm
from orchestrator.store.files import REBUILD, decoded
from trainers.api import TrainResult
from trainers.recipe import Resources

SCHEMA_VERSION = 1
"""Raised when older code could misread the file; new optional fields do not raise it."""


class Status(StrEnum):
    """Where a trial stands. A record says `running` until its process says otherwise, even if that was killed."""

    PENDING = "pending"
    RUNNING = "running"
    TRAINED = "trained"
    """Training is done, some evaluation is not."""
    DONE = "done"
    """Everything that the last request wanted is there; another request may want more scores."""
    FAILED = "failed"
    STOPPED = "stopped"
    """Asked to stop; resumes from its checkpoint."""


WORKING = (Status.RUNNING, Status.TRAINED)
"""What a record says while an attempt is under way, or after its process vanished."""


class Outcome(StrEnum):
    """How an attempt ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    """Its process vanished without a word: killed, out of memory, machine lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The machine an attempt ran on."""

    cpu: str
    num_cores: int
    """Cores this process may use."""
    memory_gb: float
    gpus: tuple[str, ...]
    """Name, memory and driver of each, as nvidia-smi prints them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Code, command and machine of an attempt. Holds no environment variables."""

    commit: str | None
    """None when the code does not run from a git checkout."""
    is_dirty: bool | None
    versions: dict[str, str]
    python: str
    argv: tuple[str, ...]
    host: str
    pid: int
    hardware: Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt failed, in the words a user can act on."""

    kind: str
    """Exception class, or `ProcessDied`."""
    message: str
    log_tail: tuple[str, ...]
    """Last lines of the attempt's train.log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One process's go at a trial; its files are in `attempts/<number>/`."""

    number: int
    """From 1."""
    started_at: str
    """UTC, ISO 8601."""
    ended_at: str | None = None
    outcome: Outcome = Outcome.RUNNING
    seed: int | None
    data_digest: str | None
    provenance: Provenance
    failure: Failure | None = None
    resources: Resources | None = None
    """What it used; less than the plan's where that had run out of GPU memory. None in records of before."""
    phase_seconds: dict[str, float]
    """Wall time by phase; evaluation included."""
    peak_memory_mb: float = 0.0
    """Largest resident memory of the process, or device memory where a trainer reports more."""
    alarms: tuple[Alarm, ...] = ()
    """Guards that spoke, in order of steps."""
    node: str | None = None
    """Ray's id of the node it ran on, the first of several; None where no Ray chose one."""
    other_nodes: tuple[str, ...] = ()
    """The rest of its gang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSummary:
    """A finished training."""

    step: int
    model_folder: str
    """Final policy, relative to the trial's folder when it lies inside, so that a store can be moved."""
    metrics: dict[str, float]
    """The last step's metrics."""
    num_parameters: int
    finished_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreEntry(ScoreFields):
    """A score without its per-problem table, which stays in `eval/<key>/score.json`."""

    key: str
    """12 hex digits of (trial, step, benchmark digest, settings, limit, grader): the folder under `eval/`."""
    step: int
    """Training step of the checkpoint; 0 is the initial model."""
    limit: int | None
    finished_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """All that is known about one trial."""

    schema_version: int = SCHEMA_VERSION
    trial: Trial
    status: Status
    attempts: tuple[Attempt, ...] = ()
    train: TrainSummary | None = None
    """None until training has finished, and for ever for the base model."""
    scores: tuple[ScoreEntry, ...] = ()
    """In the order in which they were made; one entry a key."""
    created_at: str
    updated_at: str

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Wall time by phase, summed over attempts."""
        total: dict[str, float] = {}
        for attempt in self.attempts:
            for phase, seconds in attempt.phase_seconds.items():
                total[phase] = total.get(phase, 0.0) + seconds
        return total

    @property
    def peak_memory_mb(self) -> float:
        """Largest over attempts; 0 before the first has ended."""
        return max((attempt.peak_memory_mb for attempt in self.attempts), default=0.0)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Guards that spoke, over all attempts."""
        return tuple(alarm for attempt in self.attempts for alarm in attempt.alarms)

    @property
    def failure(self) -> Failure | None:
        """Of the last attempt, when that failed."""
        return self.attempts[-1].failure if self.attempts else None

    def with_attempt(self, attempt: Attempt, *, status: Status, at: str) -> RunRecord:
        """Replace the attempt of that number, or append it."""
        others = tuple(one for one in self.attempts if one.number != attempt.number)
        return replace(self, attempts=(*others, attempt), status=status, updated_at=at)

    def with_score(self, entry: ScoreEntry, *, at: str) -> RunRecord:
        """Add a score, replacing one of the same key."""
        others = tuple(one for one in self.scores if one.key != entry.key)
        return replace(self, scores=(*others, entry), updated_at=at)

    def with_death(self, *, outcome: Outcome, failure: Failure | None, at: str) -> RunRecord:
        """Close an attempt that still says `running`, whose process the caller knows to be gone."""
        if not self.attempts or self.attempts[-1].outcome is not Outcome.RUNNING:
            return self
        last = replace(self.attempts[-1], outcome=outcome, failure=failure, ended_at=at)
        return self.with_attempt(last, status=Status.STOPPED if failure is None else Status.FAILED, at=at)


def new_record(trial: Trial, *, at: str) -> RunRecord:
    """The record of a trial before its first attempt."""
    return RunRecord(trial=trial, status=Status.PENDING, created_at=at, updated_at=at)


def train_summary(result: TrainResult, *, model_folder: str, at: str) -> TrainSummary:
    """Keep what outlives the attempt of a finished training."""
    return TrainSummary(
        step=result.step,
        model_folder=model_folder,
        metrics={name: float(value) for name, value in result.metrics.items() if isinstance(value, (int, float))},
        num_parameters=result.num_parameters,
        finished_at=at,
    )


def score_entry(score: Score, *, key: str, step: int, limit: int | None, at: str) -> ScoreEntry:
    """Keep what a table needs of a score."""
    kept = {one.name: getattr(score, one.name) for one in fields(ScoreFields)}
    return ScoreEntry(**kept, key=key, step=step, limit=limit, finished_at=at)


def from_json(payload: Any, *, where: str) -> RunRecord:
    """Read a record.

    Raises:
        StoreError: written by a newer orch, or not a record; `where` names the file in the message.
    """
    check_version(payload, where=where)
    return decoded(RunRecord, payload, what="a record", where=where)


def check_version(payload: Any, *, where: str) -> None:
    """Refuse a file of the store that a newer orch wrote.

    Raises:
        StoreError: `schema_version` is above ours, or absent.
    """
    version = payload.get("schema_version") if isinstance(payload, dict) else None
    if not isinstance(version, int):
        raise StoreError("a file of the runs folder has no schema_version", where=where, fix=REBUILD)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"written by a newer orch: schema version {version}, this one reads up to {SCHEMA_VERSION}",
            where=where,
            fix="upgrade orch (git pull && make install), or give another runs folder with --store",
        )
