"""What a sweep may leave behind when it is killed: processes, ports, shared memory, temporary files. None may stay.

The test process is made the reaper of all its descendants, as init is in a container: whose parent is killed becomes
its child, whatever session, group or name it gave itself.
"""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS = 0x20000
_POLL_S = 0.5


def adopt_orphans(started: set[int]) -> threading.Event:
    """Become the parent of every process below this one that loses its own, and wait for those that end.

    Args:
        started: processes that somebody else waits for.

    Returns:
        An event that ends the waiting.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    stop, seen = threading.Event(), set[int]()

    def reap() -> None:
        nonlocal seen
        while not stop.wait(_POLL_S):
            dead = {process.pid for process in psutil.Process().children() if _is_dead(process)} - started
            for pid in dead & seen:  # twice: whoever else waits for it has had time to
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            seen = dead

    threading.Thread(target=reap, name="reaper", daemon=True).start()
    return stop


def take_own_shared_memory() -> bool:
    """Give this thread and what it starts a /dev/shm of its own, so that what other programs leave is not found.

    Returns:
        Whether that is allowed here; if not, all programs of the machine share one.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        return False
    commands = ["mount --make-rprivate /", "mount -t tmpfs -o mode=1777 orch-chaos /dev/shm"]
    return all(subprocess.run(one.split(), capture_output=True).returncode == 0 for one in commands)


def alive(*, but: Collection[int] = ()) -> list[psutil.Process]:
    """Everything below this process that runs, less some and what is below them."""
    found = []
    for process in psutil.Process().children():
        if process.pid not in but:
            found += [process, *_below(process)]
    return [process for process in found if not _is_dead(process)]


def descendants(pid: int) -> list[psutil.Process]:
    """Everything below a process that runs."""
    try:
        return [process for process in _below(psutil.Process(pid)) if not _is_dead(process)]
    except psutil.NoSuchProcess:
        return []


def wait_for_none(*, but: Collection[int] = (), timeout_s: float = 40.0) -> list[str]:
    """Wait for all processes below this one to end; those that did not, with their ports."""
    deadline = time.monotonic() + timeout_s
    while (left := alive(but=but)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [_shown(process) for process in left]


def kill_all(*, but: Collection[int] = ()) -> None:
    """End what a failed test left, so that the next one starts clean."""
    for process in alive(but=but):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def shared_memory() -> set[str]:
    """Names in /dev/shm."""
    return set(os.listdir("/dev/shm"))


def unused(names: set[str]) -> set[str]:
    """Those pieces of shared memory that no process has mapped or open."""
    return {name for name in names if not _is_used(f"/dev/shm/{name}")}


def temporary_files(runs: Path) -> list[str]:
    """Half-written files and stop requests in a runs folder that no reader will ever look at."""
    patterns = ("*.tmp", "*.partial-*", ".probe.*", "*.stop")
    return sorted({str(path.relative_to(runs)) for pattern in patterns for path in runs.rglob(pattern)})


def temporary_folders(home: Path) -> list[str]:
    """What lies in a temporary folder, but for torch's cache of compiled code, one a user."""
    return sorted(path.name for path in home.iterdir() if not path.name.startswith("torchinductor_"))


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _is_used(path: str) -> bool:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path in (folder / "maps").read_text():
                return True
            if any(os.readlink(link) == path for link in (folder / "fd").iterdir()):
                return True
    return False


def _shown(process: psutil.Process) -> str:
    try:
        ports = [one.laddr.port for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
        return f"{process.pid} {' '.join(process.cmdline())[:120]} ports {ports}"
    except psutil.Error:
        return str(process.pid)
