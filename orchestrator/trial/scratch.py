"""Temporary folders that end with their process: after a kill -9, the next process that makes one clears them away.

Each holds a file that its process keeps locked; the operating system frees the lock with the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from trainers.verl.processes.processes import users_of

_PREFIX = "orch-"
_LOCK = ".alive"
_RAY = ("python", "raylet", "gcs_server")
"""Programs that a Ray consists of; a person's `tail -f` of its logs is none of them."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the block, with a short name: Ray's socket paths below it may have 107 bytes."""
    home = Path(tempfile.gettempdir())
    _remove_orphans(home)
    draft = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=home))
    folder = home / draft.name.removeprefix(".")
    with FileLock(draft / _LOCK):
        draft.rename(folder)  # locked before it has the name that is looked for
        try:
            yield folder
        finally:
            _remove(folder)


@cache
def _remove_orphans(home: Path) -> None:
    """Once a process is enough: what is left by one that died later falls to the next."""
    for lock in home.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(Timeout, OSError):
            if lock.stat().st_uid == os.getuid():
                with FileLock(lock, timeout=0):
                    _remove(lock.parent)


def _remove(folder: Path) -> None:
    """Remove a folder, the file that it is found by last.

    Agents of a raylet that was killed at its birth live on for a minute and write there: they are ended first. Whoever
    does it may be killed halfway: what is left then falls to the next.
    """
    lock = folder / _LOCK
    for process in users_of(folder):
        with contextlib.suppress(OSError):
            if Path(os.readlink(f"/proc/{process}/exe")).name.startswith(_RAY):
                os.kill(process, signal.SIGKILL)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path != lock:
                path.unlink(missing_ok=True)
        if [*folder.iterdir()] == [lock]:
            lock.unlink()
            try:
                folder.rmdir()
            except OSError:
                lock.touch()
