"""Drive a plan to its end: find what is missing, prepare models, run it, say what is left. Safe to repeat.

    plan ─ unfinished ─▶ prepare models ─▶ scheduler ─▶ records ─▶ SweepOutcome

One driver at a time drives an experiment. A trial that another experiment's driver is running is left to it and
waited for; if it comes back unfinished, this driver runs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.failures import wait_before_retry_s
from orchestrator.plan import Plan
from orchestrator.prepare import prepare_models
from orchestrator.record import RunRecord, Status
from orchestrator.schedulers.api import Scheduler
from orchestrator.stop import StopSignal
from orchestrator.store import Store
from orchestrator.supervisor import WorkerSettings
from orchestrator.trial import PlannedTrial
from orchestrator.view import SweepView, TrialRow, count_states

log = logging.getLogger(__name__)

_POLL_HELD_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """What surrounds a sweep. None of it changes a number."""

    cache_folder: Path
    """Where models that are built or fetched are kept."""
    data_folder: Path | None
    argv: tuple[str, ...]
    """The command line to put on record."""
    python_path: str
    """PYTHONPATH for the trials' processes."""
    first_retry_wait_s: float = 30.0
    """Before a trial that failed for a passing reason is started again; doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOutcome:
    """How a sweep ended."""

    experiment: str
    rows: tuple[TrialRow, ...]
    """Every trial of the plan, at the end."""
    num_started: int
    """Trials that had something missing when the sweep began; 0 means that there was nothing to do."""
    was_stopped: bool

    @property
    def failed(self) -> tuple[TrialRow, ...]:
        """Trials whose last attempt failed."""
        return tuple(row for row in self.rows if row.state == "failed")

    @property
    def unfinished(self) -> tuple[TrialRow, ...]:
        """Trials that are neither done nor failed."""
        return tuple(row for row in self.rows if row.state not in ("done", "failed"))

    @property
    def exit_code(self) -> int:
        """0 all done, 130 stopped, 1 some failed, 3 some unfinished."""
        if self.was_stopped and (self.failed or self.unfinished):
            return 130
        if self.failed:
            return 1
        return 3 if self.unfinished else 0


def unfinished_trials(view: SweepView) -> tuple[PlannedTrial, ...]:
    """The trials with something missing, in the plan's order; imports nothing heavy.

    Raises:
        StoreError: a record does not read.
    """
    return tuple(planned for planned, row in zip(view.trials, view.rows(), strict=True) if row.state != "done")


def run_sweep(
    plan: Plan,
    store: Store,
    *,
    settings: SweepSettings,
    open_scheduler: Callable[[], Scheduler],
    stop: StopSignal,
    on_event: Callable[[str], None],
    around: AbstractContextManager[object] | None = None,
) -> SweepOutcome:
    """Run what is missing of a plan and report; run again, it does nothing.

    Args:
        plan: the trials, in the order in which to start them.
        store: the runs folder.
        settings: what surrounds the sweep.
        open_scheduler: called only when there is something to run.
        stop: a clean or forced stop may be requested at any moment.
        on_event: told, in one line each, what the driver itself is doing.
        around: entered while trials run, once the plan is kept: displays and mirrors.

    Raises:
        StoreError: the runs folder is unusable, or another driver has this experiment.
        PlanError: a trial that cannot run here. ModelError: a model that cannot be had.
    """
    check_supported(plan.entries)
    view = SweepView(store, plan.entries, data_folder=settings.data_folder)
    missing = unfinished_trials(view)
    if missing or store.sweep_digest(plan.experiment) != plan.digest:
        store.check_writable()
        with store.sweep_lock(plan.experiment):
            store.save_sweep(plan)
            missing = unfinished_trials(view)
            if missing:
                with around or nullcontext():
                    _run_missing(plan, missing, store, settings, open_scheduler, stop, on_event)
    return SweepOutcome(
        experiment=plan.experiment, rows=view.rows(), num_started=len(missing), was_stopped=stop.is_requested
    )


def check_supported(trials: Sequence[PlannedTrial]) -> None:
    """Refuse what cannot end well here, before hours of training: gangs over nodes, engines that cannot be opened.

    Raises:
        PlanError: the trial, the key and what to put there instead.
    """
    for planned in trials:
        what = f"trial {planned.trial.id} ({planned.label})"
        if planned.resources.num_nodes != 1:
            raise PlanError(
                f"{what} asks for {planned.resources.num_nodes} nodes",
                where="cluster.num_nodes",
                mend="set it to 1: a trial runs on one node; several trials use several nodes side by side",
            )
        if planned.evaluation.engine == "openai":
            raise PlanError(
                f"{what} would be evaluated through an endpoint, which serves no checkpoints",
                where="eval.engine",
                mend="set it to hf or vllm; `orch eval` evaluates endpoints",
            )
        if planned.evaluation.engine == "vllm" and find_spec("vllm") is None:
            raise PlanError(
                f"{what} would be evaluated by vllm, which is not installed",
                where="eval.engine",
                mend="install it (`make vllm` builds an environment with its CPU build), or set eval.engine to hf",
            )


def _run_missing(
    plan: Plan,
    missing: tuple[PlannedTrial, ...],
    store: Store,
    settings: SweepSettings,
    open_scheduler: Callable[[], Scheduler],
    stop: StopSignal,
    on_event: Callable[[str], None],
) -> None:
    models = tuple(dict.fromkeys(planned.trial.model for planned in missing))
    on_event(f"preparing {', '.join(dict.fromkeys(model.path for model in models))}")
    prepare_models(models, cache_folder=settings.cache_folder, stop=stop, on_event=on_event)
    workers = WorkerSettings(
        store_root=store.root.resolve(),
        experiment=plan.experiment,
        cache_folder=settings.cache_folder.resolve(),
        data_folder=settings.data_folder.resolve() if settings.data_folder else None,
        argv=settings.argv,
        stop_file=stop.path.resolve(),
        working_folder=Path.cwd(),
        python_path=settings.python_path,
    )
    left = missing
    attempts_before = {planned.trial.id: len(record.attempts) for planned, record in _records(missing, store)}
    while left and not stop.is_requested:
        on_event(f"starting {len(left)} trials")
        open_scheduler().run(left, workers, stop)
        held = tuple(planned for planned in left if store.is_locked(planned.trial.id))
        if held:
            on_event(f"waiting for {len(held)} trials that other processes are running")
            _wait_until_free(held, store, stop)
        again, wait_s = _to_retry(left, store, attempts_before, settings.first_retry_wait_s)
        if again:
            on_event(f"{len(again)} trials failed for a passing reason: again in {wait_s:.0f} s")
            stop.wait(wait_s)
        left = (*unfinished_trials(SweepView(store, held, data_folder=settings.data_folder)), *again)


def _records(trials: Sequence[PlannedTrial], store: Store) -> Iterator[tuple[PlannedTrial, RunRecord]]:
    for planned in trials:
        if (record := store.find(planned.trial.id)) is not None:
            yield planned, record


def _to_retry(
    trials: Sequence[PlannedTrial], store: Store, attempts_before: Mapping[str, int], first_wait_s: float
) -> tuple[tuple[PlannedTrial, ...], float]:
    """Trials that failed for a reason that passes, and how long to wait for the last of them to be due."""
    waits = {
        planned.trial.id: wait_before_retry_s(
            record, since=attempts_before.get(planned.trial.id, 0), first_wait_s=first_wait_s
        )
        for planned, record in _records(trials, store)
        if record.status is Status.FAILED
    }
    again = tuple(planned for planned in trials if waits.get(planned.trial.id) is not None)
    return again, max((wait for wait in waits.values() if wait is not None), default=0.0)


def _wait_until_free(held: Sequence[PlannedTrial], store: Store, stop: StopSignal) -> None:
    while any(store.is_locked(planned.trial.id) for planned in held):
        if stop.wait(_POLL_HELD_S):
            return


def summary_line(rows: Sequence[TrialRow]) -> str:
    """Counts by state, for example `9 trials: 3 done, 2 running, 4 waiting`."""
    counts = ", ".join(f"{number} {state}" for state, number in count_states(rows).items())
    return f"{len(rows)} trials: {counts}" if rows else "no trials"
