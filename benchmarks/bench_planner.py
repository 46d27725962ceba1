"""How good and how fast the planner is: makespan over its lower bound on 240 synthetic sweeps, and a large plan.

    python benchmarks/bench_planner.py

Prints the distribution of ratios (target 1.10) and the CPU seconds for 10,000 trials on 64 nodes (target 5 s).
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "orchestrator" / "fakes"))

from synthetic_sweeps import draw_sweep

from orchestrator.forecast.cluster import parse_cluster
from orchestrator.forecast.simulator import best_schedule
from orchestrator.sweep.nodes import ResourceRequest
from orchestrator.sweep.placement import Task

NUM_SWEEPS = 240
RATIO_TARGET = 1.10
LARGE_TARGET_S = 5.0


def large_tasks(number: int) -> list[Task]:
    random = Random(0)
    tasks = []
    for index in range(number):
        width = random.choice((1, 1, 2, 4, 8))
        request = ResourceRequest(
            num_gpus=width, num_cpus=4 * width, num_nodes=2 if width == 8 and index % 7 == 0 else 1
        )
        tasks.append(Task(id=str(index), request=request, seconds=3600 * random.lognormvariate(1.0, 0.8)))
    return tasks


def main() -> None:
    ratios = []
    for seed in range(NUM_SWEEPS):
        sweep = draw_sweep(seed)
        ratios.append((best_schedule(sweep.nodes, sweep.tasks, caps=sweep.caps).ratio, seed))
    values = sorted(ratio for ratio, _ in ratios)
    above = sorted((ratio, seed) for ratio, seed in ratios if ratio > RATIO_TARGET)
    print(f"{NUM_SWEEPS} sweeps: makespan over lower bound, median {statistics.median(values):.3f}, "
          f"95 % {values[int(0.95 * NUM_SWEEPS)]:.3f}, worst {values[-1]:.3f}")  # fmt: skip
    print(f"above {RATIO_TARGET}: {len(above)}" + "".join(f"; seed {seed}: {ratio:.3f}" for ratio, seed in above))

    tasks, nodes = large_tasks(10_000), parse_cluster("8xH100x64").nodes
    start = time.process_time()
    schedule = best_schedule(nodes, tasks)
    elapsed_s = time.process_time() - start
    print(
        f"10,000 trials on 64 nodes: {elapsed_s:.2f} s of CPU (target {LARGE_TARGET_S} s), ratio {schedule.ratio:.3f}"
    )
    if elapsed_s > LARGE_TARGET_S:
        sys.exit("a target is missed")


if __name__ == "__main__":
    main()
