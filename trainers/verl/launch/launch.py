"""The trainer `verl` as the orchestrator sees it: one subprocess an attempt, watched, stopped and cleaned up after.

Here nothing of verl, vLLM or Ray is imported: this process only writes the prompts, starts the training process,
reads its metrics as they come, and takes what it leaves.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import secrets
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.errors import OrchError
from trainers.api import Phase, TrainJob, TrainResult
from trainers.identity import fingerprint
from trainers.verl.launch.checkpoint import newest_whole
from trainers.verl.launch.job import VerlJob
from trainers.verl.launch.last_words import last_words
from trainers.verl.launch.preflight import check_model, check_shared_memory
from trainers.verl.launch.prompts import write_prompts
from trainers.verl.launch.pulse import Pulse, PulseFile
from trainers.verl.launch.support import check_support
from trainers.verl.launch.watch import MetricsTail, Watchdog
from trainers.verl.processes.nodes import Gang
from trainers.verl.processes.processes import end_leftovers, environment, resident_mb

log = logging.getLogger(__name__)

_POLL_S = 2.0
"""Looking costs a walk through /proc, and a small machine has no core to spare."""
_END_S = 60.0
"""How long the keeper may take to end everything."""
_LOG_LINES = 30
_PHASES: tuple[Phase, ...] = ("sample", "score", "update")


class TrainingDied(OrchError):
    """The training process ended without finishing and without saying what a user can fix."""

    exit_code = 1


class TrainingHung(OrchError):
    """The training process made no progress for far longer than its steps take."""

    exit_code = 1


class VerlTrainer:
    """Trains by verl 0.9.1 in a private Ray of one machine."""

    def train(self, job: TrainJob) -> TrainResult:
        """Train until `recipe.steps` steps are done, or until asked to stop.

        Raises:
            OrchError: verl cannot honour the recipe, or the training process said what is to be fixed.
            TrainingDied: it ended without a word.
            TrainingHung: it stood still.
        """
        check_support(job.recipe, job.resources)
        _check_installed()
        job.on_phase("prepare", 0)
        prepared = _prepare(job)
        attempt = _Attempt(job, prepared)
        try:
            return attempt.run()
        finally:
            attempt.end()


def _check_installed() -> None:
    missing = [name for name in ("verl", "vllm", "transfer_queue") if find_spec(name) is None]
    if missing:
        raise OrchError(
            f"{', '.join(missing)} cannot be imported, which trainer verl needs",
            where=sys.prefix,
            fix="`make verl`, then `.venv-verl/bin/orch`; on GPUs `make gpu`, then `.venv-gpu/bin/orch`",
        )


def _prepare(job: TrainJob) -> VerlJob:
    """Write the prompts and the job's file; find where to go on."""
    check_model(job.model_folder, job.recipe)
    check_shared_memory(job.resources)
    job.attempt_folder.mkdir(parents=True, exist_ok=True)
    job.checkpoint_folder.mkdir(parents=True, exist_ok=True)
    resume_from, step = newest_whole(job.checkpoint_folder, fingerprint=fingerprint(job.recipe, job.seed))
    gang = Gang.of(os.environ)
    prepared = VerlJob(
        recipe=job.recipe,
        resources=job.resources,
        seed=job.seed,
        token=gang.token if gang is not None else secrets.token_hex(4),
        model_folder=job.model_folder.resolve(),
        checkpoint_folder=job.checkpoint_folder.resolve(),
        attempt_folder=job.attempt_folder.resolve(),
        data_file=job.attempt_folder.resolve() / "prompts.parquet",
        resume_from=resume_from and resume_from.resolve(),
        evaluate_every=job.evaluate_every,
        ray_address=gang.address if gang is not None else None,
    )
    num_prompts = write_prompts(job, prepared.data_file)
    _end_earlier(prepared)
    prepared.temporary_folder.mkdir(exist_ok=True)
    prepared.write()
    log.info("verl attempt %s: %d prompts, from step %d of %d", prepared.token, num_prompts, step, job.recipe.steps)
    return prepared


def _end_earlier(prepared: VerlJob) -> None:
    """End what is left of attempts that were killed with their keeper."""
    for file in prepared.attempt_folder.parent.glob(f"*/{prepared.file.name}"):
        try:
            end_leftovers(VerlJob.read(file))
        except (OSError, pickle.UnpicklingError, AttributeError, ImportError, TypeError) as error:
            log.warning("%s does not read, its processes are not looked for: %s", file, error)


class _Attempt:
    """The training process with all that it starts."""

    def __init__(self, job: TrainJob, prepared: VerlJob) -> None:
        self.job, self.prepared = job, prepared
        self.log_file = prepared.attempt_folder / "verl.log"
        self.done = int(prepared.resume_from.name.rpartition("_")[2]) if prepared.resume_from else 0
        """Steps that are behind it, those of earlier attempts included."""
        self.last: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.peak_mb = 0.0
        self.tail = MetricsTail(prepared.attempt_folder / "metrics.jsonl")
        self.pulse_file = PulseFile(prepared.pulse_file)
        self.pulse: Pulse | None = None
        self.watchdog = Watchdog(start_s=job.resources.start_limit_s, silence_s=job.resources.step_limit_s)
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainers.verl.processes.keeper", str(prepared.file)],
                env=environment(prepared, dict(os.environ)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def run(self) -> TrainResult:
        while self.process.poll() is None:
            if self.job.should_stop() and not self.last:
                log.info("asked to stop before the first step: nothing new is to be saved")
                return self._result()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_POLL_S)
            self._look()
        self._look()
        if self.process.returncode:
            raise self._failure()
        return self._result()

    def end(self) -> None:
        """Tell the keeper, which ends everything; where it cannot any more, do it from here."""
        assert self.process.stdin is not None, "a pipe was asked for"
        self.process.stdin.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        end_leftovers(self.prepared)

    def _look(self) -> None:
        """Pass on what is new, ask to stop if asked to, and give up on a process that stands still."""
        for metrics in self.tail.read():
            self.watchdog.progressed()
            self._take(metrics)
        if (pulse := self.pulse_file.read()) is not None:
            self.watchdog.progressed()
            self.pulse = pulse
            self.job.on_doing(str(pulse))
        if self.job.should_stop() and not self.prepared.stop_file.exists():
            log.info("asked to stop: a checkpoint follows the present step")
            self.prepared.stop_file.touch()
        if self.watchdog.is_late:
            self._log_end()
            raise TrainingHung(
                f"no sign of life for {self.watchdog.waited_s:.0f} s, after {self.done} steps"
                + (f"; the last was: {self.pulse}" if self.pulse is not None else ""),
                where=str(self.log_file),
                fix="run the same command again: it goes on from the last checkpoint",
            )

    def _take(self, metrics: dict[str, Any]) -> None:
        self.last, self.done = metrics, int(metrics["step"])
        self.peak_mb = max(self.peak_mb, resident_mb(self.process.pid))
        for phase in _PHASES:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + float(metrics.get(f"time/{phase}_s") or 0.0)
        self.job.on_step(metrics)
        self.job.on_phase("sample", self.done)

    def _failure(self) -> OrchError:
        self._log_end()
        if self.prepared.error_file.exists():
            parts = json.loads(self.prepared.error_file.read_text())
            return OrchError(parts["what"], where=parts["where"], fix=parts["fix"])
        words = last_words(self.log_file.read_text(errors="replace"))
        return TrainingDied(
            f"the training process {_ending(self.process.returncode)} after {self.done} steps"
            + (f", in {self.pulse}" if self.pulse is not None else "")
            + (words and f": {words}"),
            where=str(self.log_file),
            fix="read the log; run the same command again to go on from the last checkpoint",
        )

    def _log_end(self) -> None:
        lines = self.log_file.read_text(errors="replace").splitlines()
        log.error("the end of %s:\n%s", self.log_file, "\n".join(lines[-_LOG_LINES:]))

    def _result(self) -> TrainResult:
        final = self.job.checkpoint_folder / "final"
        _, step = newest_whole(self.job.checkpoint_folder, fingerprint=fingerprint(self.job.recipe, self.job.seed))
        is_finished = step == self.job.recipe.steps and final.is_dir()
        return TrainResult(
            is_finished=is_finished,
            step=step,
            model_folder=final,
            metrics={name: value for name, value in self.last.items() if isinstance(value, int | float)},
            phase_seconds=self.seconds,
            peak_memory_mb=self.peak_mb,
            num_parameters=_num_parameters(final) if is_finished else 0,
        )


def _ending(status: int) -> str:
    """An exit status as a shell gives it, in words."""
    if status > 128 and status - 128 in set(signal.Signals):
        return f"was killed by {signal.Signals(status - 128).name}"
    return f"ended with status {status}"


def _num_parameters(folder: Path) -> int:
    """Trained numbers, tied ones once, from the headers of the weights."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            total += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())
    return total
