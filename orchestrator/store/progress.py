"""Where a running trial stands: `runs/<id>/progress.json`. Written often and cheaply by the trial, read by views.

The file is a view, never the truth: it is replaced atomically but not fsynced, and losing it loses nothing.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from eval.background import repeated
from orchestrator.codec import encode
from orchestrator.store.files import read_view, write_view

HEARTBEAT_S = 5.0
"""A live trial rewrites its progress at least this often."""
STALE_S = 45.0
"""Without a heartbeat for this long, a trial on another machine counts as gone."""
THROTTLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a trial is doing now."""

    phase: str
    """A phase of `trainers.api.Phase`, how far it is if that is known, `start`, or `evaluate <benchmark>`."""
    step: int = 0
    """Completed units of the current kind of work."""
    total: int = 0
    """Units of it in all: training steps, or completions of an evaluation; 0 when unknown."""
    unit: str = "step"
    reward: float | None = None
    """Mean reward of the last training step."""
    eta_s: float | None = None
    """Seconds of training left, at the pace of this attempt."""
    attempt: int
    started_at: str
    """Of the attempt, UTC."""
    updated_at: str
    pid: int
    host: str

    def is_alive(self) -> bool:
        """Whether the process that wrote this still runs, as far as this machine can tell."""
        return is_alive(host=self.host, pid=self.pid, updated_at=self.updated_at)


def is_alive(*, host: str, pid: int, updated_at: str) -> bool:
    """Whether a process that last gave a sign of life then still runs, as far as this machine can tell."""
    if host == socket.gethostname():
        return process_exists(pid)
    return age_s(updated_at) < STALE_S


def age_s(timestamp: str) -> float:
    """Seconds since a UTC ISO timestamp."""
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()


def read_progress(path: Path) -> Progress | None:
    """The last progress written, or None: there is none yet, or it does not read."""
    return read_view(Progress, path)


class ProgressWriter:
    """Keeps one progress file fresh; called from the trial's thread and from its heartbeat thread.

    Writing never raises: a full disk must not fail a trial through its progress bar.
    """

    def __init__(self, path: Path, *, attempt: int, now: Callable[[], str]) -> None:
        """Write the first line of progress at once."""
        self._path, self._now = path, now
        self._lock = threading.Lock()
        self._last_write_s = 0.0
        self._pace: tuple[int, float] | None = None
        started = now()
        self._progress = Progress(
            phase="start",
            attempt=attempt,
            started_at=started,
            updated_at=started,
            pid=os.getpid(),
            host=socket.gethostname(),
        )
        self._write()

    def enter(self, phase: str, *, step: int, total: int, unit: str = "step") -> None:
        """Move to a phase; `step` units of `total` are complete."""
        with self._lock:
            self._progress = replace(self._progress, phase=phase, step=step, total=total, unit=unit)
            self._write_throttled()

    def say(self, phase: str) -> None:
        """Tell more of the phase, within a step."""
        with self._lock:
            self._progress = replace(self._progress, phase=phase)
            self._write_throttled()

    def complete_step(self, step: int, *, total: int, reward: float | None) -> None:
        """A training step is complete: refresh step, reward and the time left."""
        with self._lock:
            moment = time.monotonic()
            if self._pace is None:
                self._pace = (step, moment)
            first_step, first_moment = self._pace
            pace = (moment - first_moment) / (step - first_step) if step > first_step else None
            self._progress = replace(
                self._progress,
                step=step,
                total=total,
                unit="step",
                reward=reward,
                eta_s=None if pace is None else round(pace * (total - step), 1),
            )
            self._write_throttled()

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Refresh the file from a thread while the block runs, and write the last state at its end."""

        def beat() -> None:
            with self._lock:
                self._write()

        try:
            with repeated(beat, every_s=HEARTBEAT_S, name="progress-heartbeat"):
                yield
        finally:
            beat()

    def _write_throttled(self) -> None:
        if time.monotonic() - self._last_write_s >= THROTTLE_S:
            self._write()

    def _write(self) -> None:
        self._last_write_s = time.monotonic()
        self._progress = replace(self._progress, updated_at=self._now())
        write_view(self._path, json.dumps(encode(self._progress)).encode())


def process_exists(pid: int) -> bool:
    """Whether a process of this machine runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"


class FileTail:
    """Reads a growing file; one that was cut or replaced by a shorter one is read anew."""

    def __init__(self, path: Path, *, last_bytes: int | None = None) -> None:
        """Begin at the start, or that many bytes before the end. The file need not be there yet."""
        self.path = path
        self._offset = max(0, _size(path) - last_bytes) if last_bytes is not None else 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._unfinished = ""

    def read(self) -> str:
        """All that was added since the last call."""
        if _size(self.path) < self._offset:
            self._offset, self._unfinished = 0, ""
            self._decoder.reset()
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
        except OSError:
            return ""
        self._offset += len(added)
        return self._decoder.decode(added)

    def read_lines(self) -> list[str]:
        """The whole lines that were added; one that is still being written waits for its end."""
        *lines, self._unfinished = (self._unfinished + self.read()).split("\n")
        return lines


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
