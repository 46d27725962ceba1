"""Run a planner against expected durations, and choose the order in which a sweep ends soonest.

The planner is the one that a live scheduler asks; here the clock jumps from end to end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from orchestrator.forecast.bound import lower_bound_s
from orchestrator.sweep.nodes import Node
from orchestrator.sweep.placement import START_RULES, Placement, Planner, StartRule, Task

_NEAR_ENOUGH = 1.02
"""Times the lower bound: nothing better is looked for."""
_LAST_SHARE = 0.5
"""Of the search's moves, those that concern the task that ends last."""
_TOO_LONG = 1.10
"""Times the lower bound: the search goes on for longer while the best schedule is above."""
_SEARCH_STARTS, _MOST_STARTS = 16_000, 96_000
"""Starts of tasks that may be simulated in search of a better order than the rules': half a second, or three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What a simulated sweep does when."""

    placements: tuple[Placement, ...]
    """In the order of their start."""
    makespan_s: float
    bound_s: float
    """No schedule at all is shorter: `bound.lower_bound_s`."""
    rule: StartRule
    """`given` where another order than the rules' was best."""

    @property
    def ratio(self) -> float:
        """Makespan over bound; 1 for a sweep of nothing."""
        return self.makespan_s / self.bound_s if self.bound_s else 1.0


def simulate(
    nodes: Sequence[Node],
    tasks: Sequence[Task],
    *,
    rule: StartRule,
    caps: Mapping[str, int] | None = None,
    max_running: int | None = None,
) -> tuple[tuple[Placement, ...], float]:
    """Placements and makespan in seconds, if every task takes as long as expected."""
    planner = Planner(nodes, tasks, rule=rule, caps=caps, max_running=max_running)
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
    return tuple(placements), now_s


def best_schedule(
    nodes: Sequence[Node],
    tasks: Sequence[Task],
    *,
    caps: Mapping[str, int] | None = None,
    max_running: int | None = None,
) -> Schedule:
    """The shortest schedule among the planner's rules and, for small sweeps, orders near the best of them.

    Deterministic: the search draws from a fixed seed.
    """
    bound_s = lower_bound_s(nodes, tasks, caps=caps, max_running=max_running)

    def run(rule: StartRule, ordered: Sequence[Task]) -> Schedule:
        placements, makespan_s = simulate(nodes, ordered, rule=rule, caps=caps, max_running=max_running)
        return Schedule(placements=placements, makespan_s=makespan_s, bound_s=bound_s, rule=rule)

    best = run(START_RULES[0], tasks)
    for rule in START_RULES[1:]:
        if best.ratio <= _NEAR_ENOUGH:
            return best
        best = min(best, run(rule, tasks), key=lambda one: one.makespan_s)
    if caps:
        best = min(best, run("given", _capped_first(tasks, caps)), key=lambda one: one.makespan_s)
    return _improve(best, run) if tasks else best


def _capped_first(tasks: Sequence[Task], caps: Mapping[str, int]) -> Sequence[Task]:
    """Labels that a cap makes long go first, since their tasks cannot be caught up on at the end."""
    seconds_of = dict.fromkeys(caps, 0.0)
    for task in tasks:
        for label in task.labels:
            if label in caps:
                seconds_of[label] += task.seconds / caps[label]

    def longest_s(task: Task) -> float:
        return max((seconds_of.get(label, 0.0) for label in task.labels), default=0.0)

    return sorted(tasks, key=lambda task: (-longest_s(task), -task.seconds))


def _improve(best: Schedule, run: Callable[[StartRule, Sequence[Task]], Schedule]) -> Schedule:
    """Move what ends last to another place, or swap two tasks, and keep what does not make it longer."""
    random = Random(0)
    order = [placement.task for placement in best.placements]
    current = best
    for number in range(_MOST_STARTS // len(order)):
        is_spent = number >= _SEARCH_STARTS // len(order)
        if best.ratio <= (_TOO_LONG if is_spent else _NEAR_ENOUGH):
            break
        changed = list(order)
        if random.random() < _LAST_SHARE:
            last = max(current.placements, key=lambda one: one.start_s + one.task.seconds).task
            changed.remove(last)
            changed.insert(random.randrange(len(order)), last)
        else:
            one, other = random.randrange(len(order)), random.randrange(len(order))
            changed[one], changed[other] = changed[other], changed[one]
        candidate = run("given", changed)
        if candidate.makespan_s <= current.makespan_s:
            order, current = changed, candidate
            best = min(best, candidate, key=lambda one: one.makespan_s)
    return best
