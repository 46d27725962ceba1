"""What Tune hears of trials, and what becomes of one whose node leaves: real Ray, two nodes on this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from lab import Lab

from orchestrator.config.blocks import Schedule
from orchestrator.status.rows import SweepView
from orchestrator.store.record import Status
from orchestrator.sweep.backends import open_scheduler
from orchestrator.sweep.driver import SweepOutcome, SweepSettings, run_sweep
from orchestrator.trial.retry import FailureClass, classify
from orchestrator.trial.stop import StopSignal, stop_file
from trainers.recipe import Resources

DEADLINE_S = 20
"""Longer than a busy machine takes to start the process of a trial that it has placed, which counts as well."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head of four cores; tests add nodes."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    yield made
    made.shutdown()


def wait_for(found: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


@pytest.fixture
def broken_gpu(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt fails in its second step; nodes that start after this pass it on."""
    monkeypatch.setenv("FAKE_FAIL", "0@2")
    monkeypatch.setenv("FAKE_FAIL_ONCE", str(lab.root / "failed"))
    monkeypatch.setenv("FAKE_FAIL_MESSAGE", "CUDA error: uncorrectable ECC error encountered")


@pytest.mark.slow
def test_a_tune_scheduler_sees_the_steps_as_they_are_done(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.sweep import ray_tune

    seen: list[tuple[int, float]] = []

    class Listening(ray_tune._Placement):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if "reward/mean" in result:
                seen.append((result["step"], result["reward/mean"]))
            return super().on_trial_result(tune_controller, trial, result)

    monkeypatch.setattr(ray_tune, "_Placement", Listening)
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    lab.steps = 30
    assert lab.sweep(lab.plan([0]), scheduler="ray_tune").exit_code == 0
    told = {row["step"]: row["reward/mean"] for row in lab.store.metrics(lab.planned(0).trial.id)}
    assert len(seen) >= 3
    assert seen == sorted(set(seen)), "each step once, in order"
    assert all(told[step] == reward for step, reward in seen)


@pytest.mark.slow
@pytest.mark.usefixtures("broken_gpu")
def test_a_trial_that_failed_for_its_node_runs_on_another(lab: Lab, cluster: Any) -> None:
    """Both nodes could hold it each time."""
    cluster.add_node(num_cpus=4)
    (planned,) = lab.plan([0]).entries
    plan = replace(lab.plan([0]), entries=(replace(planned, resources=Resources(num_cpus=4, checkpoint_every=2)),))
    lab.sweep(plan, scheduler="ray_tune", address=cluster.address)
    record = lab.store.read(planned.trial.id)
    assert record.status is Status.DONE, record.failure
    first, second = record.attempts
    assert first.failure is not None
    assert classify(first.failure) is FailureClass.NODE_LOST
    assert {first.node, second.node} == {node.node_id for node in cluster.list_all_nodes()}
    assert second.node != first.node


@pytest.mark.slow
def test_a_trial_whose_node_left_says_so_and_is_given_up_while_others_finish(lab: Lab, cluster: Any) -> None:
    lab.steps = 1200
    leaving = cluster.add_node(num_cpus=1, num_gpus=1)
    first = replace(lab.planned(0), resources=Resources(num_cpus=4, checkpoint_every=1000))
    second = replace(lab.planned(1), resources=Resources(num_cpus=1, num_gpus=1))
    plan = replace(lab.plan([0, 1]), entries=(first, second), schedule=Schedule(deadline_s=DEADLINE_S))
    settings = SweepSettings(
        cache_folder=lab.root / "models",
        data_folder=None,
        argv=("orch", "test"),
        python_path=lab.environment()["PYTHONPATH"],
        max_running=1,
    )
    outcomes: list[SweepOutcome] = []

    def drive() -> None:
        stop = StopSignal(stop_file(lab.store.root, "test"))
        scheduler = open_scheduler("ray_tune", address=cluster.address)
        outcomes.append(
            run_sweep(plan, lab.store, settings=settings, open_scheduler=lambda: scheduler, stop=stop, on_event=print)
        )

    driver = threading.Thread(target=drive)
    driver.start()
    view = SweepView(lab.store, plan.entries, data_folder=None)
    wait_for(lambda: len(lab.store.metrics(first.trial.id)) >= 5)
    assert view.rows()[1].reason == "at most 1 at once"
    cluster.remove_node(leaving)
    wait_for(lambda: view.rows()[1].reason.startswith("no node has 1 GPU 1 CPU; given up in "))
    wait_for(lambda: view.rows()[1].state == "failed")
    assert view.rows()[0].state == "running", "the other trial is not touched"
    driver.join(120)
    (outcome,) = outcomes
    assert (outcome.exit_code, [row.state for row in outcome.rows]) == (1, ["done", "failed"])
    failure = lab.store.read(second.trial.id).failure
    assert failure is not None
    assert classify(failure) is FailureClass.NOT_PLACED
    assert failure.message == "the trial was not placed: no node has 1 GPU 1 CPU for 20 s"
    assert lab.store.read(first.trial.id).status is Status.DONE


@pytest.mark.slow
def test_a_trial_that_the_cluster_does_not_place_is_given_up(lab: Lab, cluster: Any) -> None:
    import ray

    class Tenant:
        """Another program on the cluster."""

        def come_to_life(self) -> bool:
            return True

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        other = ray.remote(num_cpus=4)(Tenant).remote()
        assert ray.get(other.come_to_life.remote())
        planned = replace(lab.planned(0), resources=Resources(num_cpus=2))
        plan = replace(lab.plan([0]), entries=(planned,), schedule=Schedule(deadline_s=3))
        outcome = lab.sweep(plan, scheduler="ray_tune")
        assert [row.state for row in outcome.rows] == ["failed"]
        failure = lab.store.read(planned.trial.id).failure
        assert failure is not None
        assert "the cluster has what it asks for, and did not place it for 3 s" in failure.message
    finally:
        ray.shutdown()
