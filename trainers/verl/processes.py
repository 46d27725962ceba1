"""The processes and shared memory of one attempt: found by its token, ended, and nothing left behind. Linux only."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from trainers.verl.job import JOB_FILE, TOKEN, VerlJob

_SEGMENTS = ("verl_weights_*", "psm_*", "torch_*")
"""Shared memory that verl, vLLM and torch make by name."""


def environment(job: VerlJob, inherited: dict[str, str]) -> dict[str, str]:
    """Return the environment of the training process: private Ray, our plug-ins, no network.

    Args:
        job: the attempt.
        inherited: this process's environment; what belongs to an outer Ray is left out.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith("RAY_")}
    common = {
        TOKEN: job.token,
        JOB_FILE: str(job.file),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # the actors of a trial are its work, not a guest beside it
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(job.resources.num_cpus),
        "VLLM_NO_USAGE_STATS": "1",
    }
    if job.resources.num_gpus:
        return kept | common
    kept.pop("CUDA_VISIBLE_DEVICES", None)  # empty, it would forbid Ray the logical GPU
    return kept | common | _ON_CPU


_ON_CPU = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "trainers.verl.platform_cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TORCHDYNAMO_DISABLE": "1",  # compiling takes longer than a small model runs
}


def end_all(job: VerlJob, leader: int, *, since: float) -> None:
    """Kill what is left of an attempt, then free its shared memory and temporary files.

    Args:
        job: the attempt.
        leader: process id, and group, of the training process.
        since: `time.time()` of the start; older segments are not ours.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (left := list(processes_of(job.token))) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    for segment in _orphans(since) & _after_a_second(since):
        segment.unlink(missing_ok=True)
    for socket in Path("/tmp").glob(f"rl-colocate-zmq-{job.token}-*"):
        socket.unlink(missing_ok=True)
    shutil.rmtree(job.temporary_folder, ignore_errors=True)


def processes_of(token: str) -> Iterator[int]:
    """Yield the living processes, this one aside, that were started with an attempt's token."""
    wanted = f"{TOKEN}={token}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def resident_mb(token: str) -> float:
    """Return the resident memory of all processes of an attempt; pages they share count once each."""
    page_mb = os.sysconf("SC_PAGE_SIZE") / 2**20
    total = 0.0
    for process in processes_of(token):
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * page_mb
    return total


def _after_a_second(since: float) -> set[Path]:
    """Look again: a sibling's segment may have been between its making and its mapping."""
    time.sleep(1.0)
    return _orphans(since)


def _orphans(since: float) -> set[Path]:
    """Named segments made since a moment that no living process maps."""
    found = {path for pattern in _SEGMENTS for path in Path("/dev/shm").glob(pattern) if _made_at(path) >= since}
    if not found:
        return set()
    mapped = set[str]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                lines = (folder / "maps").read_text().splitlines()
                mapped |= {line.split()[-1] for line in lines if "/dev/shm/" in line}
    return {path for path in found if str(path) not in mapped}


def _made_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_ctime
    return 0.0
