"""`orch status`, which takes the decision what a resumed sweep has left to do, on stores of finished trials.

A fresh process each time, wall time of the whole command: at most 1 s for 1,000 trials and 3 s for 10,000.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench_overhead import planned

from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.store.record import Attempt, Outcome, RunRecord, ScoreEntry, Status, TrainSummary
from orchestrator.store.redact import now
from orchestrator.store.scores import required_scores
from orchestrator.store.store import Store
from orchestrator.trial.provenance import collect

LIMITS_S = {1000: 1.0, 10_000: 3.0}
"""Trials → seconds."""
NUM_BENCHMARKS = 5
REPEATS = 5


def main() -> None:
    for num_trials, limit_s in LIMITS_S.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            build(root, num_trials)
            for name, extra in (("table", ()), ("--json", ("--json",))):
                walls, cpus = zip(*(once(root / "runs", num_trials, extra) for _ in range(REPEATS)), strict=True)
                print(
                    f"orch status, {num_trials:,} trials, {name:<7} wall {spread(walls)}, at most {limit_s:g} s; "
                    f"CPU {spread(cpus)}; n = {REPEATS}"
                )


def once(runs: Path, num_trials: int, extra: tuple[str, ...]) -> tuple[float, float]:
    """Wall and CPU seconds of one command."""
    code = "import sys; from orchestrator.cli import main; sys.argv = ['orch', *sys.argv[1:]]; main()"
    run = [sys.executable, "-c", code, "status", "bench", "--store", str(runs), *extra]
    before_s, started = cpu_s(), time.perf_counter()
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    elapsed_s = time.perf_counter() - started
    assert f"{num_trials} done" in done.stdout or f'"done": {num_trials}' in done.stdout, done.stdout[:500]
    return elapsed_s, cpu_s() - before_s


def spread(seconds: tuple[float, ...]) -> str:
    return f"{median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(root: Path, num_trials: int) -> None:
    benchmarks = tuple(benchmark(root, number) for number in range(NUM_BENCHMARKS))
    entries = tuple(wanting(planned(seed, root / "model"), benchmarks) for seed in range(num_trials))
    store = Store(root / "runs")
    store.plans.save(Plan(experiment="bench", file="", axes=(), entries=entries, config={}, digest="-"))
    for entry in entries:
        store.write(finished(entry))


def benchmark(root: Path, number: int) -> str:
    path = root / f"bench{number}.jsonl"
    path.write_text(json.dumps({"question": f"1 + {number}", "answer": str(1 + number), "kind": "integer"}) + "\n")
    return str(path)


def wanting(entry: PlannedTrial, benchmarks: tuple[str, ...]) -> PlannedTrial:
    return replace(entry, evaluation=replace(entry.evaluation, benchmarks=benchmarks, num_samples=16))


def finished(entry: PlannedTrial) -> RunRecord:
    """A record as a real trial leaves it."""
    at = now()
    attempt = Attempt(
        number=1,
        started_at=at,
        ended_at=at,
        outcome=Outcome.DONE,
        seed=entry.trial.seed,
        data_digest="-",
        provenance=collect(["orch", "sweep", "experiments/smoke.yaml"]),
        phase_seconds={"sample": 20.0, "score": 2.0, "update": 20.0, "evaluate": 5.0},
        peak_memory_mb=900.0,
    )
    summary = TrainSummary(
        step=1,
        model_folder="checkpoints/final",
        metrics={f"group/metric_{number}": number / 7 for number in range(40)},
        num_parameters=10**6,
        finished_at=at,
    )
    scores = tuple(
        ScoreEntry(
            key=wanted.key,
            step=1,
            benchmark=Path(wanted.benchmark).stem,
            benchmark_digest="-",
            settings=wanted.settings,
            limit=None,
            num_problems=500,
            num_samples=16,
            avg=0.5,
            standard_error=0.01,
            generation_error=0.005,
            clip_rate=0.0,
            no_box_rate=0.0,
            mean_tokens=100.0,
            grader_version="-",
            engine="hf",
            elapsed_s=10.0,
            finished_at=at,
        )
        for wanted in required_scores(entry, step=1, data_folder=None)
    )
    return RunRecord(
        trial=entry.trial,
        status=Status.DONE,
        attempts=(attempt,),
        train=summary,
        scores=scores,
        created_at=at,
        updated_at=at,
    )


if __name__ == "__main__":
    main()
