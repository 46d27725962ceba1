"""What a view needs of a record, read without the rest: ten thousand records in the time of a thousand.

The names are those of `record.RunRecord`, which may stand wherever an outline does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from orchestrator.store.alarm import Alarm
from orchestrator.store.files import read_whole
from orchestrator.store.record import SCHEMA_VERSION, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureOutline:
    """Of `record.Failure`."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutline:
    """Of `record.Attempt`."""

    failure: FailureOutline | None = None
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutline:
    """Of `record.TrainSummary`."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOutline:
    """Of `record.ScoreEntry`."""

    key: str
    step: int
    benchmark: str
    avg: float
    grader_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Of `record.RunRecord`."""

    schema_version: int
    status: Status
    attempts: tuple[AttemptOutline, ...] = ()
    train: TrainOutline | None = None
    scores: tuple[ScoreOutline, ...] = ()

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Guards that spoke, over all attempts."""
        return tuple(alarm for attempt in self.attempts for alarm in attempt.alarms)

    @property
    def failure(self) -> FailureOutline | None:
        """Of the last attempt, when that failed."""
        return self.attempts[-1].failure if self.attempts else None


_DECODER = msgspec.json.Decoder(Outline)


def read_outline(path: Path) -> Outline | None:
    """Read the outline of a record's file; None where it takes the whole record to tell what is there.

    That is: where there is no file, where it does not read, where a number is none, and where a newer orch wrote it.

    Raises:
        FileDamaged: it is not what was sealed. StoreError: it cannot be opened.
    """
    content = read_whole(path)
    if content is None:
        return None
    try:
        outline = _DECODER.decode(content)
    except msgspec.DecodeError:
        return None
    return outline if outline.schema_version <= SCHEMA_VERSION else None
