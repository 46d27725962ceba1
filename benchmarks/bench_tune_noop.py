"""1,000 trials that do nothing on 64 logical GPUs, eight a trial: orch beside plain Ray Tune, time and driver memory.

    python benchmarks/bench_tune_noop.py [--trials 1000] [--part orch|tune]

Plain Tune starts a fresh actor for each trial, its default; ours a process of its own. Each runs in its own process and
Ray session. Seconds a trial are given for every tenth of the trials: median, minimum and maximum of ten.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import ray
from bench_overhead import empty_model, lay_out, planned
from ray import tune

from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.record import Status
from orchestrator.sweep.queue import QueueSettings, TrialQueue
from orchestrator.sweep.ray_tune import ENVIRONMENT, RayTuneScheduler
from orchestrator.trial.stop import StopSignal
from trainers.recipe import Resources

NUM_GPUS, GPUS_A_TRIAL = 64, 8
RATIO_TARGET, GROWTH_TARGET_MB = 1.2, 50.0
_POLL_S = 0.2

Curve = list[tuple[int, float, float]]
"""(trials started, seconds since the beginning, megabytes resident), one a tenth."""


@contextmanager
def followed(num_trials: int, count: Callable[[], int]) -> Iterator[Curve]:
    """Note time and memory of this process each time another tenth of the trials has started."""
    curve: Curve = []
    process, started, stop = psutil.Process(), time.perf_counter(), threading.Event()

    def note(number: int) -> None:
        curve.append((number, time.perf_counter() - started, process.memory_info().rss / 2**20))
        print("  {} trials, {:.0f} s, {:.0f} MB".format(*curve[-1]), file=sys.stderr, flush=True)

    def follow() -> None:
        while not stop.wait(_POLL_S):
            while len(curve) < 10 and count() >= (len(curve) + 1) * num_trials // 10:
                note((len(curve) + 1) * num_trials // 10)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield curve
    stop.set()
    thread.join()
    del curve[9:]
    note(num_trials)


class CountingAgenda(TrialQueue):
    """Counts the trials that it has handed out."""

    started = 0

    def next(self) -> PlannedTrial | None:
        """As the queue does."""
        planned = super().next()
        self.started += planned is not None
        return planned


def run_orch(num_trials: int, root: Path) -> Curve:
    model = empty_model(root)
    plan, store, settings = lay_out(root, *(on_gpus(planned(seed, model)) for seed in range(num_trials)))
    stop = StopSignal(settings.stop_file)
    queue = CountingAgenda(plan, store, QueueSettings())
    with followed(num_trials, lambda: queue.started) as curve:
        RayTuneScheduler(address=None).run(queue, settings, stop)
    assert [record.status for record in store.list()] == [Status.DONE] * num_trials
    return curve


def on_gpus(entry: PlannedTrial) -> PlannedTrial:
    return replace(entry, resources=Resources(num_gpus=GPUS_A_TRIAL, num_cpus=1))


class Count(tune.Callback):
    """How many trials plain Tune has started."""

    started = 0

    def on_trial_start(self, *arguments: object, **options: object) -> None:
        """Called by Tune."""
        self.started += 1


def run_tune(num_trials: int, storage: Path) -> Curve:
    def noop(config: dict[str, int]) -> dict[str, int]:
        return {"seed": config["seed"]}

    count = Count()
    with followed(num_trials, lambda: count.started) as curve:
        results = tune.Tuner(
            tune.with_resources(noop, {"cpu": 1, "gpu": GPUS_A_TRIAL}),
            param_space={"seed": tune.grid_search(list(range(num_trials)))},
            tune_config=tune.TuneConfig(reuse_actors=False),
            run_config=tune.RunConfig(storage_path=str(storage), verbose=0, callbacks=[count]),
        ).fit()
    assert (len(results), results.num_errors) == (num_trials, 0)
    return curve


def run_part(part: str, num_trials: int) -> None:
    os.environ.update(ENVIRONMENT)
    ray.init(
        num_cpus=NUM_GPUS, num_gpus=NUM_GPUS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    with tempfile.TemporaryDirectory() as folder:
        curve = {"orch": run_orch, "tune": run_tune}[part](num_trials, Path(folder))
    ray.shutdown()
    print(json.dumps(curve))


def seconds_a_trial(curve: Curve) -> list[float]:
    times = [(0, 0.0), *((number, elapsed_s) for number, elapsed_s, _ in curve)]
    return [(later - earlier) / (last - first) for (first, earlier), (last, later) in pairwise(times)]


def show(name: str, curve: Curve) -> None:
    each = seconds_a_trial(curve)
    number, elapsed_s, _ = curve[-1]
    memory = {started: megabytes for started, _, megabytes in curve}
    at = [number // 10, number // 2, number]
    spread = f"median {statistics.median(each):.3f} s ({min(each):.3f} to {max(each):.3f}, n = {len(each)})"
    resident = ", ".join(f"{memory[one]:.0f} MB at {one}" for one in at)
    print(f"{name:<15}{elapsed_s:7.1f} s, a trial {spread}; driver {resident}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--part", choices=["orch", "tune"])
    options = parser.parse_args()
    if options.part:
        run_part(options.part, options.trials)
        return
    curves: dict[str, Curve] = {}
    for part in ("tune", "orch"):
        command = [sys.executable, __file__, "--part", part, "--trials", str(options.trials)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        curves[part] = [tuple(point) for point in json.loads(done.stdout.splitlines()[-1])]
        show({"tune": "plain Ray Tune", "orch": "orch"}[part], curves[part])
    ratio = curves["orch"][-1][1] / curves["tune"][-1][1]
    growth = curves["orch"][-1][2] - curves["orch"][0][2]
    print(f"orch / plain Ray Tune: {ratio:.2f} (at most {RATIO_TARGET}); driver + {growth:.0f} MB over the last 90 %")
    if ratio > RATIO_TARGET or growth > GROWTH_TARGET_MB:
        sys.exit("a target is missed")


if __name__ == "__main__":
    main()
