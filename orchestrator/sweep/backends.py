"""Where trials run: `open_scheduler` is the door. A scheduler runs what it is given and leaves results in the store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # a supervisor in a Ray actor starts in half the time without the queue
    from orchestrator.sweep.queue import TrialQueue
    from orchestrator.trial.stop import StopSignal
    from orchestrator.trial.supervisor import WorkerSettings

SchedulerName = Literal["ray_tune", "inline"]
_RAY_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


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
    with _on_loopback() if address is None else contextlib.nullcontext():
        from orchestrator.sweep.ray_tune import RayTuneScheduler
    return RayTuneScheduler(address=address)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Import Ray as it is on a laptop: else a local one listens to the whole network, whatever address it is given."""
    kept = os.environ.get(_RAY_CLUSTERS)
    os.environ[_RAY_CLUSTERS] = "0"
    try:
        yield
    finally:  # it is read once, by the import; the processes of trials decide for themselves
        if kept is None:
            del os.environ[_RAY_CLUSTERS]
        else:
            os.environ[_RAY_CLUSTERS] = kept
