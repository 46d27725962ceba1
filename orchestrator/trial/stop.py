"""How a sweep is asked to stop: once for a checkpoint and a clean end, twice for at once.

The request travels as a file in the runs folder, because the trials' supervisors may sit on other machines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

GRACE_S = 120.0
"""How long a trial may take to write its checkpoint before it is killed."""


class StopSignal:
    """Set from a signal handler or a thread; polled by the driver and, through its file, by supervisors."""

    def __init__(self, path: Path) -> None:
        """Nothing is asked for yet; a file left by an earlier driver is removed."""
        self.path = path
        self._is_forced = threading.Event()
        self._requested = threading.Event()
        self.close()

    @property
    def is_requested(self) -> bool:
        """Whether trials should checkpoint and end."""
        return self._requested.is_set()

    @property
    def is_forced(self) -> bool:
        """Whether trials should be killed without waiting for a checkpoint."""
        return self._is_forced.is_set()

    def request(self) -> None:
        """Ask for a clean stop; asked a second time, for an immediate one."""
        if self._requested.is_set():
            self._is_forced.set()
        else:
            self._requested.set()
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "w", opener=_owner_only) as file:
                file.write("force\n" if self.is_forced else "stop\n")

    def wait(self, timeout_s: float) -> bool:
        """Sleep, waking early on a request; whether there is one."""
        return self._requested.wait(timeout_s)

    def close(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def stop_file(runs: Path, experiment: str) -> Path:
    """Where this driver, and no other, asks the supervisors of its trials to stop."""
    return runs / "sweeps" / f".{experiment}.{socket.gethostname()}.{os.getpid()}.stop"


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read_request(path: Path) -> tuple[bool, bool]:
    """(is requested, is forced), as a supervisor reads them from the file."""
    try:
        text = path.read_text()
    except OSError:
        return False, False
    return True, text.startswith("force")


@contextlib.contextmanager
def stop_on_signals(stop: StopSignal, *, interrupt_when_forced: bool = False) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into requests while the block runs. Only the main thread may call this.

    Args:
        stop: takes the requests.
        interrupt_when_forced: raise KeyboardInterrupt at a forced one; for trials that run in this very thread.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        stop.request()
        if interrupt_when_forced and stop.is_forced:
            raise KeyboardInterrupt

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def exit_with_parent(stop: threading.Event, *, parent: int, grace_s: float, poll_s: float = 1.0) -> threading.Thread:
    """Watch for the death of the parent process: then set `stop`, and after `grace_s` kill this process group.

    Keeps a trial from training for ever after its driver was killed; it checkpoints first if it can.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll_s)
        stop.set()
        time.sleep(grace_s)
        os.killpg(0, signal.SIGKILL)

    thread = threading.Thread(target=watch, name="parent-watch", daemon=True)
    thread.start()
    return thread
