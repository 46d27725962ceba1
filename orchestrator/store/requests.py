"""Requests to trials and sweeps, made at any time: small files that drivers and supervisors read.

    runs/orders/trials/<id>.json            pause, cancel, run again, priority: `TrialRequest`
    runs/orders/sweeps/<experiment>.json    drain: `DrainRequest`

The last word counts. A request says what is wanted and never touches a record, so none can spoil one. The files
are their owner's alone.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock

from orchestrator.codec import encode
from orchestrator.store.files import decoded, explained, read_json, write_atomically

T = TypeVar("T")
Hold = Literal["paused", "cancelled"]

_OWNER_ONLY = 0o600
_FIX = "remove the file: that takes the request back"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """What is asked of one trial."""

    hold: Hold | None = None
    """`paused`: checkpoint, stop and wait for `resume`; `cancelled`: the same until `requeue`."""
    priority: int | None = None
    """Instead of the experiment file's; higher starts first."""
    requeued_after: int | None = None
    """Attempts that the trial had when it was asked to run again: they count neither for its retries nor as failures
    that hold others, and it is due until there is one more."""
    by: str = ""
    """user@host of the last word."""
    at: str = ""
    """UTC, of the last word."""

    def is_due(self, num_attempts: int) -> bool:
        """Whether a request to run again is still to be met."""
        return self.requeued_after is not None and num_attempts <= self.requeued_after


NO_REQUEST = TrialRequest()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequest:
    """A sweep finishes what runs and starts nothing new."""

    by: str
    at: str


class Requests:
    """The requests of one runs folder. Reads a file again only when it has changed."""

    def __init__(self, runs: Path, *, now: Callable[[], str]) -> None:
        """Nothing is created before something is asked for."""
        self._folder, self._now = runs / "orders", now
        self._seen: dict[str, tuple[tuple[int, int, int], TrialRequest]] = {}

    def of(self, trial_id: str) -> TrialRequest:
        """What is asked of a trial.

        Raises:
            StoreError: the request does not read.
        """
        return _read(TrialRequest, self._file(trial_id)) or NO_REQUEST

    def all(self) -> Mapping[str, TrialRequest]:
        """Trial id → what is asked of it, for all trials of which anything is.

        Raises:
            StoreError: a request does not read.
        """
        found: dict[str, tuple[tuple[int, int, int], TrialRequest]] = {}
        for entry in _entries(self._folder / "trials"):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                name = entry.name.removesuffix(".json")
                known = self._seen.get(name)
                found[name] = known if known is not None and known[0] == stamp else (stamp, self.of(name))
        self._seen = found
        return {name: request for name, (_, request) in found.items()}

    def pause(self, trial_id: str) -> None:
        """Let a trial write its checkpoint and stop, and start it no more until `resume`."""
        self._change(trial_id, lambda request: replace(request, hold="paused"))

    def cancel(self, trial_id: str) -> None:
        """Stop a trial, and start it no more until `requeue`."""
        self._change(trial_id, lambda request: replace(request, hold="cancelled"))

    def resume(self, trial_id: str) -> None:
        """Lift a pause."""
        self._change(trial_id, lambda request: replace(request, hold=None) if request.hold == "paused" else request)

    def requeue(self, trial_id: str, *, num_attempts: int) -> None:
        """Run a trial again now: lift every hold and forget what it failed of in its attempts so far."""
        self._change(trial_id, lambda request: replace(request, hold=None, requeued_after=num_attempts))

    def set_priority(self, trial_id: str, priority: int) -> None:
        """Let a trial start before those of lower priority."""
        self._change(trial_id, lambda request: replace(request, priority=priority))

    def drain(self, experiment: str) -> None:
        """Let a sweep finish what runs, start nothing new, and end."""
        with self._alone():
            self._write(self._drain_file(experiment), DrainRequest(by=_who(), at=self._now()))

    def undo_drain(self, experiment: str) -> bool:
        """Take a drain back; whether there was one."""
        with self._alone():
            was_there = self._drain_file(experiment).exists()
            self._drain_file(experiment).unlink(missing_ok=True)
        return was_there

    def draining(self, experiment: str) -> DrainRequest | None:
        """The request to drain a sweep, if there is one.

        Raises:
            StoreError: the request does not read.
        """
        return _read(DrainRequest, self._drain_file(experiment))

    def _change(self, trial_id: str, change: Callable[[TrialRequest], TrialRequest]) -> None:
        with self._alone():
            request = self.of(trial_id)
            changed = change(request)
            if changed != request:
                self._write(self._file(trial_id), replace(changed, by=_who(), at=self._now()))

    def _file(self, trial_id: str) -> Path:
        return self._folder / "trials" / f"{trial_id}.json"

    def _drain_file(self, experiment: str) -> Path:
        return self._folder / "sweeps" / f"{experiment}.json"

    def _write(self, path: Path, value: TrialRequest | DrainRequest) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(path, json.dumps(encode(value)).encode() + b"\n", mode=_OWNER_ONLY)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two that change one request at once both count."""
        with explained(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self._folder / ".lock", mode=_OWNER_ONLY):
                yield


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def _read(kind: type[T], path: Path) -> T | None:
    payload: Any = read_json(path)
    return None if payload is None else decoded(kind, payload, what="a request", where=path, fix=_FIX)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
