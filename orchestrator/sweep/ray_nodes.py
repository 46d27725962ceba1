"""A trial over several nodes: its placement group has one bundle a node, and an agent holds each but the first.

The trial's supervisor runs in the first bundle and finds the gang in its environment; the agents live as long as it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import ray
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.trial.supervisor import WorkerSettings
from trainers.recipe import Resources
from trainers.verl.processes.nodes import GANG, Gang

_NODE_ID = "ray.io/node-id"
"""The label that Ray gives every node."""


def bundle(resources: Resources) -> dict[str, float]:
    """What a trial occupies on each of its nodes, as Ray spells it."""
    request: dict[str, float] = {"CPU": resources.num_cpus}
    if resources.num_gpus:
        request["GPU"] = resources.num_gpus
    if resources.memory_gb is not None:
        request["memory"] = resources.memory_gb * 2**30
    return request


def gang_factory(request: Mapping[str, float], num_nodes: int, avoid: Sequence[str] = ()) -> tune.PlacementGroupFactory:
    """The gang that Tune reserves for a trial: never two bundles on one node, and none on nodes of the ids to avoid.

    One object for all trials of a shape: Tune keeps it with every trial to the end of the sweep.
    """
    return _gang_factory(tuple(request.items()), num_nodes, tuple(avoid))


@functools.cache
def _gang_factory(
    request: tuple[tuple[str, float], ...], num_nodes: int, avoid: tuple[str, ...]
) -> tune.PlacementGroupFactory:
    strategy = "STRICT_SPREAD" if num_nodes > 1 else "PACK"
    selector = {"bundle_label_selector": [{_NODE_ID: f"!in({','.join(avoid)})"}] * num_nodes} if avoid else {}
    return tune.PlacementGroupFactory([dict(request) for _ in range(num_nodes)], strategy=strategy, **selector)


@contextlib.contextmanager
def other_nodes(resources: Resources, settings: WorkerSettings) -> Iterator[tuple[str, ...]]:
    """Hold the other nodes of the gang for the block, which runs in its first bundle; yields their ids.

    One node needs nothing.
    """
    if resources.num_nodes == 1:
        yield ()
        return
    gang = Gang.new(ray.util.get_node_ip_address(), resources.num_nodes)
    group = ray.util.get_current_placement_group()
    node_ids = ray.util.placement_group_table(group)["bundles_to_node_id"]
    request = bundle(resources)
    agents = [
        ray.remote(_hold_node)
        .options(
            num_cpus=request["CPU"],
            num_gpus=request.get("GPU", 0),
            memory=request.get("memory", 0),
            max_retries=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
        )
        .remote(gang.to_text(), resources, settings)
        for index in range(1, resources.num_nodes)
    ]
    os.environ[GANG] = gang.to_text()
    try:
        yield tuple(node_ids[index] for index in range(1, resources.num_nodes))
    finally:
        del os.environ[GANG]
        for agent in agents:
            ray.cancel(agent, force=True)


def _hold_node(gang: str, resources: Resources, settings: WorkerSettings) -> int:
    """Run the agent of this node; it ends when this process does, because its standard input closes."""
    environment = {**os.environ, GANG: gang, "PYTHONPATH": settings.python_path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "trainers.verl.processes.agent", str(resources.num_gpus), str(resources.num_cpus)]
    with subprocess.Popen(
        command, env=environment, cwd=settings.working_folder, stdin=subprocess.PIPE, start_new_session=True
    ) as agent:
        return agent.wait()
