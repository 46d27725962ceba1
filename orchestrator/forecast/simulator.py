"""Run the planner of a live sweep against expected durations: the clock jumps from end to end."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.forecast.bound import lower_bound_s
from orchestrator.sweep.nodes import Node
from orchestrator.sweep.placement import Placement, Planner, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a sweep does when, if every trial takes as long as expected."""

    placements: tuple[Placement, ...]
    """In the order of their start."""
    makespan_s: float
    bound_s: float
    """No schedule at all is shorter: `bound.lower_bound_s`."""

    @property
    def ratio(self) -> float:
        """Makespan over bound; 1 for a sweep of nothing."""
        return self.makespan_s / self.bound_s if self.bound_s else 1.0


def simulate(
    nodes: Sequence[Node],
    tasks: Sequence[Task],
    *,
    caps: Mapping[str, int] | None = None,
    max_running: int | None = None,
) -> Forecast:
    """Start tasks as a sweep on those nodes would."""
    planner = Planner(nodes, tasks, caps=caps, max_running=max_running)
    placements: list[Placement] = []
    ends: list[tuple[float, int, str]] = []
    now_s = 0.0
    while planner.num_waiting or ends:
        while (placement := planner.start_next(now_s)) is not None:
            placements.append(placement)
            heapq.heappush(ends, (now_s + placement.task.seconds, len(placements), placement.task.id))
        if not ends:
            raise AssertionError("a task that fits no node came past check_fits")
        now_s = ends[0][0]
        while ends and ends[0][0] <= now_s:
            planner.finish(heapq.heappop(ends)[2])
    bound_s = lower_bound_s(nodes, tasks, caps=caps, max_running=max_running)
    return Forecast(placements=tuple(placements), makespan_s=now_s, bound_s=bound_s)
