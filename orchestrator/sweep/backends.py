"""Where trials run: `open_scheduler` is the door. A scheduler runs what it is given and leaves results in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # a supervisor in a Ray actor starts in half the time without the queue
    from orchestrator.sweep.queue import TrialQueue
    from orchestrator.trial.stop import StopSignal
    from orchestrator.trial.supervisor import WorkerSettings

SchedulerName = Literal["ray_tune", "inline"]


class Scheduler(Protocol):
    """Runs what the queue hands out. Results are in the store, so nothing is returned."""

    def run(self, queue: TrialQueue, settings: WorkerSettings, stop: StopSignal) -> None:
        """Run trials until the queue is over; a failed one does not stop its siblings.

        Tells the queue of every trial that ended. Returns early after a stop request.

        Raises:
            PlanError: a trial asks for more than any machine here has.
        """


def open_scheduler(name: SchedulerName, *, address: str | None) -> Scheduler:
    """The scheduler of that name; Ray is loaded only when it is asked for.

    Args:
        name: `ray_tune`, or `inline` for this process, one trial after another.
        address: Ray cluster to join (`auto`, `ray://host:port`); None starts a local one.
    """
    if name == "inline":
        from orchestrator.sweep.inline import InlineScheduler

        return InlineScheduler()
    from orchestrator.sweep.ray_tune import RayTuneScheduler

    return RayTuneScheduler(address=address)
