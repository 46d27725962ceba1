"""Metric points of a trial as MLflow gets them: training steps, scores, costs. Pure, no mlflow.

Every point carries the time and step that the store gives it, so that sending it again sends the same point.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eval.api import MEASURES
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.record import RunRecord, ScoreEntry

STEP_METRIC = "train/step"
"""Goes with every training step: its latest value says how far a run is mirrored, whatever became of our cursor."""

MACRO = "macro"
"""Stands where a benchmark's name would for the mean over all benchmarks of an experiment."""

_NOT_A_METRIC = frozenset({"step", "time", "timestamp", "attempt", "seed"})
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_FORBIDDEN = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """One value of one metric."""

    key: str
    value: float
    timestamp_ms: int
    """When it was measured: taken from the store, so that sending it again sends the same point."""
    step: int


def step_points(rows: Iterable[Mapping[str, Any]], *, after_step: int, origin_ms: int) -> list[MetricPoint]:
    """Points of the training steps that come after `after_step`.

    A step that a resumed attempt did again is not sent again: its numbers are the same and only its time differs.

    Args:
        rows: lines of metrics.jsonl in order of steps.
        after_step: last step that MLflow holds.
        origin_ms: when training began; rows without a time are dated by adding up the seconds of their steps.
    """
    points = []
    elapsed_ms = 0.0
    for row in rows:
        step = int(row["step"])
        elapsed_ms += 1000 * (_number(row.get("time/step_s")) or 0.001)
        if step <= after_step:
            continue
        moment = _row_time_ms(row, default=origin_ms + round(elapsed_ms))
        values = {metric_key(key): _number(value) for key, value in row.items() if key not in _NOT_A_METRIC}
        known = {key: value for key, value in values.items() if value is not None} | {STEP_METRIC: float(step)}
        points += [MetricPoint(key=key, value=value, timestamp_ms=moment, step=step) for key, value in known.items()]
    return points


def score_points(entry: ScoreEntry) -> list[MetricPoint]:
    """avg@K with its errors and the shares beside it, as fractions, at the checkpoint's step."""
    values = {measure["metric"].format(k=entry.num_samples): getattr(entry, name) for name, measure in MEASURES.items()}
    moment = milliseconds(entry.finished_at)
    return [
        MetricPoint(key=metric_key(f"eval/{entry.benchmark}/{key}"), value=value, timestamp_ms=moment, step=entry.step)
        for key, value in values.items()
        if value is not None
    ]


def macro_points(planned: PlannedTrial, scores: Mapping[tuple[str, int], ScoreEntry]) -> list[MetricPoint]:
    """Mean avg@K over the benchmarks, at each step where all of several are scored."""
    asked = planned.evaluation.benchmarks
    points = []
    for step in sorted({step for _, step in scores}):
        present = [scores[name, step] for name in asked if (name, step) in scores]
        if len(asked) > 1 and len(present) == len(asked):
            key = f"eval/{MACRO}/avg_at_{planned.evaluation.num_samples}"
            moment = max(milliseconds(entry.finished_at) for entry in present)
            mean = sum(entry.avg for entry in present) / len(present)
            points.append(MetricPoint(key=key, value=mean, timestamp_ms=moment, step=step))
    return points


def cost_points(record: RunRecord) -> list[MetricPoint]:
    """Seconds by phase over all attempts and peak memory, once the last attempt has ended.

    At step 0 for every trial, so that MLflow draws them as bars beside each other.
    """
    if not record.attempts or record.attempts[-1].ended_at is None:
        return []
    moment = milliseconds(record.attempts[-1].ended_at)
    values = {f"cost/{phase}_s": seconds for phase, seconds in record.phase_seconds.items()}
    values["cost/total_s"] = sum(record.phase_seconds.values())
    values["system/peak_memory_megabytes"] = record.peak_memory_mb
    return [MetricPoint(key=metric_key(key), value=value, timestamp_ms=moment, step=0) for key, value in values.items()]


def metric_key(name: str) -> str:
    """A name that every MLflow store accepts."""
    return _FORBIDDEN.sub("_", name)[:250]


def milliseconds(timestamp: str) -> int:
    """A UTC ISO time as milliseconds since the epoch."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def _row_time_ms(row: Mapping[str, Any], *, default: int) -> int:
    moment = row.get("time", row.get("timestamp"))
    if isinstance(moment, str):
        return milliseconds(moment)
    return default if moment is None else round(float(moment) * 1000)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    return float(value) if isinstance(value, (int, float)) else None
