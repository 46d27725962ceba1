"""How long `orch --help` and a plan of 10,000 trials take, process start and imports included.

    python benchmarks/bench_plan.py

Prints the best of several runs, the parts of a plan, and whether the targets (0.5 s and 3 s) hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELP_TARGET_S = 0.5
PLAN_TARGET_S = 3.0
REPEATS = 5
EXPERIMENT = """
defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny}, {eval: arithmetic}]
sweep:
  grid:
    algorithm: [grpo, dapo]
    selection: [full, ets, gmts, ict, random]
    selection.ratio: [0.9, 0.7, 0.5, 0.3, 0.2, 0.1]
    recipe.learning_rate: [1.0e-4, 1.5e-4, 2.0e-4, 2.5e-4, 3.0e-4, 3.5e-4, 4.0e-4, 4.5e-4, 5.0e-4, 6.0e-4]
  when:
    selection.ratio: {selection: [ets, gmts, ict, random]}
  seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
"""
PARTS = """
import sys, time
start = time.perf_counter()
from orchestrator.plan.make import make_plan
from orchestrator.config.spec import load_sweep
from pathlib import Path
imported = time.perf_counter()
spec = load_sweep(Path(sys.argv[1]))
read = time.perf_counter()
plan = make_plan(spec)
print(imported - start, read - imported, time.perf_counter() - read, len(plan.entries))
"""


def seconds(command: list[str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def best(command: list[str]) -> tuple[float, str]:
    return min((seconds(command) for _ in range(REPEATS)), key=lambda timed: timed[0])


def main() -> None:
    orch = str(Path(sys.executable).with_name("orch"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.yaml"
        file.write_text(EXPERIMENT)
        store = ["--store", str(Path(folder) / "runs")]
        help_s, _ = best([orch, "--help"])
        table_s, _ = best([orch, "plan", str(file), *store])
        json_s, printed = best([orch, "plan", str(file), "--json", *store])
        _, parts = seconds([sys.executable, "-c", PARTS, str(file)])
    imports_s, read_s, plan_s, _ = (float(part) for part in parts.split())
    num_trials = json.loads(printed)["num_trials"]
    print(f"orch --help                    {help_s:6.2f} s   target {HELP_TARGET_S} s")
    print(f"orch plan, {num_trials:6} trials       {table_s:6.2f} s   target {PLAN_TARGET_S} s")
    print(f"orch plan --json               {json_s:6.2f} s")
    print(f"  imports {imports_s:.2f} s, reading and checking {read_s:.2f} s, identities {plan_s:.2f} s")
    if help_s > HELP_TARGET_S or table_s > PLAN_TARGET_S:
        sys.exit("a target is missed")


if __name__ == "__main__":
    main()
