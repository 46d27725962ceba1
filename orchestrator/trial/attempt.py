"""Bring one trial to its end: train if needed, evaluate what is missing, record each piece as it is done.

Knows nothing of schedulers, Ray or MLflow. Whatever kills it, the next call continues from what is on disk: a
finished training is never repeated, a score that exists is never made again.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.api import Sampler, Score
from eval.engines import open_sampler
from eval.runner import EvalJob, EvalProgress, evaluate_all
from orchestrator.errors import DataError, TrialFailed
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.alarm import Alarm
from orchestrator.store.inputs import SeenInputs
from orchestrator.store.progress import ProgressWriter
from orchestrator.store.record import (
    WORKING,
    Attempt,
    Failure,
    Outcome,
    RunRecord,
    Status,
    new_record,
    score_entry,
    train_summary,
)
from orchestrator.store.redact import now, without_secrets
from orchestrator.store.requests import Requests
from orchestrator.store.scores import RequiredScore, final_step, is_complete, missing_scores, required_scores
from orchestrator.store.store import Store
from orchestrator.trial.guards import GuardWatch
from orchestrator.trial.log_file import log_to_file
from orchestrator.trial.preparation import fitted_resources, ready_inputs
from orchestrator.trial.provenance import collect
from orchestrator.trial.retry import resources_that_fit
from trainers.api import POLICIES, Phase, TrainJob
from trainers.phase_clock import PhaseClock
from trainers.recipe import Recipe
from trainers.registry import trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What surrounds a trial: folders, the command line, the way to ask it to stop, where its log goes."""

    cache_folder: Path
    """Where models that are built or fetched are kept."""
    data_folder: Path | None = None
    argv: Sequence[str] = field(default_factory=lambda: tuple(sys.argv))
    should_stop: Callable[[], bool] = lambda: False
    lock_timeout_s: float = 0.0
    """How long to wait for another process that works on the same trial."""
    on_lost: Callable[[], None] = lambda: None
    """Called from a thread when another process has taken the trial over, because this one was silent for too long."""
    open_log: Callable[[Path], AbstractContextManager[None]] = log_to_file
    """Sends this trial's log to the file while it works."""
    nodes: tuple[str, ...] = ()
    """Ray's ids of the trial's nodes, this one first; empty where no Ray chose them."""


class StopRequested(Exception):
    """Unwinds an evaluation that was asked to stop; its samples so far are on disk."""


def run_trial(planned: PlannedTrial, store: Store, *, context: RunContext) -> RunRecord:
    """Do what is missing of a trial and return its record, with status done, stopped or failed.

    A failure of the trial is recorded and logged, not raised.

    Raises:
        StoreError: the trial is locked by another process, or the runs folder cannot be written.
    """
    store.prepare_trial(planned.trial)
    with store.lock(planned.trial.id, timeout_s=context.lock_timeout_s, on_lost=context.on_lost):
        record = store.find(planned.trial.id) or new_record(planned.trial, at=now())
        if record.status not in WORKING and _is_whole(record, planned, context):
            return record
        return _AttemptAtTrial(planned, store, record, context).run()


def _is_whole(record: RunRecord, planned: PlannedTrial, context: RunContext) -> bool:
    """Whether nothing is left to do; a set that this node has yet to fetch leaves that open."""
    try:
        return is_complete(record, planned, data_folder=context.data_folder)
    except DataError:
        return False


class _AttemptAtTrial:
    """One attempt, from the record that it starts from to the one that it leaves."""

    def __init__(self, planned: PlannedTrial, store: Store, record: RunRecord, context: RunContext) -> None:
        self.planned, self.store, self.context = planned, store, context
        self.trial = planned.trial
        number = max([*store.attempt_numbers(self.trial.id), *(a.number for a in record.attempts)], default=0) + 1
        self.folder = store.attempt_folder(self.trial.id, number)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clock, self.peak_memory_mb = PhaseClock(), 0.0
        self.clock.enter("prepare")
        self.resources = resources_that_fit(planned.resources, record)
        self.attempt = Attempt(
            number=number,
            resources=self.resources,
            started_at=now(),
            seed=self.trial.seed,
            data_digest=self.trial.data_digest,
            provenance=collect(context.argv),
            phase_seconds={},
            node=next(iter(context.nodes), None),
            other_nodes=context.nodes[1:],
        )
        record = record.with_death(outcome=Outcome.INTERRUPTED, failure=None, at=now())
        self.record = record.with_attempt(self.attempt, status=Status.RUNNING, at=now())
        store.write(self.record)
        self.progress = ProgressWriter(store.progress_file(self.trial.id), attempt=number, now=now)
        already = {alarm.guard for alarm in self.record.alarms}
        self.guards = GuardWatch(planned.guards, store.metrics(self.trial.id), already=already)
        self.halted_by: Alarm | None = None

    def run(self) -> RunRecord:
        with self.context.open_log(self.store.log_file(self.trial.id, self.attempt.number)):
            with self.progress.heartbeat():
                log.info("%s attempt %d starts: %s", self.trial.id, self.attempt.number, self.planned.label)
                outcome, failure = self._work()
            self._close(outcome, failure)
        return self.record

    def _work(self) -> tuple[Outcome, Failure | None]:
        try:
            self._train_and_evaluate()
        except StopRequested:
            # It may have come after the last score was kept: no later call would find anything to go on with.
            is_whole = is_complete(self.record, self.planned, data_folder=self.context.data_folder)
            return Outcome.DONE if is_whole else Outcome.STOPPED, None
        except Exception as error:
            log.exception("%s attempt %d failed", self.trial.id, self.attempt.number)
            return Outcome.FAILED, Failure(
                kind=type(error).__name__,
                message=without_secrets(str(error)),
                log_tail=self.store.log_tail(self.trial.id, self.attempt.number),
            )
        return Outcome.DONE, None

    def _train_and_evaluate(self) -> None:
        self._enter("prepare", 0)
        seen, context = SeenInputs(self.store.root), self.context
        initial = ready_inputs(
            self.planned, seen, data_folder=context.data_folder, cache_folder=context.cache_folder, say=log.info
        )
        self._fit(initial)
        recipe = self.trial.recipe
        if recipe is not None and self.record.train is None:
            self._train(recipe, initial)
        self._evaluate_left()
        self._evaluate_missing(initial)

    def _fit(self, initial: Path) -> None:
        """Choose what the plan leaves open, and put it on record."""
        self.resources = fitted_resources(self.planned, self.record, initial, self.attempt.provenance.hardware)
        self.attempt = replace(self.attempt, resources=self.resources)
        self._save(self.record.with_attempt(self.attempt, status=Status.RUNNING, at=now()))
        log.info("%s attempt %d is cut so: %s", self.trial.id, self.attempt.number, self.resources)

    def _train(self, recipe: Recipe, initial: Path) -> None:
        self._check_stop()
        result = trainer(recipe.trainer).train(self._train_job(recipe, initial))
        self.clock.replace(result.phase_seconds)
        self.clock.enter("evaluate")
        self.peak_memory_mb = result.peak_memory_mb
        if not result.is_finished:
            self._check_stop()
            raise TrialFailed(
                f"the trainer returned at step {result.step} of {recipe.steps} without being asked to stop",
                where=f"trial {self.trial.id}",
                fix="look at its log: `orch logs " + self.trial.id + "`",
            )
        summary = train_summary(result, model_folder=self._relative(result.model_folder), at=now())
        self._save(replace(self.record, train=summary, status=Status.TRAINED, updated_at=now()))
        log.info("%s trained %d steps", self.trial.id, result.step)

    def _train_job(self, recipe: Recipe, initial: Path) -> TrainJob:
        every = self.planned.evaluation.every_steps
        assert self.trial.seed is not None, "a trial with a recipe has a seed"
        return TrainJob(
            recipe=recipe,
            seed=self.trial.seed,
            resources=self.resources,
            model_folder=initial,
            checkpoint_folder=self.store.checkpoint_folder(self.trial.id),
            attempt_folder=self.folder,
            data_folder=self.context.data_folder,
            on_phase=self._enter,
            on_doing=self.progress.say,
            on_step=self._complete_step,
            evaluate=None if every is None else self._evaluate_during_training,
            evaluate_every=every,
            should_stop=self._should_stop,
        )

    def _evaluate_during_training(self, step: int, sampler: Sampler) -> None:
        with contextlib.suppress(StopRequested):  # the trainer is asked next, and writes its checkpoint first
            self._evaluate(self._missing(step), sampler)
        self._enter("sample", step)

    def _evaluate_left(self) -> None:
        """Evaluate the policies that training left on its way, oldest first, and delete each."""
        folders = (self.store.checkpoint_folder(self.trial.id) / POLICIES).glob("[0-9]*")
        for folder in sorted(folders, key=lambda folder: int(folder.name)):
            if missing := self._missing(int(folder.name)):
                self._check_stop()
                with contextlib.closing(self._open_sampler(folder)) as sampler:
                    self._evaluate(missing, sampler)
            shutil.rmtree(folder)

    def _evaluate_missing(self, initial: Path) -> None:
        for wanted in self._missing(final_step(self.planned)):
            score = self.store.read_score(self.trial.id, wanted.key)
            if score is not None:
                self._keep_score(wanted, score)
        missing = self._missing(final_step(self.planned))
        if missing:
            self._check_stop()
            with contextlib.closing(self._open_sampler(self._final_model(initial))) as sampler:
                self._evaluate(missing, sampler)

    def _evaluate(self, wanted: Sequence[RequiredScore], sampler: Sampler) -> None:
        """Sample what all wanted scores miss as one stream, and record each score as it is there."""
        if not wanted:
            return
        self._enter("evaluate", wanted[0].step)
        jobs = {self._eval_job(one): one for one in wanted}
        names = ", ".join(job.name for job in jobs)

        def on_progress(done: EvalProgress) -> None:
            self.progress.enter(f"evaluate {names}", step=done.num_done, total=done.num_total, unit="sample")
            self._check_stop()

        scores = evaluate_all(list(jobs), sampler, data_folder=self.context.data_folder, on_progress=on_progress)
        with contextlib.closing(scores):
            for job, score in scores:
                self._keep_score(jobs[job], score)

    def _eval_job(self, wanted: RequiredScore) -> EvalJob:
        return EvalJob(
            benchmark=wanted.benchmark,
            settings=wanted.settings,
            folder=self.store.eval_folder(self.trial.id, wanted.key),
            limit=wanted.limit,
        )

    def _keep_score(self, wanted: RequiredScore, score: Score) -> None:
        entry = score_entry(score, key=wanted.key, step=wanted.step, limit=wanted.limit, at=now())
        self._save(self.record.with_score(entry, at=now()))
        log.info(
            "%s step %d %s avg@%d %.4f", self.trial.id, wanted.step, wanted.benchmark, entry.num_samples, entry.avg
        )

    def _open_sampler(self, folder: Path) -> Sampler:
        resources = self.resources
        return open_sampler(
            self.planned.evaluation.engine,
            folder,
            device="cuda" if resources.num_gpus else "cpu",
            dtype=self.trial.model.dtype,
            batch_sequences=resources.sequences_at_once,
            num_workers=max(1, resources.num_gpus),
            trust_remote_code=self.trial.model.trust_remote_code,
        )

    def _final_model(self, initial: Path) -> Path:
        if self.record.train is None:
            return initial
        return self.store.trial_folder(self.trial.id) / self.record.train.model_folder

    def _missing(self, step: int) -> tuple[RequiredScore, ...]:
        wanted = required_scores(self.planned, step=step, data_folder=self.context.data_folder)
        return missing_scores(self.record, wanted)

    def _close(self, outcome: Outcome, failure: Failure | None) -> None:
        status = {Outcome.DONE: Status.DONE, Outcome.STOPPED: Status.STOPPED}.get(outcome, Status.FAILED)
        self.clock.enter(None)
        ended = replace(
            self.attempt,
            outcome=outcome,
            failure=failure,
            ended_at=now(),
            phase_seconds={phase: round(seconds, 3) for phase, seconds in self.clock.total.items()},
            peak_memory_mb=max(self.peak_memory_mb, _resident_peak_mb()),
        )
        self._save(self.record.with_attempt(ended, status=status, at=now()))
        log.info("%s attempt %d ends: %s", self.trial.id, self.attempt.number, outcome)

    def _enter(self, phase: Phase, step: int) -> None:
        self.store.check_lease(self.trial.id)
        self.clock.enter(phase)
        self.progress.enter(phase, step=step, total=final_step(self.planned))

    def _complete_step(self, metrics: dict[str, Any]) -> None:
        self.store.check_lease(self.trial.id)
        self.progress.complete_step(
            int(metrics["step"]), total=final_step(self.planned), reward=metrics.get("reward/mean")
        )
        for alarm in self.guards.see(metrics, at=now()):
            self._sound(alarm)

    def _sound(self, alarm: Alarm) -> None:
        """Put on record that a guard spoke, and end the attempt where it is to act."""
        log.warning("%s guard %s", self.trial.id, alarm.text)
        if alarm.action != "warn":
            requests = Requests(self.store.root, now=now)  # before the record: who dies in between is not started again
            hold = requests.pause if alarm.action == "pause" else requests.cancel
            hold(self.trial.id)
            self.halted_by = alarm
        self.attempt = replace(self.attempt, alarms=(*self.attempt.alarms, alarm))
        self._save(self.record.with_attempt(self.attempt, status=self.record.status, at=now()))

    def _should_stop(self) -> bool:
        return self.halted_by is not None or self.context.should_stop()

    def _check_stop(self) -> None:
        if self._should_stop():
            raise StopRequested

    def _save(self, record: RunRecord) -> None:
        self.record = record
        self.store.write(record)

    def _relative(self, folder: Path) -> str:
        home = self.store.trial_folder(self.trial.id).resolve()
        absolute = folder.resolve()
        return str(absolute.relative_to(home) if absolute.is_relative_to(home) else absolute)


def _resident_peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
