"""The environment, processes and shared memory of one attempt: found, counted, and nothing left behind. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import time
from pathlib import Path
from tempfile import gettempdir

from trainers.verl.launch.job import JOB_FILE, TOKEN, VerlJob

_SEGMENTS = ("verl_weights_*", "psm_*", "torch_*")
"""Shared memory that verl, vLLM and torch make by name."""
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 20.0


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
        "RAY_prestart_worker_first_driver": "0",  # idle ones, eight of them, that lack the environment of verl's actors
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(job.resources.num_cpus),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "false",  # verl sets true: whoever reaches the server could load weights
        "TMPDIR": str(job.temporary_folder),  # vLLM leaves sockets and files there when it is killed
        "TORCHINDUCTOR_CACHE_DIR": f"{gettempdir()}/torchinductor_{os.getuid()}",  # but kernels are for all attempts
    }
    if kept.pop("PYTHONDONTWRITEBYTECODE", None):  # images set it; a dozen processes would compile all they import
        common["PYTHONPYCACHEPREFIX"] = str(job.temporary_folder / "bytecode")
    if job.ray_address is None:
        common["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray, and vLLM's server in it, on loopback
        common |= closed_to_others(secrets.token_hex(32))
    if job.resources.num_gpus:
        return kept | common
    kept.pop("CUDA_VISIBLE_DEVICES", None)  # empty, it would forbid Ray the logical GPU
    return kept | common | _ON_CPU


_ON_CPU = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "trainers.verl.inside.platform_cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TORCHDYNAMO_DISABLE": "1",  # compiling takes longer than a small model runs
    "TQ_NUM_THREADS": "1",  # at its default of 8 it warns at every call that there are fewer cores
    "VLLM_LOGGING_LEVEL": "WARN",  # as verl tells its workers, which are forks of a process that has read it already
    "TRANSFER_QUEUE_ENABLE": "1",  # likewise
}


def closed_to_others(secret: str) -> dict[str, str]:
    """Return what keeps those who do not know a secret out of a trial's Ray and vLLM's server.

    Both listen on ports that every user of the machine can reach, and who reaches a Ray runs code in it.
    """
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secret, "VLLM_API_KEY": secret}


def adopt_orphans() -> None:
    """Become the subreaper of all below this process (prctl(2)): whose parent dies there becomes its child.

    So nobody gets out of its tree, wherever Ray or vLLM put it. A mark in the environment would not do: setting a
    process title overwrites it, and most of Ray's and vLLM's processes set one.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def end_descendants() -> None:
    """Kill and reap all processes below this one."""
    deadline = time.monotonic() + _PATIENCE_S
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


def descendants(root: int) -> list[int]:
    """Return the processes below one, in no order."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found, waiting = list[int](), [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def resident_mb(root: int) -> float:
    """Return the resident memory of a process and all below it; a page that several share counts once in all.

    The kernel walks the pages of every process for this: some ten milliseconds each.
    """
    total = 0.0
    for process in (root, *descendants(root)):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 2**10
    return total


def end_leftovers(job: VerlJob) -> None:
    """End what a killed attempt left on this machine: known by the temporary folder that only a keeper deletes."""
    if not job.temporary_folder.exists():
        return
    for process in users_of(job.temporary_folder):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    free_memory_and_files(job, since=job.file.stat().st_mtime)


def free_memory_and_files(job: VerlJob, *, since: float) -> None:
    """Free the shared memory, sockets and temporary files of an attempt whose processes are gone.

    Args:
        job: the attempt.
        since: `time.time()` of its start; older segments are not its own.
    """
    for segment in orphan_segments(since) & _after_a_second(since):
        segment.unlink(missing_ok=True)
    for socket in Path("/tmp").glob(f"rl-colocate-zmq-{job.token}-*"):
        socket.unlink(missing_ok=True)
    shutil.rmtree(job.temporary_folder, ignore_errors=True)


def orphan_segments(since: float) -> set[Path]:
    """Return the named segments made since a moment that no living process maps."""
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


def users_of(folder: Path) -> set[int]:
    """Return the processes with an open file in a folder, but for this one: all that Ray starts write logs in its."""
    found = set[int]()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(link)).is_relative_to(folder):
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


def _after_a_second(since: float) -> set[Path]:
    """Look again: a sibling's segment may have been between its making and its mapping."""
    time.sleep(1.0 if orphan_segments(since) else 0.0)
    return orphan_segments(since)


def _made_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_ctime
    return 0.0
