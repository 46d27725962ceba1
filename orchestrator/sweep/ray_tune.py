"""Trials through Ray Tune: it reserves each trial's gang, starts its supervisor and hears of its training steps.

A custom searcher hands Tune the trial that the queue says may start, so the plan decides the order, and what is handed
out changes as the plan does. Tune's own files lie in a temporary folder and are deleted: the store is the truth. The
trainable is a thin supervisor of a process group, because Tune runs functions in a daemon thread and kills their
children without grace.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.errors import OrchError, PlanError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.progress import FileTail
from orchestrator.store.store import Store
from orchestrator.sweep.nodes import Node, check_fits, request_of
from orchestrator.sweep.queue import TrialQueue
from orchestrator.sweep.ray_nodes import bundle, gang_factory, other_nodes
from orchestrator.sweep.ray_watch import RayWatch
from orchestrator.trial.scratch import scratch_folder
from orchestrator.trial.stop import StopSignal, read_request
from orchestrator.trial.supervisor import WorkerSettings, supervise

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}
"""Keeps Ray silent, off the network, out of the working folder and away from our signals."""
_LOCAL_ENVIRONMENT = {"RAY_health_check_failure_threshold": "20"}
"""For a local Ray alone: a raylet that a busy machine keeps from answering is marked dead after four minutes instead of
one, and is never taken back. That of a process which has ended is seen by `ray_watch` within a second."""
_OBJECT_STORE_BYTES = 80 * 2**20
"""Near Ray's minimum: only configs of a few hundred bytes pass through it."""
_LOOK_S = 5.0
"""Between looks at what nodes there are."""
_EXTRA_GRACE_S = 30.0
"""After the supervisors' own grace, before Tune drops what still runs."""


class RayTuneScheduler:
    """Runs trials side by side as far as their gangs fit the Ray cluster."""

    def __init__(self, *, address: str | None) -> None:
        """See `open_scheduler`."""
        self._address = address

    def run(self, queue: TrialQueue, settings: WorkerSettings, stop: StopSignal) -> None:
        """Run trials until the queue is over, or until some time after a stop request.

        Raises:
            PlanError: no Ray at the address, or a trial asks for more than any node has.
            SweepIncomplete: the local Ray died.
        """
        os.environ.update(ENVIRONMENT)
        watch = RayWatch(count_nodes=_count_nodes, say=queue.tell)
        looking = watch.looking if self._address is None else contextlib.nullcontext  # a cluster outlives its nodes
        with watch.guarding(), _quiet(), _cluster(self._address) as storage, looking():
            nodes = _nodes()
            _check_fit(queue.to_start, nodes)
            queue.see_nodes(nodes)
            searcher = _Planned(queue, settings.stop_file)
            trainable = tune.with_resources(
                _trainable(settings),
                lambda config: gang_factory(config["bundle"], config["num_nodes"], config["avoid"]),
            )
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=_Placement(searcher),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=str(storage),
                    verbose=0,
                    stop=_Deadline(settings.stop_file, settings.grace_s, is_lost=lambda: bool(watch.lost)),
                ),
            ).fit()


class _Planned(Searcher):
    """Not a search: hands out the trials that the queue says may start now."""

    def __init__(self, queue: TrialQueue, stop_file: Path) -> None:
        super().__init__()
        self._queue, self._stop_file = queue, stop_file
        self._handed: dict[str, tuple[str, float, frozenset[str]]] = {}
        """Tune's trial id → ours, when it was handed out, and the nodes that it must avoid."""
        self.errors: dict[str, str] = {}
        """Tune's trial id → what Ray says of a supervisor that it could not run."""
        self._looked_at_s = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to keep in Tune's files: the next launch plans from the store."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; None while nothing may start, FINISHED when nothing will."""
        if read_request(self._stop_file)[0] or self._queue.is_over:
            return Searcher.FINISHED
        self.look_at_nodes()
        planned = self._queue.next()
        if planned is None:
            return None
        avoid, resources = self._queue.avoids(planned.trial.id), planned.resources
        self._handed[trial_id] = (planned.trial.id, time.monotonic(), avoid)
        return {
            "trial": planned.trial.id,
            "bundle": bundle(resources),
            "num_nodes": resources.num_nodes,
            "avoid": sorted(avoid),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Free the trial's place."""
        if trial_id in self._handed:
            said = result or {}
            problem = said.get("problem") or self.errors.pop(trial_id, None)
            self._queue.finish(self._handed.pop(trial_id)[0], problem=problem, node=said.get("node"))

    def is_unplaceable(self, trial_id: str) -> bool:
        """Whether Tune waits in vain for the place of a trial that it has not started."""
        if trial_id not in self._handed:
            return False
        ours, handed_at_s, avoid = self._handed[trial_id]
        if avoid != self._queue.avoids(ours):  # the nodes that were left have gone: it is handed out anew
            return True
        return self._queue.is_unplaceable(ours, waited_s=time.monotonic() - handed_at_s)

    def look_at_nodes(self) -> None:
        """Tell the queue, now and then, what the cluster has."""
        if time.monotonic() - self._looked_at_s >= _LOOK_S:
            self._looked_at_s = time.monotonic()
            self._queue.see_nodes(_nodes())

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: the next launch plans from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: Tune's state is not restored."""


class _Placement(FIFOScheduler):
    """Takes back from Tune what the cluster will not place, since nothing else could start before it."""

    def __init__(self, searcher: _Planned) -> None:
        super().__init__()
        self._searcher = searcher

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Called in every turn of Tune's loop."""
        self._searcher.look_at_nodes()
        for trial in list(tune_controller.get_live_trials()):
            if trial.status == Trial.PENDING and self._searcher.is_unplaceable(trial.trial_id):
                tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Note what Tune says before it tells the searcher that there was an error."""
        lines = str(trial.get_error() or "Ray does not say why").strip().splitlines()
        self._searcher.errors[trial.trial_id] = lines[-1]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Drop the means that Tune would keep of every ended trial: unused, and long sweeps would pay for them."""
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()


class _Deadline(tune.Stopper):
    """Lets Tune drop its trials at a forced stop, when a clean one takes too long, or when Ray is lost."""

    def __init__(self, stop_file: Path, grace_s: float, *, is_lost: Callable[[], bool]) -> None:
        self._stop_file, self._patience_s, self._is_lost = stop_file, grace_s + _EXTRA_GRACE_S, is_lost
        self._asked_at: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to keep in Tune's files."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for its results."""
        return False

    def stop_all(self) -> bool:
        """Whether waiting for supervisors has lasted long enough, or is of no use."""
        if self._is_lost():
            return True
        is_requested, is_forced = read_request(self._stop_file)
        if not is_requested:
            return False
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        patience_s = _EXTRA_GRACE_S if is_forced else self._patience_s
        return time.monotonic() - self._asked_at > patience_s


def _trainable(settings: WorkerSettings) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def supervise_trial(config: dict[str, Any]) -> dict[str, Any]:
        node = ray.get_runtime_context().get_node_id()
        try:
            planned = Store(settings.store_root).plans.read_planned(settings.experiment, config["trial"])
            with other_nodes(planned.resources, settings) as others:
                reporter = _Reporter(Store(settings.store_root), planned.trial.id)
                return {"exit_status": supervise(planned, replace(settings, nodes=(node, *others)), on_poll=reporter)}
        except (OrchError, OSError) as error:
            return {"problem": f"{str(error).splitlines()[0]} (node {node[:8]})", "node": node}

    return supervise_trial


class _Reporter:
    """Tells Tune of training steps as they are done, so that one of its schedulers could judge them.

    Between two calls only the last step is reported: Tune waits for each result to be taken in.
    """

    def __init__(self, store: Store, trial_id: str) -> None:
        self._store, self._trial_id = store, trial_id
        self._attempts_before = store.attempt_numbers(trial_id)
        self._tail: FileTail | None = None

    def __call__(self) -> None:
        if self._tail is None:
            begun = [one for one in self._store.attempt_numbers(self._trial_id) if one not in self._attempts_before]
            if not begun:
                return
            self._tail = FileTail(self._store.metrics_file(self._trial_id, begun[-1]))
        for line in self._tail.read_lines()[-1:]:
            with contextlib.suppress(ValueError):  # a damaged line is the store's to complain of
                row = json.loads(line)
                tune.report({name: value for name, value in row.items() if isinstance(value, int | float)})


def _nodes() -> list[Node]:
    found = [(node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"]]
    return [
        Node(
            name=name,
            num_gpus=has.get("GPU", 0),
            num_cpus=has.get("CPU", 0),
            memory_gb=has.get("memory", 0) / 2**30,
        )
        for name, has in found
    ]


def _count_nodes() -> int:
    """Nodes that live; none where Ray does not say."""
    with contextlib.suppress(RayError, ConnectionError):
        return len(_nodes())
    return 0


def _check_fit(trials: Sequence[PlannedTrial], nodes: Sequence[Node]) -> None:
    """Refuse a trial that no node could ever hold: Ray would leave it pending without a word."""
    for request, planned in {request_of(one.resources): one for one in reversed(trials)}.items():
        name = f"trial {planned.trial.id} ({planned.label})"
        check_fits(nodes, request, name=name, fix="lower them, or join a larger cluster with --ray-address")


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Path]:
    """Join the cluster, or start a local one for the block; yields a folder for Tune's own files."""
    with scratch_folder() as folder:
        if ray.is_initialized():
            yield folder
            return
        try:
            with _own_signal_handlers():
                _start(address, folder)
            yield folder / "tune"
        finally:
            ray.shutdown()


def _start(address: str | None, folder: Path) -> None:
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address=address, runtime_env={"env_vars": ENVIRONMENT}, **common)
            return
        for name, value in _LOCAL_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        ray.init(
            address="local",
            num_cpus=len(os.sched_getaffinity(0)),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
            **common,
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if address is None:
            raise PlanError(
                f"a local Ray does not start: {reason}",
                where=str(folder),
                fix="free memory and space in the temporary folder (TMPDIR), or run without Ray: --scheduler inline",
            ) from error
        raise PlanError(
            f"no Ray cluster answers at {address}: {reason}",
            where="--ray-address",
            fix="start one with `ray start --head`, or leave the option out for a local one; "
            "a cluster with token authentication needs RAY_AUTH_MODE=token and its token",
        ) from error


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Put back the handlers that Ray replaces: its own for SIGTERM aborts the driver instead of stopping trials."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    kept = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's own messages off the terminal: what matters is in the store and in the trials' logs."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
