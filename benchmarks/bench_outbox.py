"""100,000 metric points of one trial into MLflow (SQLite) while it trains: what it costs the trial, how long it takes.

    python benchmarks/bench_outbox.py [--repeats 3] [--steps 2000]

The trial is a process of its own that computes for two milliseconds a step and writes 2,000 lines of 50 metrics; the
mirror runs in the driver, as in a sweep. Trials with and without it take turns.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from bench_overhead import empty_model, lay_out, planned
from noop_trainer import NUM_METRICS

from orchestrator.store.progress import age_s
from orchestrator.store.record import Status
from orchestrator.tracking.mirror import Mirror
from orchestrator.trial.supervisor import supervise

POLL_S = 1.0
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Of one trial."""

    trial_s: float
    """From its attempt's start to its end, by its record."""
    behind_s: float = 0.0
    """From its end until MLflow had the rest."""


def run_trial(root: Path, num_steps: int, *, is_mirrored: bool) -> Timing:
    entry = planned(0, empty_model(root))
    assert entry.trial.recipe is not None
    recipe = replace(entry.trial.recipe, trainer="noop_trainer:PointsTrainer", steps=num_steps)
    entry = replace(entry, trial=replace(entry.trial, recipe=recipe))
    _, store, settings = lay_out(root, entry, step=num_steps)
    mirror = Mirror(store, "bench", f"sqlite:///{root / 'mlflow.db'}", poll_s=POLL_S)
    if is_mirrored:
        mirror.start()
    supervise(entry, settings)
    ended = time.perf_counter()
    record = store.read(entry.trial.id)
    assert record.status is Status.DONE, record.failure
    if is_mirrored:
        assert mirror.stop(PATIENCE_S)
        check_points(root / "mlflow.db", num_steps)
    last = record.attempts[-1]
    assert last.ended_at is not None
    return Timing(trial_s=age_s(last.started_at) - age_s(last.ended_at), behind_s=time.perf_counter() - ended)


def check_points(database: Path, num_steps: int) -> None:
    with closing(sqlite3.connect(database)) as connection:
        (number,) = connection.execute("select count(*) from metrics where key like 'points/%'").fetchone()
        (places,) = connection.execute(
            "select count(*) from (select distinct key, step from metrics where key like 'points/%')"
        ).fetchone()
    assert number == places == num_steps * NUM_METRICS, (number, places)


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    repeats, num_steps = options.repeats, options.steps
    alone, mirrored = [], []
    for number in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            alone.append(run_trial(Path(folder, f"alone{number}"), num_steps, is_mirrored=False))
            mirrored.append(run_trial(Path(folder, f"mirrored{number}"), num_steps, is_mirrored=True))
    ratios = [one.trial_s / other.trial_s for one, other in zip(mirrored, alone, strict=True)]
    print(f"{num_steps * NUM_METRICS:,} points, n = {repeats}, median (minimum to maximum)")
    print(f"trial without mirror   {shown([one.trial_s for one in alone])}")
    print(f"trial with mirror      {shown([one.trial_s for one in mirrored])}")
    print(f"ratio                  {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"MLflow up to date      {shown([one.behind_s for one in mirrored])} after the trial's end")


if __name__ == "__main__":
    main()
