"""What `orch watch` shows, without the terminal: a sweep at one moment, and one trial's curves and log as they grow.

Everything comes from the runs folder, so it works beside a driver, without one, and from another machine that sees the
store. Only what changed is read again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orchestrator.plan.trial import PlannedTrial
from orchestrator.status.driver import DriverReport, live_drivers
from orchestrator.status.rows import REWARD_METRIC, SweepView, TrialRow
from orchestrator.store.progress import FileTail
from orchestrator.store.scores import final_step
from orchestrator.store.store import Store

CURVES: Mapping[str, str] = {"reward": REWARD_METRIC, "entropy": "tokens/entropy"}
"""Title → the training metric that is drawn."""
_LOG_BYTES = 20_000
"""Of a log that is there already, so much is shown."""
_HELD = ("paused", "cancelled", "failed")
"""States that a driver does not leave by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A sweep at one moment."""

    trials: tuple[PlannedTrial, ...]
    rows: tuple[TrialRow, ...]
    """One a trial."""
    steps_done: int
    """Training steps of all trials; evaluations are not counted."""
    steps_total: int
    eta_s: float | None
    """Seconds until all training steps of trials that are not held are done, at the pace of those that train now."""
    num_gpus: int
    """Of the trials that run."""
    num_cpus: int
    drivers: tuple[DriverReport, ...]


class SweepWatch:
    """Takes snapshots of what a view shows."""

    def __init__(self, store: Store, view: SweepView) -> None:
        """Nothing is read yet."""
        self._store, self._view = store, view

    def snapshot(self) -> Snapshot:
        """Where all stands now.

        Raises:
            StoreError: a record does not read.
        """
        rows = self._view.rows()
        trials = self._view.trials  # after the rows: reading them may have found a new plan
        pairs = tuple(zip(trials, rows, strict=True))
        running = [planned.resources for planned, row in pairs if row.state == "running"]
        return Snapshot(
            trials=trials,
            rows=rows,
            steps_done=sum(trained_steps(planned, row) for planned, row in pairs),
            steps_total=sum(final_step(planned) for planned in trials),
            eta_s=_eta_s(pairs),
            num_gpus=sum(resources.num_gpus * resources.num_nodes for resources in running),
            num_cpus=sum(resources.num_cpus * resources.num_nodes for resources in running),
            drivers=live_drivers(self._store.root),
        )


class TrialWatch:
    """One trial's curves and log, through its attempts."""

    def __init__(self, store: Store, trial_id: str) -> None:
        """Nothing is read yet."""
        self.trial_id = trial_id
        self.curves: dict[str, dict[int, float]] = {title: {} for title in CURVES}
        """Title → step → value; what a later attempt says of a step counts."""
        self._store = store
        self._metrics: dict[int, FileTail] = {}
        self._log: FileTail | None = None

    def read(self) -> tuple[bool, list[str]]:
        """Read on: whether a curve has grown, and the new lines of the log."""
        numbers = self._store.attempt_numbers(self.trial_id)
        has_grown = False
        for number in numbers:
            if number not in self._metrics:
                self._metrics[number] = FileTail(self._store.metrics_file(self.trial_id, number))
            for line in self._metrics[number].read_lines():
                has_grown = self._add(line) or has_grown
        return has_grown, self._log_lines(max(numbers)) if numbers else []

    def _add(self, line: str) -> bool:
        try:
            row: dict[str, Any] = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError):
            return False
        values = {title: row.get(metric) for title, metric in CURVES.items()}
        known = {title: value for title, value in values.items() if isinstance(value, int | float)}
        for title, value in known.items():
            self.curves[title][step] = float(value)
        return bool(known)

    def _log_lines(self, number: int) -> list[str]:
        path = self._store.log_file(self.trial_id, number)
        if self._log is None or self._log.path != path:
            self._log = FileTail(path, last_bytes=_LOG_BYTES)
        return self._log.read_lines()


def steps_per_s(row: TrialRow) -> float | None:
    """Training steps a second of a trial that trains now."""
    if row.state != "running" or row.unit != "step" or not row.eta_s or row.step >= row.total:
        return None
    return (row.total - row.step) / row.eta_s


def trained_steps(planned: PlannedTrial, row: TrialRow) -> int:
    """Training steps that a trial has behind it, as far as its row tells."""
    is_trained = row.state in ("done", "partial") or (row.state == "running" and row.unit != "step")
    return final_step(planned) if is_trained else min(row.step, final_step(planned))


def bars(values: Sequence[float], *, width: int, height: int) -> list[str]:
    """A curve as lines of block characters, highest line first; each column is the mean of the values that fall in it.

    The lowest value is one eighth of a character high, the highest fills the height.
    """
    if not values or width < 1 or height < 1:
        return []
    columns = min(width, len(values))
    edges = [round(index * len(values) / columns) for index in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    full = 8 * height
    levels = [1 + round((full - 1) * (mean - low) / (high - low)) if high > low else full // 2 for mean in means]
    return [
        "".join(_BLOCKS[max(0, min(8, level - 8 * line))] for level in levels) for line in range(height - 1, -1, -1)
    ]


_BLOCKS = " ▁▂▃▄▅▆▇█"


def _eta_s(pairs: Sequence[tuple[PlannedTrial, TrialRow]]) -> float | None:
    pace = sum(filter(None, (steps_per_s(row) for _, row in pairs)))
    left = sum(final_step(planned) - trained_steps(planned, row) for planned, row in pairs if row.state not in _HELD)
    return left / pace if pace > 0 else None
