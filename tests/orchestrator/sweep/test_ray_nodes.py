"""A trial over several nodes: a Ray cluster of several nodes on this machine, a fake trainer in the place of verl."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
from lab import Lab

from orchestrator.errors import PlanError
from orchestrator.plan.trial import Plan
from orchestrator.store.record import Status
from orchestrator.sweep.ray_nodes import gang_factory
from orchestrator.trial.retry import FailureClass, classify
from trainers.verl.processes.nodes import GANG


def plan_over_nodes(lab: Lab, num_nodes: int) -> Plan:
    plan = lab.plan([0])
    (planned,) = plan.entries
    assert planned.trial.recipe is not None
    recipe = replace(planned.trial.recipe, trainer="gang_trainer:GangTrainer")
    trial = replace(planned.trial, recipe=recipe)
    resources = replace(planned.resources, num_nodes=num_nodes)
    return replace(plan, entries=(replace(planned, trial=trial, resources=resources),))


def wait_for(found: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def processes_of_gang(token: str) -> list[psutil.Process]:
    """Agents by their environment; all of the private Ray by its folder, which is on its command lines."""
    found = []
    for process in psutil.process_iter():
        try:
            is_agent = "trainers.verl.processes.agent" in process.cmdline() and token in process.environ().get(GANG, "")
            if is_agent or any(f"orch-{token}" in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of three nodes, one of them too small for a trial."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_a_gang_has_a_bundle_a_node_and_never_two_on_one() -> None:
    one, two = gang_factory({"CPU": 4, "GPU": 8}, 1), gang_factory({"CPU": 4, "GPU": 8}, 2)
    assert (one.bundles, one.strategy) == ([{"CPU": 4, "GPU": 8}], "PACK")
    assert (two.bundles, two.strategy) == ([{"CPU": 4, "GPU": 8}] * 2, "STRICT_SPREAD")


def test_a_trial_of_several_nodes_is_not_for_one_process(lab: Lab) -> None:
    with pytest.raises(PlanError, match="asks for 2 nodes"):
        lab.sweep(plan_over_nodes(lab, 2), scheduler="inline")


@pytest.mark.slow
def test_a_trial_over_two_nodes_has_a_ray_of_its_own_that_spans_them_and_leaves_nothing(lab: Lab, cluster: Any) -> None:
    plan = plan_over_nodes(lab, 2)
    lab.sweep(plan, scheduler="ray_tune", address=cluster.address)
    record = lab.store.read(plan.entries[0].trial.id)
    assert record.status is Status.DONE, record.failure
    found = json.loads((lab.store.checkpoint_folder(record.trial.id) / "nodes.json").read_text())
    assert len(set(found["nodes"])) == 2
    (attempt,) = record.attempts
    assert {attempt.node, *attempt.other_nodes} == {node.node_id for node in cluster.worker_nodes}
    wait_for(lambda: not processes_of_gang(found["token"]), timeout_s=30)


@pytest.mark.slow
def test_a_killed_agent_is_a_lost_node_and_the_sweep_runs_the_trial_again(lab: Lab, cluster: Any) -> None:
    plan = plan_over_nodes(lab, 2)
    trial_id = plan.entries[0].trial.id
    hold = lab.root / "hold"
    hold.touch()
    driver = threading.Thread(target=lambda: lab.sweep(plan, scheduler="ray_tune", address=cluster.address))
    driver.start()
    file = lab.store.checkpoint_folder(trial_id) / "nodes.json"
    wait_for(file.exists)
    token = json.loads(file.read_text())["token"]
    (agent,) = (one for one in processes_of_gang(token) if "trainers.verl.processes.agent" in one.cmdline())
    agent.kill()
    wait_for(lambda: lab.store.read(trial_id).attempts[0].failure is not None)
    hold.unlink()
    driver.join(timeout=120)
    assert not driver.is_alive()
    record = lab.store.read(trial_id)
    failure = record.attempts[0].failure
    assert failure is not None
    assert classify(failure) is FailureClass.NODE_LOST, failure
    wait_for(lambda: not processes_of_gang(token), timeout_s=30)
    assert (record.status, len(record.attempts)) == (Status.DONE, 2), record.attempts[1:]


@pytest.mark.slow
def test_a_trial_larger_than_the_cluster_is_refused_before_it_starts(lab: Lab, cluster: Any) -> None:
    with pytest.raises(PlanError, match="asks for 3 nodes of 1 CPU, and 2 have that"):
        lab.sweep(plan_over_nodes(lab, 3), scheduler="ray_tune", address=cluster.address)
