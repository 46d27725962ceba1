from dataclasses import replace

from lab import Lab

from orchestrator.cluster import Node
from orchestrator.failures import Holds
from orchestrator.record import Failure, Outcome, Status
from orchestrator.schedulers.order import StartOrder
from orchestrator.trial import PlannedTrial
from trainers.api import Resources

NOW = "2026-01-01T00:00:00Z"
NODE = Node(num_gpus=8, num_cpus=64, memory_gb=100)


def trial(lab: Lab, seed: int, gpus: int) -> PlannedTrial:
    return replace(lab.planned(seed), resources=Resources(num_gpus=gpus))


def order_of(lab: Lab, *trials: PlannedTrial, max_running: int | None = None) -> StartOrder:
    return StartOrder(trials, [NODE], Holds(trials, lab.store), max_running=max_running)


def test_trials_start_in_the_plans_order_and_small_ones_pass_what_does_not_fit(lab: Lab) -> None:
    first, wide, small = trial(lab, 0, 4), trial(lab, 1, 8), trial(lab, 2, 4)
    order = order_of(lab, first, wide, small)
    assert [order.next(), order.next(), order.next()] == [first, small, None]
    order.finish(first.trial.id)
    assert order.next() is None
    order.finish(small.trial.id)
    assert not order.is_empty
    assert order.next() == wide
    assert order.is_empty


def test_no_more_run_at_once_than_allowed(lab: Lab) -> None:
    first, second = trial(lab, 0, 1), trial(lab, 1, 1)
    order = order_of(lab, first, second, max_running=1)
    assert [order.next(), order.next()] == [first, None]
    order.finish(first.trial.id)
    assert order.next() == second


def test_a_held_trial_is_passed_over_for_good(lab: Lab) -> None:
    first, second = trial(lab, 0, 8), trial(lab, 1, 8)
    order = order_of(lab, first, second)
    assert order.next() == first
    failure = Failure(kind="SpecError", message="unknown key", log_tail=())
    lab.sweep(lab.plan([0]))
    record = lab.store.read(first.trial.id)
    attempt = replace(record.attempts[-1], outcome=Outcome.FAILED, failure=failure)
    lab.store.write(record.with_attempt(attempt, status=Status.FAILED, at=NOW))
    order.finish(first.trial.id)
    assert order.next() is None
    assert order.is_empty
