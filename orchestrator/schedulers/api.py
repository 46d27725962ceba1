"""What a scheduler is: it brings the trials of an agenda to their end, as far as resources allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a supervisor in a Ray actor starts in half the time without the agenda
    from orchestrator.agenda import Agenda
    from orchestrator.stop import StopSignal
    from orchestrator.supervisor import WorkerSettings


class Scheduler(Protocol):
    """Runs what an agenda hands out. Results are in the store, so nothing is returned."""

    def run(self, agenda: Agenda, settings: WorkerSettings, stop: StopSignal) -> None:
        """Run trials until the agenda is over; a failed one does not stop its siblings.

        Tells the agenda of every trial that ended. Returns early after a stop request.

        Raises:
            PlanError: a trial asks for more than any machine here has.
        """
