"""Trials in this very process, one after another: for tests, for pdb, and for machines too small for Ray."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from orchestrator.failures import Holds
from orchestrator.run import RunContext, run_trial
from orchestrator.stop import StopSignal
from orchestrator.store import Store, TrialLocked
from orchestrator.supervisor import WorkerSettings
from orchestrator.trial import PlannedTrial

log = logging.getLogger(__name__)


_LOCK_TIMEOUT_S = 2.0
"""Longer than any look at a lock, shorter than any work under it."""


class InlineScheduler:
    """No processes, no threads: a breakpoint in a trainer works."""

    def run(self, trials: Sequence[PlannedTrial], settings: WorkerSettings, stop: StopSignal) -> None:
        """Run the trials in the order given; one that another process holds is passed over."""
        context = RunContext(
            cache_folder=settings.cache_folder,
            data_folder=settings.data_folder,
            argv=settings.argv,
            should_stop=lambda: stop.is_requested,
            lock_timeout_s=_LOCK_TIMEOUT_S,
        )
        store = Store(settings.store_root)
        holds = Holds(trials, store)
        for planned in trials:
            if stop.is_requested:
                return
            if (culprit := holds.culprit(planned.trial)) is not None:
                log.warning("%s is held: %s, which differs in its seed only, failed", planned.trial.id, culprit)
                continue
            try:
                run_trial(planned, store, context=context)
            except TrialLocked as error:
                log.info("%s", error)
