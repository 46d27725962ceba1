"""A time below which no schedule of a sweep can end: the largest of several lower bounds, each of them valid.

- longest: a task takes as long as it takes;
- area: seconds × GPUs (CPUs, memory) of all tasks over what all nodes have;
- area per shape: the same where parts larger than a node's rest count as the whole node, since nothing fits beside
  them (dual feasible functions; Source: Martello and Toth, Discrete Applied Mathematics 28 (1990), bound L2);
- count per shape: tasks cut into parts of a size of which m fit at once: of the k·m + 1 longest parts k + 1 run one
  after another, and of the m + j longest j pairs do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from orchestrator.sweep.nodes import Node, ResourceRequest
from orchestrator.sweep.placement import Task

_MOST_PARTS = 200_000
"""Parts into which tasks are cut at most: a bound that would need more is left out."""


def lower_bound_s(
    nodes: Sequence[Node],
    tasks: Sequence[Task],
    *,
    caps: Mapping[str, int] | None = None,
    max_running: int | None = None,
) -> float:
    """The largest lower bound on the makespan, in seconds; 0 for no tasks."""
    bounds = [0.0, *(task.seconds for task in tasks)]
    for amount, capacities in _kinds(nodes):
        bounds += _area_bounds(tasks, amount, capacities, caps or {})
        bounds += _count_bounds(nodes, tasks, amount)
        bounds += _part_bounds(nodes, tasks, amount)
    for label, cap in (caps or {}).items():
        bounds.append(_machines_bound([task.seconds for task in tasks if label in task.labels], cap))
    if max_running is not None:
        bounds.append(_machines_bound([task.seconds for task in tasks], max_running))
    return max(bounds)


def _kinds(nodes: Sequence[Node]) -> Iterable[tuple[str, list[float]]]:
    for name in ("num_gpus", "num_cpus", "memory_gb"):
        capacities: list[float] = [getattr(node, name) for node in nodes]
        if any(capacities):
            yield name, capacities


def _area_bounds(
    tasks: Sequence[Task], name: str, capacities: Sequence[float], caps: Mapping[str, int]
) -> Iterable[float]:
    """Plain area; and, where all nodes are alike, the area under each rounding that a node cannot refute.

    What is less than a whole node there takes a node's time at least as long as its longest task and as its capped
    labels in a row.
    """
    parts = [(getattr(task.request, name), task.seconds * task.request.num_nodes, task) for task in tasks]
    yield sum(asked * seconds for asked, seconds, _ in parts) / sum(capacities)
    full = max(capacities)
    if min(capacities) < full:
        return
    for small in sorted({min(asked, full - asked) for asked, _, _ in parts} - {0.0}):
        rounded = [(_rounded(asked, small, full), seconds, task) for asked, seconds, task in parts]
        whole = sum(seconds for asked, seconds, _ in rounded if asked == full)
        beside = [(asked, seconds, task) for asked, seconds, task in rounded if 0 < asked < full]
        in_a_row = _longest_row([task for _, _, task in beside], caps)
        yield (whole + max(in_a_row, sum(asked * seconds for asked, seconds, _ in beside) / full)) / len(capacities)


def _longest_row(tasks: Sequence[Task], caps: Mapping[str, int]) -> float:
    """For how long at least one of these tasks is running, in any schedule."""
    rows = [task.seconds for task in tasks]
    for label, cap in caps.items():
        rows.append(sum(task.seconds for task in tasks if label in task.labels) / cap)
    return max(rows, default=0.0)


def _rounded(asked: float, small: float, full: float) -> float:
    """A whole node for what leaves less than `small`, nothing for less than `small`, itself between."""
    if asked > full - small:
        return full
    return asked if asked >= small else 0.0


def _count_bounds(nodes: Sequence[Node], tasks: Sequence[Task], name: str) -> Iterable[float]:
    """Tasks cut into parts of some size, as if the parts of one could run apart, on slots of that size."""
    for size in sorted({getattr(task.request, name) for task in tasks} - {0}):
        slots = sum(_whole(getattr(node, name), size) for node in nodes)
        parts = [(task.seconds, task.request.num_nodes * _whole(getattr(task.request, name), size)) for task in tasks]
        if sum(number for _, number in parts) <= _MOST_PARTS:
            yield _machines_bound([seconds for seconds, number in parts for _ in range(number)], slots)


def _whole(amount: float, size: float) -> int:
    return int((amount + 1e-9) // size)


def _part_bounds(nodes: Sequence[Node], tasks: Sequence[Task], name: str) -> Iterable[float]:
    """Area of the tasks that only some nodes can hold, over those nodes alone."""
    seconds_of: dict[ResourceRequest, float] = {}
    for task in tasks:
        seconds_of[task.request] = seconds_of.get(task.request, 0.0) + task.seconds * task.request.num_nodes
    able = {request: frozenset(i for i, node in enumerate(nodes) if node.holds(request)) for request in seconds_of}
    for part in set(able.values()):
        area = sum(getattr(one, name) * seconds for one, seconds in seconds_of.items() if able[one] <= part)
        yield area / sum(getattr(nodes[index], name) for index in part)


def _machines_bound(seconds: Sequence[float], num_machines: int) -> float:
    """Lower bound for identical machines: average, and stacks that the longest must form."""
    if not seconds or num_machines < 1:
        return 0.0
    longest_sum = [0.0, *accumulate(sorted(seconds, reverse=True))]
    bound = longest_sum[-1] / num_machines
    for stacked in range(1, (len(seconds) - 1) // num_machines + 1):
        last = stacked * num_machines
        bound = max(bound, longest_sum[last + 1] - longest_sum[last - stacked])
    return max(bound, _pairs_bound(sorted(seconds, reverse=True), num_machines))


def _pairs_bound(longest: Sequence[float], num_machines: int) -> float:
    """Of the m + j longest, either three share a machine, or the 2j shortest of them are at best paired by folding.

    Source: Dell'Amico and Martello, ORSA Journal on Computing 7 (1995), bounds from the m + j longest jobs.
    """
    bound = 0.0
    for num_pairs in range(1, min(num_machines, len(longest) - num_machines) + 1):
        three = 3 * longest[num_machines + num_pairs - 1]
        if three <= bound:
            break
        folded = longest[num_machines - num_pairs : num_machines + num_pairs]
        pairs = max(a + b for a, b in zip(folded[:num_pairs], reversed(folded[num_pairs:]), strict=True))
        bound = max(bound, min(three, pairs))
    return bound
