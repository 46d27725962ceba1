"""Trials in this very process, one after another: for tests, for pdb, and for machines too small for Ray."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from orchestrator.errors import PlanError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.lease import LeaseLost
from orchestrator.store.store import Store, TrialLocked
from orchestrator.sweep.queue import TrialQueue
from orchestrator.trial.attempt import RunContext, run_trial
from orchestrator.trial.stop import StopSignal
from orchestrator.trial.supervisor import WorkerSettings

log = logging.getLogger(__name__)


_LOCK_TIMEOUT_S = 2.0
"""Longer than any look at a lock, shorter than any work under it."""
_POLL_S = 0.2


class InlineScheduler:
    """No processes, no threads: a breakpoint in a trainer works."""

    def run(self, queue: TrialQueue, settings: WorkerSettings, stop: StopSignal) -> None:
        """Run one trial after another; one that another process holds is passed over.

        Raises:
            PlanError: a trial wants more nodes than this one.
        """
        _check_one_node(queue.to_start)
        store = Store(settings.store_root)
        while not (stop.is_requested or queue.is_over):
            planned = queue.next()
            if planned is None:
                stop.wait(_POLL_S)
                continue
            try:
                run_trial(planned, store, context=_context(planned, queue, settings, stop))
            except (TrialLocked, LeaseLost) as error:
                log.info("%s", error)
            finally:
                queue.finish(planned.trial.id)


def _context(planned: PlannedTrial, queue: TrialQueue, settings: WorkerSettings, stop: StopSignal) -> RunContext:
    return RunContext(
        cache_folder=settings.cache_folder,
        data_folder=settings.data_folder,
        argv=settings.argv,
        should_stop=lambda: stop.is_requested or queue.is_asked_to_stop(planned.trial.id),
        lock_timeout_s=_LOCK_TIMEOUT_S,
    )


def _check_one_node(trials: Sequence[PlannedTrial]) -> None:
    """Raise PlanError for a trial that this process alone could not run."""
    for planned in trials:
        if planned.resources.num_nodes > 1:
            raise PlanError(
                f"trial {planned.trial.id} ({planned.label}) asks for {planned.resources.num_nodes} nodes",
                where="cluster.num_nodes",
                fix="set it to 1, or join a cluster: --ray-address without --scheduler inline",
            )
