"""What a scheduler is: it brings trials to their end, in order as far as resources allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.stop import StopSignal
from orchestrator.supervisor import WorkerSettings
from orchestrator.trial import PlannedTrial


class Scheduler(Protocol):
    """Runs unfinished trials. Their results are in the store, so nothing is returned."""

    def run(self, trials: Sequence[PlannedTrial], settings: WorkerSettings, stop: StopSignal) -> None:
        """Run every trial once; a failed one does not stop its siblings. Returns early after a stop request.

        Raises:
            PlanError: a trial asks for more than any machine here has.
        """
