"""What a trial occupies and what a node has, for schedulers, planners and forecasts alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import PlanError
from trainers.recipe import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequest:
    """What a trial occupies: on each of `num_nodes` nodes, so many of each."""

    num_gpus: float = 0
    num_cpus: float = 1
    memory_gb: float = 0.0
    num_nodes: int = 1
    avoid: frozenset[str] = frozenset()
    """Names of nodes where it shall not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What one node has."""

    name: str = ""
    """Ray's id of a node that is there; empty in a plan."""

    num_gpus: float
    num_cpus: float
    memory_gb: float

    def holds(self, request: ResourceRequest) -> bool:
        """Whether the node's share of a gang fits on it when it is empty."""
        return (
            self.name not in request.avoid
            and self.num_gpus >= request.num_gpus
            and self.num_cpus >= request.num_cpus
            and self.memory_gb >= request.memory_gb
        )

    def __str__(self) -> str:
        """Devices, cores and memory, for messages."""
        gpus = f"{self.num_gpus:g} GPU " if self.num_gpus else ""
        memory = f" {self.memory_gb:.1f} GB memory" if self.memory_gb else ""
        return f"{gpus}{self.num_cpus:g} CPU{memory}"


def request_of(resources: Resources) -> ResourceRequest:
    """What a trial with these resources occupies on each of its nodes."""
    return ResourceRequest(
        num_gpus=resources.num_gpus,
        num_cpus=resources.num_cpus,
        memory_gb=resources.memory_gb or 0.0,
        num_nodes=resources.num_nodes,
    )


def check_fits(nodes: Sequence[Node], request: ResourceRequest, *, name: str, fix: str) -> None:
    """Refuse what could never start, and would otherwise wait without a word.

    Raises:
        PlanError: fewer nodes than the gang needs could hold its share, even when empty.
    """
    able = sum(node.holds(request) for node in nodes)
    if able >= request.num_nodes:
        return
    asked = Node(num_gpus=request.num_gpus, num_cpus=request.num_cpus, memory_gb=request.memory_gb)
    gang = f"{request.num_nodes} nodes of " if request.num_nodes > 1 else ""
    have = "no node has that" if not able else f"{able} {'has' if able == 1 else 'have'} that"
    shapes = "; ".join(f"{number} × {node}" for node, number in sorted(Counter(nodes).items(), key=str))
    raise PlanError(
        f"{name} asks for {gang}{asked}, and {have}",
        where="cluster.num_nodes, cluster.num_gpus, cluster.num_cpus, cluster.memory_gb",
        fix=f"{fix}; nodes: {shapes}",
    )
