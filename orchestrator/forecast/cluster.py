"""A cluster as a plan sees it: nodes of some shape. `8xH100x2` is two nodes of eight H100.

    CLUSTER = NODES ["+" NODES]…     NODES = COUNT "x" KIND ["x" NUMBER] [":cpus=N"] [":memory=GB"]

COUNT devices of a KIND on each of NUMBER nodes (1 if left out); KIND `cpu` counts cores of nodes without GPUs. CPUs and
memory of a node default to what such nodes commonly have. One kind of GPU a cluster: time on two kinds is two plans.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from eval.errors import did_you_mean
from orchestrator.errors import PlanError
from orchestrator.sizing.devices import CPU_CORE, GPUS, Device
from orchestrator.sweep.nodes import Node
from trainers.recipe import Resources

_NODES = re.compile(r"(?P<count>\d+)x(?P<kind>[a-z0-9-]+?)(?:x(?P<number>\d+))?(?P<rest>(?::[a-z]+=[\d.]+)*)", re.I)
_MOST_NODES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """All nodes, and what their GPUs are."""

    text: str
    """As it was asked for."""
    nodes: tuple[Node, ...]
    gpu: Device | None
    """None where no node has GPUs."""

    @property
    def num_gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(node.num_gpus for node in self.nodes)

    def device(self, resources: Resources) -> Device:
        """What a trial with these resources computes on."""
        if resources.num_gpus == 0:
            return CPU_CORE
        assert self.gpu is not None, "check_fits comes first"
        return self.gpu

    def __str__(self) -> str:
        """For example `2 nodes of 8 × H100 80 GB, 192 CPUs, 2000 GB`."""
        parts = []
        for node, number in Counter(self.nodes).items():
            gpus = (
                f"{node.num_gpus:g} × {self.gpu.name} {self.gpu.memory_gb:g} GB, " if self.gpu and node.num_gpus else ""
            )
            nodes = "1 node" if number == 1 else f"{number} nodes"
            parts.append(f"{nodes} of {gpus}{node.num_cpus:g} CPUs, {node.memory_gb:g} GB")
        return " + ".join(parts)


def parse_cluster(text: str) -> Cluster:
    """Read `8xH100x2`.

    Raises:
        PlanError: not of that form, an unknown device, or two kinds of GPU.
    """
    nodes: list[Node] = []
    kinds: set[str] = set()
    for part in text.split("+"):
        found = _NODES.fullmatch(part.strip())
        if not found:
            raise _refused(f"{part.strip()!r} is no cluster")
        count, kind, number = int(found["count"]), found["kind"].lower(), int(found["number"] or 1)
        if not count or not 1 <= number <= _MOST_NODES:
            raise _refused(f"{part.strip()!r} has {number} nodes of {count} devices")
        device = _device(kind)
        sizes = _sizes(found["rest"], num_cpus=count * device.num_cpus, memory_gb=count * device.host_memory_gb)
        nodes += [Node(num_gpus=0 if kind == "cpu" else count, num_cpus=sizes[0], memory_gb=sizes[1])] * number
        kinds |= {kind} - {"cpu"}
    if len(kinds) > 1:
        raise _refused(f"{text!r} has two kinds of GPU", fix="plan each kind by itself; nodes of one kind join with +")
    return Cluster(text=text, nodes=tuple(nodes), gpu=GPUS[kinds.pop()] if kinds else None)


def _device(kind: str) -> Device:
    if kind == "cpu":
        return CPU_CORE
    if kind in GPUS:
        return GPUS[kind]
    known = [*(device.name for device in GPUS.values()), "cpu"]
    raise _refused(f"unknown device {kind!r}", fix=f"{did_you_mean(kind.upper(), known)}known: {', '.join(known)}")


def _sizes(rest: str, *, num_cpus: float, memory_gb: float) -> tuple[float, float]:
    given = {"cpus": num_cpus, "memory": memory_gb}
    for part in rest.split(":")[1:]:
        name, _, value = part.partition("=")
        if name.lower() not in given or value.count(".") > 1:
            raise _refused(f"{part!r} says nothing about a node", fix="write :cpus=NUMBER or :memory=GIGABYTES")
        given[name.lower()] = float(value)
    return given["cpus"], given["memory"]


def _refused(what: str, *, fix: str = "write COUNTxKINDxNODES, as in 8xH100x2, 8xH100 or 8xA100:cpus=64") -> PlanError:
    return PlanError(what, where="--cluster", fix=fix)
