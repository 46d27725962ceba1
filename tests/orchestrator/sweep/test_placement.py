import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.forecast.bound import lower_bound_s
from orchestrator.forecast.simulator import simulate
from orchestrator.sweep.nodes import Node, ResourceRequest
from orchestrator.sweep.placement import Placement, Planner, Task

NODE = Node(num_gpus=8, num_cpus=64, memory_gb=100)


def task(name: str, gpus: int, seconds: float, *, priority: int = 0, label: str = "", num_nodes: int = 1) -> Task:
    request = ResourceRequest(num_gpus=gpus, num_cpus=1, num_nodes=num_nodes)
    return Task(id=name, request=request, seconds=seconds, priority=priority, labels=(label,) if label else ())


def starts(placements: Sequence[Placement]) -> dict[str, float]:
    return {one.task.id: one.start_s for one in placements}


def test_the_order_given_is_kept_and_what_does_not_fit_is_passed() -> None:
    tasks = [task("a", 4, 10), task("b", 8, 20), task("c", 4, 30), task("d", 4, 20)]
    forecast = simulate([NODE], tasks)
    assert starts(forecast.placements) == {"a": 0, "c": 0, "d": 10, "b": 30}
    assert forecast.makespan_s == 50


def test_a_forecast_starts_trials_as_a_live_sweep_does() -> None:
    """What starts first, and what when that has ended: the simulator and `StartOrder` say the same."""
    tasks = [task("now", 4, 10), task("wide", 8, 10), task("small", 4, 5), task("next", 4, 5)]
    live = Planner([NODE], [replace(one, seconds=0.0) for one in tasks])

    def started() -> list[str]:
        return [one.task.id for one in iter(lambda: live.start_next(0.0), None)]

    placements = simulate([NODE], tasks).placements
    assert started() == [one.task.id for one in placements if one.start_s == 0] == ["now", "small"]
    live.finish("small")
    assert started() == ["next"]
    assert starts(placements) == {"now": 0, "small": 0, "next": 5, "wide": 10}


def test_a_lower_priority_starts_before_a_longer_task() -> None:
    tasks = [task("long", 8, 100, priority=1), task("urgent", 8, 1, priority=0)]
    assert starts(simulate([NODE], tasks).placements) == {"urgent": 0, "long": 1}


def test_caps_limit_a_label_and_the_whole() -> None:
    tasks = [task(str(number), 1, 10, label="a") for number in range(4)] + [task("b", 1, 10, label="b")]
    assert simulate([NODE], tasks, caps={"a": 1}).makespan_s == 40
    assert simulate([NODE], tasks, max_running=2).makespan_s == 30


def test_a_gang_over_nodes_starts_when_all_its_nodes_are_free() -> None:
    tasks = [task("first", 8, 10), task("pair", 8, 5, num_nodes=2)]
    placements = simulate([NODE, NODE], tasks).placements
    assert starts(placements) == {"first": 0, "pair": 10}
    assert placements[1].nodes == (0, 1)


def test_a_task_goes_to_the_fullest_node_that_holds_it() -> None:
    planner = Planner([NODE, NODE], [task("a", 6, 3), task("b", 2, 2), task("c", 8, 1)])
    assert [placement.nodes for _ in range(3) if (placement := planner.start_next(0.0))] == [(0,), (0,), (1,)]
    assert planner.start_next(0.0) is None


@pytest.mark.parametrize(
    ("tasks", "bound_s"),
    [
        ([], 0),
        ([task("a", 1, 7)], 7),
        ([task(str(n), 8, 10) for n in range(3)], 30),
        ([task(str(n), 1, 10) for n in range(9)], 20),  # the ninth must follow another
        ([task(str(n), 5, 10) for n in range(4)], 40),  # two of five do not fit side by side
        ([task("a", 8, 10), task("b", 1, 10)], 20),  # nothing fits beside eight
        ([task(str(n), 1, s) for n, s in enumerate([10, 9, 8, 7, 6, 6, 6, 6, 6, 6])], 12),  # two pairs of six at best
    ],
)
def test_the_bound_is_what_no_schedule_can_beat(tasks: list[Task], bound_s: float) -> None:
    assert lower_bound_s([NODE], tasks) == bound_s
    assert simulate([NODE], tasks).bound_s == bound_s <= simulate([NODE], tasks).makespan_s


def test_the_bound_knows_caps() -> None:
    tasks = [task(str(number), 1, 10, label="a") for number in range(4)]
    assert lower_bound_s([NODE], tasks, caps={"a": 1}) == 40
    assert lower_bound_s([NODE], [*tasks, task("wide", 8, 5)], caps={"a": 1}) == 45
    assert lower_bound_s([NODE], tasks, max_running=2) == 20


def test_the_bound_counts_only_the_nodes_that_can_hold_a_task() -> None:
    nodes = [NODE, Node(num_gpus=2, num_cpus=16, memory_gb=25)]
    assert lower_bound_s(nodes, [task("a", 4, 10), task("b", 4, 10), task("c", 8, 10)]) == 20


REQUESTS = st.builds(
    ResourceRequest,
    num_gpus=st.sampled_from([0, 1, 2, 3, 4, 8]),
    num_cpus=st.integers(1, 32),
    num_nodes=st.sampled_from([1, 1, 1, 2]),
)


@st.composite
def sweeps(draw: st.DrawFn) -> list[Task]:
    number = draw(st.integers(0, 25))
    return [
        Task(
            id=str(index),
            request=draw(REQUESTS),
            seconds=draw(st.integers(0, 50)),
            priority=draw(st.integers(0, 2)),
            labels=draw(st.sampled_from([("a",), ("b",), ("a", "b"), ()])),
        )
        for index in range(number)
    ]


@settings(max_examples=80, deadline=None)
@given(tasks=sweeps(), cap=st.integers(1, 4), num_nodes=st.integers(2, 4))
def test_every_schedule_is_possible_complete_and_no_shorter_than_the_bound(
    tasks: list[Task], cap: int, num_nodes: int
) -> None:
    nodes = [NODE] * num_nodes
    forecast = simulate(nodes, tasks, caps={"a": cap})
    placements, makespan_s = forecast.placements, forecast.makespan_s
    assert sorted(one.task.id for one in placements) == sorted(one.id for one in tasks)
    assert makespan_s == max((one.start_s + one.task.seconds for one in placements), default=0)
    assert makespan_s + 1e-6 >= forecast.bound_s
    for moment in {one.start_s for one in placements}:
        running = [one for one in placements if one.start_s <= moment < one.start_s + one.task.seconds]
        assert sum("a" in one.task.labels for one in running) <= cap
        for index in range(num_nodes):
            here = [one.task.request for one in running if index in one.nodes]
            assert sum(request.num_gpus for request in here) <= NODE.num_gpus
            assert sum(request.num_cpus for request in here) <= NODE.num_cpus


@settings(max_examples=50, deadline=None)
@given(tasks=sweeps())
def test_no_task_waits_while_one_of_its_kind_and_lower_priority_starts(tasks: list[Task]) -> None:
    for earlier, later in itertools.pairwise(simulate([NODE] * 2, tasks).placements):
        if (earlier.task.request, earlier.task.labels) == (later.task.request, later.task.labels):
            assert earlier.task.priority <= later.task.priority


def test_a_planner_says_what_keeps_a_task_waiting() -> None:
    tasks = [task("now", 4, 10, label="a"), task("wide", 8, 10), task("capped", 1, 10, label="a")]
    planner = Planner([NODE], tasks, caps={"a": 1})
    assert planner.start_next(0.0) is not None
    assert planner.why_waiting(tasks[1].request, ()) == "needs 8 GPU: 4 free"
    assert planner.why_waiting(tasks[2].request, ("a",)) == "cap a: 1 of 1"
    assert planner.why_waiting(tasks[0].request, ()) == "its turn"
    crowded = Planner([NODE], [task("busy", 1, 10)], max_running=1)
    assert crowded.start_next(0.0) is not None
    assert crowded.why_waiting(tasks[0].request, ()) == "at most 1 at once"
    full = Planner([NODE], [])
    full.occupy(Task(id="busy", request=ResourceRequest(num_gpus=1, num_cpus=60), seconds=0))
    assert full.why_waiting(ResourceRequest(num_gpus=8, num_cpus=16), ()) == "needs 8 GPU, 16 CPU: 7, 4 free"
    assert full.why_waiting(ResourceRequest(num_gpus=1, num_cpus=1, num_nodes=2), ()) == "needs 2 nodes: 1 free enough"


def test_what_ran_before_the_planner_was_made_occupies_its_place() -> None:
    planner = Planner([NODE], [task("wide", 8, 1), task("small", 4, 1)], caps={"a": 1})
    planner.occupy(task("old", 4, 10, label="a"))
    planner.occupy(task("of a node that is gone", 8, 10))
    assert [one.task.id for one in [planner.start_next(0.0)] if one] == ["small"]
    planner.finish("of a node that is gone")
    planner.finish("old")
    planner.finish("small")
    assert [one.task.id for one in [planner.start_next(0.0)] if one] == ["wide"]
