"""How far an experiment is mirrored: `runs/mlflow/<experiment>.json`. A note of what was sent, never the truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.codec import CodecError, decode, encode
from orchestrator.errors import StoreError
from orchestrator.store.files import read_json, write_json

_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCursor:
    """What was sent of one trial, or of the sweep itself."""

    run_id: str
    mark: str = ""
    """`Store.change_mark` when it was read; of the sweep: `Cursor.sweep_mark`."""
    status: str = ""
    """As it was sent to MLflow."""
    scores: tuple[str, ...] = ()
    """Keys of the scores sent."""
    num_costs: int = 0
    """Attempts whose costs were sent."""
    datasets: tuple[str, ...] = ()
    artifacts: dict[str, str] = field(default_factory=dict)
    """Path → digest of the text sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """What was sent of an experiment to one tracking server."""

    schema_version: int = _SCHEMA_VERSION
    target: str
    """Digest of the tracking URI: another server starts from nothing."""
    plan: str
    """Digest of the plan that was mirrored."""
    sweep: TrialCursor | None = None
    trials: dict[str, TrialCursor] = field(default_factory=dict)

    def sweep_mark(self) -> str:
        """Changes when the sweep's own run should: with the plan, a trial's status or a score."""
        return text_digest(repr((self.plan, sorted((key, one.status, one.scores) for key, one in self.trials.items()))))


def load_cursor(path: Path, *, target: str) -> Cursor:
    """The cursor for a server; an empty one where there is none, it does not read, or it is another server's."""
    empty = Cursor(target=target, plan="")
    try:
        cursor = decode(Cursor, read_json(path))
    except (StoreError, CodecError):
        return empty
    return cursor if cursor.target == target and cursor.schema_version == _SCHEMA_VERSION else empty


def save_cursor(path: Path, cursor: Cursor) -> None:
    """Replace the cursor file.

    Raises:
        StoreError: not writable, or the disk is full.
    """
    write_json(path, encode(cursor))


def text_digest(text: str) -> str:
    """Tells whether an artifact changed."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
