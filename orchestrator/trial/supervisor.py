"""Start a trial's worker process, wait for it, stop it, and put on record what it could not say itself.

Used by every scheduler that runs trials in processes of their own; runs in the scheduler's process on the machine
where the trial has its resources.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from orchestrator.errors import OrchError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.record import Attempt, Failure, Outcome, RunRecord, Status, new_record
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.store.store import Store
from orchestrator.trial.provenance import collect
from orchestrator.trial.stop import GRACE_S, read_request
from orchestrator.trial.worker import DONE, FAILED, LOCKED, REFUSED, STOPPED

_POLL_S = 0.2
_POST_MORTEM_LOCK_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What all workers of one sweep share."""

    store_root: Path
    experiment: str
    cache_folder: Path
    data_folder: Path | None
    argv: tuple[str, ...]
    stop_file: Path
    working_folder: Path
    """Where relative paths in recipes begin: the driver's own."""
    python_path: str
    """The driver's PYTHONPATH, so that a user's trainer is found on nodes that were up before."""
    grace_s: float = GRACE_S
    nodes: tuple[str, ...] = ()
    """Ray's ids of the trial's nodes, the supervisor's first; empty where no Ray chose them."""


def supervise(planned: PlannedTrial, settings: WorkerSettings, *, on_poll: Callable[[], None] = lambda: None) -> int:
    """Run one trial in a process group of its own until it ends or is stopped; its exit status.

    Args:
        planned: the trial.
        settings: where it works, and how it is stopped.
        on_poll: called a few times a second while it runs.

    Raises:
        StoreError: the death of the worker could not be recorded.
    """
    requests = Requests(settings.store_root, now=now)
    if read_request(settings.stop_file)[0] or _is_held(requests, planned):
        return -signal.SIGTERM
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            _command(planned.trial.id, settings),
            env=_environment(planned, settings),
            cwd=settings.working_folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            was_stopped = _wait(process, settings, is_held=lambda: _is_held(requests, planned), on_poll=on_poll)
        finally:
            _kill_group(process)
        if process.returncode not in (DONE, FAILED, STOPPED, LOCKED):
            _record_death(planned, settings, process.returncode, _text(output), was_stopped=was_stopped)
    return process.returncode


def _command(trial_id: str, settings: WorkerSettings) -> list[str]:
    command = [sys.executable, "-m", "orchestrator.trial.worker"]
    command += ["--store", str(settings.store_root), "--sweep", settings.experiment, "--trial", trial_id]
    command += ["--cache-dir", str(settings.cache_folder), "--parent", str(os.getpid())]
    command += [f"--node={node}" for node in settings.nodes]
    if settings.data_folder is not None:
        command += ["--data-dir", str(settings.data_folder)]
    return [*command, "--", *settings.argv]


def _environment(planned: PlannedTrial, settings: WorkerSettings) -> dict[str, str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(planned.resources.num_cpus),
        "PYTHONPATH": settings.python_path,
        "PYTHONUNBUFFERED": "1",
    }
    if planned.resources.num_gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def _wait(
    process: subprocess.Popen[bytes],
    settings: WorkerSettings,
    *,
    is_held: Callable[[], bool],
    on_poll: Callable[[], None],
) -> bool:
    """Wait for the end, passing on a request to stop the sweep or this trial; whether there was one."""
    kill_at: float | None = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return kill_at is not None
        on_poll()
        is_requested, is_forced = read_request(settings.stop_file)
        if kill_at is None and (is_requested or is_held()):
            process.send_signal(signal.SIGTERM)
            kill_at = time.monotonic() + settings.grace_s
        if is_forced or (kill_at is not None and time.monotonic() > kill_at):
            _kill_group(process)


def _is_held(requests: Requests, planned: PlannedTrial) -> bool:
    """Whether the trial is paused or cancelled; a request that does not read is none."""
    with contextlib.suppress(OrchError):
        return requests.of(planned.trial.id).hold is not None
    return False


def record_unplaced(planned: PlannedTrial, settings: WorkerSettings, why: str) -> None:
    """Put on record that the cluster never placed a trial.

    Raises:
        StoreError: the runs folder cannot be written.
    """
    store = Store(settings.store_root)
    store.prepare_trial(planned.trial)
    with store.lock(planned.trial.id, timeout_s=_POST_MORTEM_LOCK_S):
        record = store.find(planned.trial.id) or new_record(planned.trial, at=now())
        record = record.with_attempt(_empty_attempt(planned, record, settings), status=Status.RUNNING, at=now())
        failure = Failure(kind="NotPlaced", message=f"the trial was not placed: {why}", log_tail=())
        store.write(record.with_death(outcome=Outcome.FAILED, failure=failure, at=now()))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the worker's process group behind, whether the worker itself still runs or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(output: IO[bytes]) -> tuple[str, ...]:
    output.seek(0)
    return tuple(output.read().decode(errors="replace").splitlines()[-20:])


def _record_death(
    planned: PlannedTrial, settings: WorkerSettings, code: int, output: Sequence[str], *, was_stopped: bool
) -> None:
    """Say in the record what the worker could not: that it died at work, or before it had begun."""
    store = Store(settings.store_root)
    trial_id = planned.trial.id
    with store.lock(trial_id, timeout_s=_POST_MORTEM_LOCK_S):
        record = store.find(trial_id) or new_record(planned.trial, at=now())
        is_open = bool(record.attempts) and record.attempts[-1].outcome is Outcome.RUNNING
        if was_stopped and not is_open:
            return
        if not is_open:
            record = record.with_attempt(_empty_attempt(planned, record, settings), status=Status.RUNNING, at=now())
        is_whole = _holds_all(record, planned, settings)
        if was_stopped or is_whole:
            record = record.with_death(outcome=Outcome.INTERRUPTED, failure=None, at=now())
        else:
            log_tail = store.log_tail(trial_id, record.attempts[-1].number) if is_open else output
            record = record.with_death(outcome=Outcome.FAILED, failure=_failure(code, log_tail, output), at=now())
        if is_whole:
            record = replace(record, status=Status.DONE)  # no later call would find anything to go on with
        store.write(record)


def _holds_all(record: RunRecord, planned: PlannedTrial, settings: WorkerSettings) -> bool:
    """Whether the worker had kept its last score; a benchmark that does not read any more leaves that open."""
    from orchestrator.store.scores import is_complete  # loads graders, which a supervisor seldom needs

    with contextlib.suppress(OrchError):
        return is_complete(record, planned, data_folder=settings.data_folder)
    return False


def _empty_attempt(planned: PlannedTrial, record: RunRecord, settings: WorkerSettings) -> Attempt:
    """The attempt of a worker that did not get as far as making one."""
    return Attempt(
        number=max((attempt.number for attempt in record.attempts), default=0) + 1,
        started_at=now(),
        seed=planned.trial.seed,
        data_digest=planned.trial.data_digest,
        provenance=collect(settings.argv),
        phase_seconds={},
        node=next(iter(settings.nodes), None),
        other_nodes=settings.nodes[1:],
    )


def _failure(code: int, log_tail: Sequence[str], output: Sequence[str]) -> Failure:
    if code == REFUSED:
        message = "\n".join(output) or "the trial's process did not start, and did not say why"
    elif code >= 0:
        message = f"the trial's process ended with status {code}: {log_tail[-1] if log_tail else 'without a word'}"
    else:
        message = f"the trial's process was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            message += "; on Linux mostly for lack of memory (`dmesg | grep -i oom` tells)"
    return Failure(kind="ProcessDied", message=message, log_tail=tuple(log_tail))
