"""The parent of all processes of a verl attempt: `python -m trainers.verl.processes.keeper JOB_FILE`.

    orchestrator.trial.worker ── keeper ── main ── Ray's gcs, raylet ── actors ── vLLM's engine

Started by `launch`, it adopts whoever loses its parent, so that its tree has them all, and ends them when training
ends, or when its standard input is closed: by `launch`, or by the kernel because the orchestrator's process was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from trainers.verl.launch.job import VerlJob
from trainers.verl.processes.processes import adopt_orphans, end_descendants, free_memory_and_files


def keep(command: Sequence[str], job: VerlJob, *, since: float) -> int:
    """Run a command as the training process; when it has ended, nothing of the attempt is left but its files.

    Args:
        command: leads a process group of its own.
        job: the attempt.
        since: `time.time()` of its start.
    """
    adopt_orphans()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_kill_when_abandoned, args=(process.pid,), daemon=True).start()
    status = _wait(process.pid)
    end_descendants()
    free_memory_and_files(job, since=since)
    return status


def _kill_when_abandoned(leader: int) -> None:
    os.read(sys.stdin.fileno(), 1)  # unbuffered: nothing may hold a lock when the interpreter ends
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _wait(wanted: int) -> int:
    """Reap children until the wanted one is among them; its status as a shell gives it."""
    while True:
        process, status = os.wait()
        if process == wanted:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    file = Path(sys.argv[1])
    command = (sys.executable, "-m", "trainers.verl.inside.main", str(file))
    sys.exit(keep(command, VerlJob.read(file), since=file.stat().st_mtime))
