from dataclasses import replace

from lab import Lab

from orchestrator.config.blocks import Cap, Priority, Schedule
from orchestrator.plan.trial import PlannedTrial
from orchestrator.sweep.nodes import Node
from orchestrator.sweep.start_order import StartOrder, StartRules
from trainers.recipe import Resources

NODE = Node(num_gpus=8, num_cpus=64, memory_gb=100)


def trial(lab: Lab, seed: int, gpus: int) -> PlannedTrial:
    return replace(lab.planned(seed), resources=Resources(num_gpus=gpus))


def order_of(*trials: PlannedTrial, **rules: object) -> StartOrder:
    return StartOrder(trials, [NODE], rules=StartRules(**rules))  # type: ignore[arg-type]


def test_trials_start_in_the_plans_order_and_small_ones_pass_what_does_not_fit(lab: Lab) -> None:
    first, wide, small = trial(lab, 0, 4), trial(lab, 1, 8), trial(lab, 2, 4)
    order = order_of(first, wide, small)
    assert [order.next(), order.next(), order.next()] == [first, small, None]
    assert order.reasons() == {"needs 8 GPU: 0 free": (wide.trial.id,)}
    order.finish(first.trial.id)
    assert order.next() is None
    order.finish(small.trial.id)
    assert order.next() == wide
    assert order.reasons() == {}


def test_no_more_run_at_once_than_allowed(lab: Lab) -> None:
    first, second = trial(lab, 0, 1), trial(lab, 1, 1)
    order = order_of(first, second, max_running=1)
    assert [order.next(), order.next()] == [first, None]
    order.finish(first.trial.id)
    assert order.next() == second


def test_a_word_on_a_trial_counts_more_than_the_schedule(lab: Lab) -> None:
    first, second, third = (trial(lab, seed, 8) for seed in range(3))
    schedule = Schedule(priority=(Priority(where={"seed": ("1", "2")}, value=5),))
    order = order_of(first, second, third, schedule=schedule, priorities={third.trial.id: 9, first.trial.id: 5})
    started = []
    while (planned := order.next()) is not None:
        started.append(planned)
        order.finish(planned.trial.id)
    assert started == [third, first, second]


def test_caps_count_what_ran_before(lab: Lab) -> None:
    ran, first, second = (trial(lab, seed, 1) for seed in range(3))
    schedule = Schedule(at_most=(Cap(where={"selection": ("full",)}, running=2),))
    order = StartOrder([first, second], [NODE], rules=StartRules(schedule=schedule), running=[ran])
    assert [order.next(), order.next()] == [first, None]
    assert order.reasons() == {"cap selection=full: 2 of 2": (second.trial.id,)}
    order.finish(ran.trial.id)
    assert order.next() == second


def test_what_no_node_can_hold_is_told_apart(lab: Lab) -> None:
    huge, small = trial(lab, 0, 16), trial(lab, 1, 1)
    order = order_of(huge, small)
    assert order.unplaceable == (huge,)
    assert [order.next(), order.next()] == [small, None]


def test_a_trial_starts_on_another_node_than_those_it_failed_on_and_small_ones_take_what_it_leaves(lab: Lab) -> None:
    bad, good = replace(NODE, name="bad"), replace(NODE, name="good")
    first, again, small = trial(lab, 0, 8), trial(lab, 1, 8), trial(lab, 2, 8)
    rules = StartRules(avoid={again.trial.id: ("bad",), first.trial.id: ("bad",)})
    order = StartOrder([first, again, small], [bad, good], rules=rules)
    assert [order.next(), order.next(), order.next()] == [first, small, None]
    assert order.request(again).avoid == {"bad"}
    assert order.reasons() == {"needs 8 GPU: 0 free": (again.trial.id,)}
    order.finish(small.trial.id)
    assert order.next() is None, "the node that is free now is the bad one"
    order.finish(first.trial.id)
    assert order.next() == again


def test_where_no_other_node_holds_it_a_trial_starts_on_the_one_it_failed_on(lab: Lab) -> None:
    bad, small = replace(NODE, name="bad"), Node(name="small", num_gpus=1, num_cpus=64, memory_gb=100)
    again = trial(lab, 0, 8)
    order = StartOrder([again], [bad, small], rules=StartRules(avoid={again.trial.id: ("bad",)}))
    assert order.unplaceable == ()
    assert order.request(again).avoid == frozenset()
    assert order.next() == again


def test_a_gang_avoids_as_many_of_its_suspects_as_the_other_nodes_can_spare(lab: Lab) -> None:
    nodes = [replace(NODE, name=name) for name in ("a", "b", "c")]
    again = trial(lab, 0, 8)
    gang = replace(again, resources=replace(again.resources, num_nodes=2))
    order = StartOrder([gang], nodes, rules=StartRules(avoid={gang.trial.id: ("b", "a", "c")}))
    assert order.request(gang).avoid == {"b"}
    assert order.next() == gang
