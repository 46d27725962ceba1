"""Synthetic sweeps for the planner: what grids of token-selection experiments look like, drawn from a seed.

A sweep is a grid of models × arms × seeds. Arms of one model differ in length by some percent, models by a factor;
seeds of one arm are equal. Small models take a part of a node, large ones a node or several.
"""

from dataclasses import dataclass
from random import Random

from orchestrator.forecast.cluster import parse_cluster
from orchestrator.sweep.nodes import Node, ResourceRequest
from orchestrator.sweep.placement import Task

CLUSTERS = ("8xH100", "8xH100x2", "8xH100x4", "8xA100x8", "4xA100x3", "8xH100x16", "8xH100x2+4xH100x2")
WIDTHS = ((1,), (1, 1, 2), (1, 2, 4), (1, 4, 8), (1, 8), (2, 8), (1, 2, 4, 8), (2, 4), (1, 3), (1, 2, 6))


@dataclass(frozen=True)
class SyntheticSweep:
    seed: int
    nodes: tuple[Node, ...]
    tasks: tuple[Task, ...]
    caps: dict[str, int]


def draw_sweep(seed: int) -> SyntheticSweep:
    random = Random(seed)
    nodes = parse_cluster(random.choice(CLUSTERS)).nodes
    widest = max(node.num_gpus for node in nodes)
    widths = [width for width in random.choice(WIDTHS) if width <= widest]
    tasks = []
    num_seeds = random.choice((1, 1, 2, 3, 5))
    for model in range(random.randint(1, 4)):
        width, base_s = random.choice(widths), 3600 * random.lognormvariate(1.0, 0.8)
        num_nodes = 2 if width == 8 and len(nodes) > 4 and random.random() < 0.2 else 1
        for arm in range(random.randint(2, 24)):
            arm_s = base_s * random.uniform(0.7, 1.3)
            for repeat in range(num_seeds):
                tasks.append(
                    Task(
                        id=f"{model}.{arm}.{repeat}",
                        request=ResourceRequest(
                            num_gpus=width, num_cpus=4 * width, memory_gb=16 * width, num_nodes=num_nodes
                        ),
                        seconds=arm_s,
                        labels=(f"model {model}",),
                    )
                )
    caps = {"model 0": random.randint(2, 6)} if random.random() < 0.15 else {}
    return SyntheticSweep(seed=seed, nodes=nodes, tasks=tuple(tasks), caps=caps)
