"""Which waiting trial starts next, and on which nodes: the one place that packs gangs of different sizes.

    tasks ─ priority ─▶ queues by shape ─ start_next ─▶ Placement … finish ─▶ start_next …

Trials start by priority, then in the order given; one that does not fit is passed by those that do. The simulator and
a live scheduler drive the same object; it reads no clock and knows no durations.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.sweep.nodes import Node, ResourceRequest

_TOLERANCE = 1e-9
_NAMES = ("GPU", "CPU", "GB memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A trial as the planner sees it."""

    id: str
    request: ResourceRequest
    seconds: float = 0.0
    """Expected duration, for forecasts; 0 where nothing is known."""
    priority: int = 0
    """Lower starts first."""
    labels: tuple[str, ...] = ()
    """What caps count: a task counts for each of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A trial that starts, and the nodes that it occupies."""

    task: Task
    nodes: tuple[int, ...]
    """Indices into the planner's nodes."""
    start_s: float


class Planner:
    """Keeps what is free and what waits. Same calls, same answers: ties go to the earlier task and node."""

    def __init__(
        self,
        nodes: Sequence[Node],
        tasks: Sequence[Task],
        *,
        caps: Mapping[str, int] | None = None,
        max_running: int | None = None,
    ) -> None:
        """Take tasks that fit the nodes (`cluster.check_fits`).

        Args:
            nodes: what each node has when empty.
            tasks: what is to run.
            caps: label → most of the tasks that carry it at once.
            max_running: most tasks at once.
        """
        self._free = [[node.num_gpus, node.num_cpus, node.memory_gb] for node in nodes]
        self._names = [node.name for node in nodes]
        self._caps, self._max_running = caps or {}, max_running
        self._running: dict[str, Placement] = {}
        self._running_of: Counter[str] = Counter()
        self._queues = _queues(tasks)
        self._does_not_fit: set[ResourceRequest] = set()
        self.num_waiting = len(tasks)

    @property
    def running(self) -> Mapping[str, Placement]:
        """Task id → where it runs."""
        return self._running

    def start_next(self, now_s: float) -> Placement | None:
        """Start the first waiting task that may start now; None when there is none until something finishes."""
        if self._max_running is not None and len(self._running) >= self._max_running:
            return None
        heads = sorted((queue[0] for queue in self._queues if queue), key=lambda one: one[0])
        for _, task in heads:
            if self._cap_reached(task) is not None:
                continue
            nodes = self._place(task.request)
            if nodes is not None:
                return self._start(task, nodes, now_s)
        return None

    def finish(self, task_id: str) -> None:
        """Free what a running task occupied."""
        placement = self._running.pop(task_id)
        self._running_of.subtract(placement.task.labels)
        for node in placement.nodes:
            _take(self._free[node], placement.task.request, -1)
        self._does_not_fit.clear()

    def occupy(self, task: Task) -> None:
        """Count a task as running that started before this planner was made; nowhere if it fits no more."""
        fitting = self._fitting(task.request)
        is_there = len(fitting) >= task.request.num_nodes
        self._run(Placement(task=task, nodes=self._fullest(fitting, task.request) if is_there else (), start_s=0.0))

    def why_waiting(self, request: ResourceRequest, labels: tuple[str, ...]) -> str:
        """What keeps a waiting task of this kind from starting now, in a few words."""
        if self._max_running is not None and len(self._running) >= self._max_running:
            return f"at most {self._max_running} at once"
        for label in labels:
            if label in self._caps and self._running_of[label] >= self._caps[label]:
                return f"cap {label}: {self._running_of[label]} of {self._caps[label]}"
        able = len(self._fitting(request))
        if able >= request.num_nodes:
            return "its turn"
        if able:
            return f"needs {request.num_nodes} nodes: {able} free enough"
        asked = (request.num_gpus, request.num_cpus, request.memory_gb)
        free_there = [free for free, name in zip(self._free, self._names, strict=True) if name not in request.avoid]
        nearest = max(
            free_there, key=lambda free: min(has / want for has, want in zip(free, asked, strict=True) if want)
        )
        scarce = [
            (f"{want:g} {name}", f"{max(0.0, has):g}")
            for name, want, has in zip(_NAMES, asked, nearest, strict=True)
            if has + _TOLERANCE < want
        ]
        return f"needs {', '.join(want for want, _ in scarce)}: {', '.join(has for _, has in scarce)} free"

    def _cap_reached(self, task: Task) -> str | None:
        return next((one for one in task.labels if self._running_of[one] >= self._caps.get(one, math.inf)), None)

    def _start(self, task: Task, nodes: tuple[int, ...], now_s: float) -> Placement:
        queue = next(one for one in self._queues if one and one[0][1] is task)
        queue.popleft()
        placement = Placement(task=task, nodes=nodes, start_s=now_s)
        self._run(placement)
        self.num_waiting -= 1
        return placement

    def _run(self, placement: Placement) -> None:
        self._running[placement.task.id] = placement
        self._running_of.update(placement.task.labels)
        for node in placement.nodes:
            _take(self._free[node], placement.task.request, 1)

    def _place(self, request: ResourceRequest) -> tuple[int, ...] | None:
        """The fullest nodes that hold a gang; None until something finishes."""
        if request in self._does_not_fit:
            return None
        fitting = self._fitting(request)
        if len(fitting) < request.num_nodes:
            self._does_not_fit.add(request)
            return None
        return self._fullest(fitting, request)

    def _fitting(self, request: ResourceRequest) -> list[int]:
        """Nodes that hold it now, and that it does not avoid."""
        return [
            node
            for node, free in enumerate(self._free)
            if _holds(free, request) and self._names[node] not in request.avoid
        ]

    def _fullest(self, fitting: Sequence[int], request: ResourceRequest) -> tuple[int, ...]:
        if request.num_nodes == 1:
            return (min(fitting, key=lambda node: (*self._free[node], node)),)
        return tuple(sorted(fitting, key=lambda node: (*self._free[node], node))[: request.num_nodes])


_Rank = tuple[int, int]
"""Priority, then place in the order given."""
_Queue = deque[tuple[_Rank, Task]]


def _queues(tasks: Sequence[Task]) -> list[_Queue]:
    """Tasks by what they ask for and their labels: of each queue only the first can be next."""
    queues: dict[tuple[ResourceRequest, tuple[str, ...]], list[tuple[_Rank, Task]]] = {}
    for index, task in enumerate(tasks):
        queues.setdefault((task.request, task.labels), []).append(((task.priority, index), task))
    return [deque(sorted(queue, key=lambda one: one[0])) for queue in queues.values()]


def _take(free: list[float], request: ResourceRequest, sign: int) -> None:
    free[0] -= sign * request.num_gpus
    free[1] -= sign * request.num_cpus
    free[2] -= sign * request.memory_gb


def _holds(free: Sequence[float], request: ResourceRequest) -> bool:
    return (
        free[0] + _TOLERANCE >= request.num_gpus
        and free[1] + _TOLERANCE >= request.num_cpus
        and free[2] + _TOLERANCE >= request.memory_gb
    )
