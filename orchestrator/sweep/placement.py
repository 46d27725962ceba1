"""Which waiting trial starts next, and on which nodes: the one place that packs gangs of different sizes.

    tasks ─ rank ─▶ queues by shape ─ start_next ─▶ Placement … finish ─▶ start_next …

Trials start by priority, then by rank. One that does not fit is passed by smaller ones (backfill), but never for
ever: the first that had to wait has nodes reserved at the earliest moment at which enough of them will be free, and
what passes it there must be over by then. The simulator and a live scheduler drive the same object; it reads no clock.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.sweep.nodes import Node, ResourceRequest

StartRule = Literal["longest", "largest", "widest", "given"]
"""Rank within a priority: seconds; seconds × share of a node; share, then seconds; the order in which they come."""
START_RULES: tuple[StartRule, ...] = ("longest", "largest", "widest")
_TOLERANCE = 1e-9
_NAMES = ("GPU", "CPU", "GB memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A trial as the planner sees it."""

    id: str
    request: ResourceRequest
    seconds: float
    """Expected duration; 0 where nothing is known."""
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


@dataclass(frozen=True, slots=True)
class _Reservation:
    """Nodes kept for the task that waits first, from a moment on."""

    at_s: float
    spare: dict[int, list[float]]
    """Node → what will be free there beside that task; tasks that run on past `at_s` use it up."""

    def allows(self, node: int, request: ResourceRequest, end_s: float) -> bool:
        """Whether a task on the node delays no reservation: it is over by then, or fits beside it."""
        return node not in self.spare or end_s <= self.at_s + _TOLERANCE or _holds(self.spare[node], request)


class Planner:
    """Keeps what is free and what waits. Same calls, same answers: ties go to the earlier task and node."""

    def __init__(
        self,
        nodes: Sequence[Node],
        tasks: Sequence[Task],
        *,
        rule: StartRule = "longest",
        caps: Mapping[str, int] | None = None,
        max_running: int | None = None,
    ) -> None:
        """Take tasks that fit the nodes (`cluster.check_fits`).

        Args:
            nodes: what each node has when empty.
            tasks: what is to run.
            rule: rank of tasks of one priority.
            caps: label → most of the tasks that carry it at once.
            max_running: most tasks at once.
        """
        self._free = [[node.num_gpus, node.num_cpus, node.memory_gb] for node in nodes]
        self._names = [node.name for node in nodes]
        self._caps, self._max_running = caps or {}, max_running
        self._running: dict[str, Placement] = {}
        self._running_of: Counter[str] = Counter()
        self._queues = _queues(tasks, largest_node(nodes), rule)
        self._does_not_fit: set[ResourceRequest] = set()
        self._waits_first: ResourceRequest | None = None
        self._reservation: _Reservation | None = None
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
            nodes = self._place(task, now_s)
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
        self._waits_first = self._reservation = None

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
        kept = self._reservation
        for node in nodes:
            if kept is not None and node in kept.spare and now_s + task.seconds > kept.at_s + _TOLERANCE:
                _take(kept.spare[node], task.request, 1)
        self.num_waiting -= 1
        return placement

    def _run(self, placement: Placement) -> None:
        self._running[placement.task.id] = placement
        self._running_of.update(placement.task.labels)
        for node in placement.nodes:
            _take(self._free[node], placement.task.request, 1)

    def _place(self, task: Task, now_s: float) -> tuple[int, ...] | None:
        """The fullest nodes that hold the task's gang; what waits first reserves nodes and is not passed there."""
        request = task.request
        if request in self._does_not_fit:
            return None
        fitting = self._fitting(request)
        if len(fitting) < request.num_nodes:
            self._does_not_fit.add(request)
            self._waits_first = self._waits_first or request
            return None
        if self._waits_first is not None:
            self._reservation = self._reservation or self._reserve(self._waits_first, now_s)
            end_s = now_s + task.seconds
            fitting = [node for node in fitting if self._reservation.allows(node, request, end_s)]
            if len(fitting) < request.num_nodes:
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

    def _reserve(self, request: ResourceRequest, now_s: float) -> _Reservation:
        """The nodes that will first be free enough, if nothing else starts there."""
        ends: list[list[tuple[float, ResourceRequest]]] = [[] for _ in self._free]
        for placement in self._running.values():
            end_s = max(now_s, placement.start_s + placement.task.seconds)
            for node in placement.nodes:
                ends[node].append((end_s, placement.task.request))
        ready: list[tuple[float, int, list[float]]] = []
        for node, running in enumerate(ends):
            free, at_s = list(self._free[node]), now_s
            for end_s, held in sorted(running, key=lambda one: one[0]):
                if _holds(free, request):
                    break
                at_s = end_s
                _take(free, held, -1)
            if _holds(free, request) and self._names[node] not in request.avoid:
                ready.append((at_s, node, free))
        chosen = sorted(ready)[: request.num_nodes]
        for _, _, free in chosen:
            _take(free, request, 1)
        return _Reservation(at_s=chosen[-1][0], spare={node: free for _, node, free in chosen})


def largest_node(nodes: Sequence[Node]) -> Node:
    """The most of everything that any node has: what a task's share is a share of."""
    return Node(
        num_gpus=max(node.num_gpus for node in nodes),
        num_cpus=max(node.num_cpus for node in nodes),
        memory_gb=max(node.memory_gb for node in nodes),
    )


def share_of(request: ResourceRequest, node: Node) -> float:
    """The largest share of a node's devices, cores or memory that a gang takes, times its nodes."""
    parts = [
        (request.num_gpus, node.num_gpus),
        (request.num_cpus, node.num_cpus),
        (request.memory_gb, node.memory_gb),
    ]
    return request.num_nodes * max(asked / has for asked, has in parts if has)


Rank = tuple[float, ...]
_Queue = deque[tuple[Rank, Task]]


def _queues(tasks: Sequence[Task], node: Node, rule: StartRule) -> list[_Queue]:
    """Tasks by what they ask for and their labels: of each queue only the first can be next."""
    queues: dict[tuple[ResourceRequest, tuple[str, ...]], list[tuple[Rank, Task]]] = {}
    shares: dict[ResourceRequest, float] = {}
    for index, task in enumerate(tasks):
        if task.request not in shares:
            shares[task.request] = share_of(task.request, node)
        rank = (task.priority, *_rank(rule, task.seconds, shares[task.request]), index)
        queues.setdefault((task.request, task.labels), []).append((rank, task))
    return [deque(sorted(queue, key=lambda one: one[0])) for queue in queues.values()]


def _rank(rule: StartRule, seconds: float, share: float) -> Rank:
    if rule == "longest":
        return (-seconds,)
    if rule == "largest":
        return (-seconds * share,)
    return (-share, -seconds) if rule == "widest" else ()


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
