"""Where trials run: `open_scheduler` is the door. A scheduler runs what it is given and leaves results in the store."""

from __future__ import annotations

from typing import Literal

from orchestrator.schedulers.api import Scheduler

SchedulerName = Literal["ray_tune", "inline"]


def open_scheduler(name: SchedulerName, *, address: str | None) -> Scheduler:
    """The scheduler of that name; Ray is loaded only when it is asked for.

    Args:
        name: `ray_tune`, or `inline` for this process, one trial after another.
        address: Ray cluster to join (`auto`, `ray://host:port`); None starts a local one.
    """
    if name == "inline":
        from orchestrator.schedulers.inline import InlineScheduler

        return InlineScheduler()
    from orchestrator.schedulers.ray_tune import RayTuneScheduler

    return RayTuneScheduler(address=address)
