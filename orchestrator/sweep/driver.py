"""Drive a plan to its end: find what is missing, prepare models, run it, say what is left. Safe to repeat.

    plan ─ unfinished ─▶ prepare inputs ─▶ queue ⇄ scheduler ─▶ records ─▶ SweepOutcome

One driver at a time drives an experiment; a second call hands its plan, if it differs, to the one that runs. A trial
that another experiment's driver is running is left to it; if it comes back unfinished, this driver runs it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from orchestrator.errors import PlanError, StoreError
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.status.driver import read_report, report_file
from orchestrator.status.looks import SeedLooks
from orchestrator.status.rows import SweepView, TrialRow, count_states
from orchestrator.status.state import TO_RUN, UNDO
from orchestrator.store.inputs import SeenInputs
from orchestrator.store.store import Store, SweepLocked
from orchestrator.sweep.backends import Scheduler
from orchestrator.sweep.controller import Controller
from orchestrator.sweep.gpus import check_gpus
from orchestrator.sweep.queue import QueueSettings, TrialQueue
from orchestrator.trial.fetch import PrepareSettings, prepare_inputs
from orchestrator.trial.inputs import check_reachable, inputs_of, missing_inputs
from orchestrator.trial.stop import StopSignal
from orchestrator.trial.supervisor import WorkerSettings, record_unplaced

log = logging.getLogger(__name__)

_POLL_S = 0.5
HAND_OVER_S = 120.0
"""How long the driver of a sweep may take to see a new plan, or to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """What surrounds a sweep. None of it changes a number."""

    cache_folder: Path
    """Where models that are built are kept."""
    data_folder: Path | None
    argv: tuple[str, ...]
    """The command line to put on record."""
    python_path: str
    """PYTHONPATH for the trials' processes."""
    first_retry_wait_s: float = 30.0
    """Before a trial that failed for a passing reason is started again; doubled each time."""
    max_running: int | None = None
    """Most trials at once; None lets the resources decide."""
    num_gpus: int | None = None
    """GPUs of this machine where it alone runs the trials; None where a cluster does, or where it is unknown."""
    why_no_hub: Callable[[], str] = lambda: ""
    """Why nothing can be fetched at this moment, asked only where something has to be; empty where it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOutcome:
    """How a sweep ended."""

    experiment: str
    rows: tuple[TrialRow, ...]
    """Every trial of the plan, at the end."""
    num_started: int
    """Trials that had something missing when the sweep began; 0 means that there was nothing to do."""
    was_stopped: bool
    """Asked to stop, or drained."""
    handed_to: str | None = None
    """The driver that runs the experiment and took this plan, where another one does."""

    @property
    def failed(self) -> tuple[TrialRow, ...]:
        """Trials whose last attempt failed."""
        return tuple(row for row in self.rows if row.state == "failed")

    @property
    def unfinished(self) -> tuple[TrialRow, ...]:
        """Trials that are neither done nor failed."""
        return tuple(row for row in self.rows if row.state not in ("done", "failed"))

    @property
    def held(self) -> tuple[TrialRow, ...]:
        """Trials that are paused or cancelled."""
        return tuple(row for row in self.rows if row.state in UNDO)

    @property
    def exit_code(self) -> int:
        """0 all done or handed over, 130 stopped or drained, 1 some failed, 3 some unfinished, paused or cancelled."""
        if self.handed_to is not None:
            return 0
        if self.was_stopped and (self.failed or self.unfinished):
            return 130
        if self.failed:
            return 1
        return 3 if self.unfinished else 0


def unfinished_trials(view: SweepView) -> tuple[PlannedTrial, ...]:
    """The trials that a sweep sees to: what it runs, and what another process runs. Imports nothing heavy.

    What is done or held is none of them.

    Raises:
        StoreError: a record does not read.
    """
    rows = zip(view.trials, view.rows(), strict=True)
    return tuple(planned for planned, row in rows if row.state in TO_RUN or row.state == "running")


def run_sweep(
    plan: Plan,
    store: Store,
    *,
    settings: SweepSettings,
    open_scheduler: Callable[[], Scheduler],
    stop: StopSignal,
    on_event: Callable[[str], None],
    on_progress: Callable[[str], None] = lambda line: None,
    around: AbstractContextManager[object] | None = None,
) -> SweepOutcome:
    """Run what is missing of a plan and report; run again, it does nothing.

    Args:
        plan: the trials, in the order in which to start them.
        store: the runs folder.
        settings: what surrounds the sweep.
        open_scheduler: called only when there is something to run.
        stop: a clean or forced stop may be requested at any moment.
        on_event: called with a line for each thing that the driver itself does.
        on_progress: called once a second with the state of a download.
        around: entered while trials run, once the plan is kept: displays and mirrors.

    Raises:
        StoreError: the runs folder is unusable, or another driver has this experiment.
        PlanError: a trial that cannot run here. OrchError: inputs that cannot be had.
    """
    looks = SeedLooks(store)
    plan = looks.grown(plan)
    view = SweepView(store, plan.entries, data_folder=settings.data_folder)
    missing, was_drained = unfinished_trials(view), False
    check_possible(missing, plan, store, settings)
    if missing or store.plans.digest(plan.experiment) != plan.digest:
        store.check_writable()
        with contextlib.ExitStack() as stack:
            handed_to = _lock_or_hand_over(plan, store, stack, stop)
            if handed_to is not None:
                rows = view.rows()
                return SweepOutcome(
                    experiment=plan.experiment, rows=rows, num_started=0, was_stopped=False, handed_to=handed_to
                )
            store.plans.save(plan)
            missing = unfinished_trials(view)
            if missing:
                with around or nullcontext():
                    plan, was_drained = _drive(
                        plan, store, settings, open_scheduler, stop, _Reports(on_event, on_progress), looks
                    )
    return SweepOutcome(
        experiment=plan.experiment,
        rows=SweepView(store, plan.entries, data_folder=settings.data_folder).rows(),
        num_started=len(missing),
        was_stopped=stop.is_requested or was_drained,
    )


def _lock_or_hand_over(plan: Plan, store: Store, stack: contextlib.ExitStack, stop: StopSignal) -> str | None:
    """Become the driver of the experiment, or give the plan to the one that it has, and say who that is."""
    deadline_s = time.monotonic() + HAND_OVER_S
    is_saved = False
    while True:
        try:
            stack.enter_context(store.sweep_lock(plan.experiment))
        except SweepLocked:
            if not is_saved and store.plans.digest(plan.experiment) == plan.digest:
                raise
        else:
            return None
        if not is_saved:
            store.plans.save(plan)
            is_saved = True
        report = read_report(report_file(store.root, plan.experiment))
        if report is not None and report.is_alive() and report.plan_digest == plan.digest:
            return f"process {report.pid} on {report.host}"
        if stop.wait(_POLL_S) or time.monotonic() > deadline_s:
            raise StoreError(
                f"the driver of {plan.experiment} has not taken the new plan yet",
                where=str(store.plans.file(plan.experiment)),
                fix="the plan is kept: run the same command again when that driver has ended",
            )


def check_supported(trials: Sequence[PlannedTrial]) -> None:
    """Refuse what cannot end well here, before hours of training: engines that cannot be opened.

    Raises:
        PlanError: the trial, the key and what to put there instead.
    """
    for planned in trials:
        what = f"trial {planned.trial.id} ({planned.label})"
        if planned.evaluation.engine == "openai":
            raise PlanError(
                f"{what} would be evaluated through an endpoint, which serves no checkpoints",
                where="eval.engine",
                fix="set it to hf or vllm; `orch eval` evaluates endpoints",
            )
        if planned.evaluation.engine == "vllm" and find_spec("vllm") is None:
            raise PlanError(
                f"{what} would be evaluated by vllm, which is not installed",
                where="eval.engine",
                fix="take an environment that has it (`make gpu`, or `make vllm` for a CPU), or set eval.engine to hf",
            )


def check_possible(trials: Sequence[PlannedTrial], plan: Plan, store: Store, settings: SweepSettings) -> None:
    """Refuse what this machine cannot finish: GPUs or engines that it lacks, inputs that cannot be fetched now.

    Raises:
        PlanError: no such GPUs, and the message names a twin; or no such engine. OrchError: all missing inputs, in one
            list.
    """
    tables = (plan.config.get("published") or {}).get("tables", ())
    check_gpus(trials, settings.num_gpus, file=Path(plan.file), tables=tables)
    check_supported(trials)
    missing = missing_inputs(inputs_of(trials), SeenInputs(store.root), data_folder=settings.data_folder)
    check_reachable(missing, why_no_hub=settings.why_no_hub, experiment=plan.experiment)


@dataclass(frozen=True, slots=True)
class _Reports:
    """Who hears of what the driver does."""

    on_event: Callable[[str], None]
    on_progress: Callable[[str], None]


def _drive(
    plan: Plan,
    store: Store,
    settings: SweepSettings,
    open_scheduler: Callable[[], Scheduler],
    stop: StopSignal,
    reports: _Reports,
    looks: SeedLooks,
) -> tuple[Plan, bool]:
    """Run what is missing of a plan and of those that replace it; the last of them, and whether it was drained."""
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

    def grow(now: Plan) -> Plan:
        grown = looks.grown(now)
        if grown is not now:
            store.plans.save(grown)  # before any of it starts: workers read their trial there
        return grown

    queue = TrialQueue(
        plan,
        store,
        QueueSettings(
            data_folder=settings.data_folder,
            max_running=settings.max_running,
            first_retry_wait_s=settings.first_retry_wait_s,
            is_stopping=lambda: stop.is_requested,
            grow=grow,
            give_up=lambda planned, why: record_unplaced(planned, workers, why),
            on_event=reports.on_event,
        ),
    )
    folders = PrepareSettings(
        store_root=store.root, data_folder=settings.data_folder, cache_folder=settings.cache_folder
    )

    def prepare(trials: Sequence[PlannedTrial]) -> None:
        inputs = inputs_of(trials)
        names = [*(one.name for one in inputs if one.model is None), *(one.trial.model.path for one in trials)]
        reports.on_event(f"preparing {', '.join(dict.fromkeys(names))}")
        prepare_inputs(inputs, folders, stop=stop, on_event=reports.on_event, on_progress=reports.on_progress)

    def check(trials: Sequence[PlannedTrial]) -> None:
        check_possible(trials, queue.plan, store, settings)

    with Controller(queue, store, prepare=prepare, check=check, on_event=reports.on_event).at_work():
        prepare(queue.to_start)
        if queue.to_start and not stop.is_requested:
            reports.on_event(f"starting {len(queue.to_start)} trials")
        while not (queue.is_over or stop.is_requested):
            open_scheduler().run(queue, workers, stop)
            queue.finish_all()
    return queue.plan, queue.is_draining


def summary_line(rows: Sequence[TrialRow]) -> str:
    """Counts by state, for example `9 trials: 3 done, 2 running, 4 waiting`."""
    counts = ", ".join(f"{number} {state}" for state, number in count_states(rows).items())
    return f"{len(rows)} trials: {counts}" if rows else "no trials"
