"""What a trial and a sweep look like as MLflow runs: names, params, tags, metric points, artifacts. Pure, no mlflow.

`tracking.Mirror` compares these views with what MLflow holds already and sends the difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from orchestrator.codec import encode
from orchestrator.plan import Plan
from orchestrator.record import RunRecord, ScoreEntry, Status
from orchestrator.trial import EvalSettings, PlannedTrial
from orchestrator.wanted import final_step, sampling_settings

RunStatus = Literal["SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"]
"""As MLflow names them."""

STEP_METRIC = "train/step"
"""Goes with every training step: its latest value says how far a run is mirrored, whatever became of our cursor."""

_RUN_STATUS: dict[Status, RunStatus] = {
    Status.PENDING: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.TRAINED: "RUNNING",
    Status.DONE: "FINISHED",
    Status.FAILED: "FAILED",
    Status.STOPPED: "KILLED",
}
_NOT_A_METRIC = frozenset({"step", "time", "timestamp", "attempt", "seed"})
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_FORBIDDEN = re.compile(r"[^\w\-. :/]")
_MAX_DIGEST = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of one metric."""

    key: str
    value: float
    timestamp_ms: int
    """When it was measured: taken from the store, so that sending it again sends the same point."""
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetView:
    """An input of a run."""

    name: str
    digest: str
    context: Literal["training", "evaluation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One MLflow run as it should be, its metrics aside."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    datasets: tuple[DatasetView, ...]
    status: RunStatus
    started_ms: int | None
    ended_ms: int | None
    """None while it runs."""
    artifacts: dict[str, str]
    """Path in the run → text."""


def trial_view(planned: PlannedTrial, record: RunRecord | None, *, experiment: str, is_alive: bool) -> RunView:
    """A trial as a child run.

    Args:
        planned: the trial as the experiment sees it.
        record: what the store knows of it; None before anybody worked on it.
        experiment: the experiment's name.
        is_alive: whether a process works on it now; a record that says `running` without one was interrupted.
    """
    status: RunStatus = "SCHEDULED" if record is None else _RUN_STATUS[record.status]
    if status == "RUNNING" and not is_alive:
        status = "KILLED"
    attempts = record.attempts if record else ()
    ended = attempts[-1].ended_at if attempts and status not in ("RUNNING", "SCHEDULED") else None
    return RunView(
        name=planned.label,
        tags=_trial_tags(planned, record, experiment=experiment),
        params=_trial_params(planned),
        datasets=_datasets(planned, record),
        status=status,
        started_ms=milliseconds(attempts[0].started_at) if attempts else None,
        ended_ms=milliseconds(ended) if ended else None,
        artifacts=_trial_artifacts(planned, record) if ended else {},
    )


def sweep_view(plan: Plan, statuses: Mapping[str, RunStatus], *, tables: Mapping[str, str], notes: str) -> RunView:
    """A sweep as the parent run.

    Args:
        plan: the kept plan of the experiment.
        statuses: of the trials, by id.
        tables: artifact name → text.
        notes: markdown shown as the run's description.
    """
    counts = {name: list(statuses.values()).count(name) for name in ("FINISHED", "FAILED")}
    tags = {
        "orch.role": "sweep",
        "orch.experiment": plan.experiment,
        "orch.plan": plan.digest,
        "orch.axes": ", ".join(plan.axes),
        "orch.finished": f"{counts['FINISHED']} of {len(plan.entries)}",
        "orch.failed": str(counts["FAILED"]),
        "mlflow.source.name": Path(plan.file).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": notes,
    }
    if "table.json" in tables:
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": "table.json", "type": "table"}])
    return RunView(
        name=plan.experiment,
        tags=tags,
        params={},
        datasets=(),
        status=_sweep_status(statuses.values()),
        started_ms=None,
        ended_ms=None,
        artifacts={"config.yaml": _yaml(plan.config), **tables},
    )


def shown_scores(record: RunRecord | None, evaluation: EvalSettings) -> dict[tuple[str, int], ScoreEntry]:
    """The scores that an experiment asked for, by (benchmark as asked for, step); of regraded ones the latest."""
    wanted = sampling_settings(evaluation)
    asked = {benchmark_name(benchmark): benchmark for benchmark in evaluation.benchmarks}
    chosen: dict[tuple[str, int], ScoreEntry] = {}
    for entry in sorted(record.scores if record else (), key=lambda entry: entry.finished_at):
        if entry.settings == wanted and entry.limit == evaluation.limit and entry.benchmark in asked:
            chosen[asked[entry.benchmark], entry.step] = entry
    return chosen


def benchmark_name(benchmark: str) -> str:
    """What a benchmark's scores call it: the name itself, or the stem of a `.jsonl` path."""
    return Path(benchmark).stem if benchmark.endswith(".jsonl") else benchmark


def step_points(rows: Iterable[Mapping[str, Any]], *, after_step: int, origin_ms: int) -> list[Point]:
    """Points of the training steps that come after `after_step`.

    A step that a resumed attempt did again is not sent again: its numbers are the same and only its time differs.

    Args:
        rows: lines of metrics.jsonl in order of steps.
        after_step: last step that MLflow holds.
        origin_ms: stands in for the time of rows that carry none.
    """
    points = []
    for row in rows:
        step = int(row["step"])
        if step <= after_step:
            continue
        moment = _row_time_ms(row, default=origin_ms + step)
        values = {metric_key(key): _number(value) for key, value in row.items() if key not in _NOT_A_METRIC}
        known = {key: value for key, value in values.items() if value is not None} | {STEP_METRIC: float(step)}
        points += [Point(key=key, value=value, timestamp_ms=moment, step=step) for key, value in known.items()]
    return points


def score_points(entry: ScoreEntry) -> list[Point]:
    """avg@K with its errors and the shares beside it, as fractions, at the checkpoint's step."""
    name = f"avg_at_{entry.num_samples}"
    values = {
        name: entry.avg,
        f"{name}_se": entry.standard_error,
        f"{name}_generation_se": entry.generation_error,
        "clip_rate": entry.clip_rate,
        "no_box_rate": entry.no_box_rate,
        "mean_tokens": entry.mean_tokens,
    }
    prefix = f"eval/{entry.benchmark}"
    moment = milliseconds(entry.finished_at)
    return [
        Point(key=metric_key(f"{prefix}/{key}"), value=value, timestamp_ms=moment, step=entry.step)
        for key, value in values.items()
        if value is not None
    ]


def cost_points(planned: PlannedTrial, record: RunRecord) -> list[Point]:
    """Seconds by phase over all attempts and peak memory, once the last attempt has ended."""
    if not record.attempts or record.attempts[-1].ended_at is None:
        return []
    moment, step = milliseconds(record.attempts[-1].ended_at), final_step(planned)
    values = {f"cost/{phase}_s": seconds for phase, seconds in record.phase_seconds.items()}
    values["cost/total_s"] = sum(record.phase_seconds.values())
    values["system/peak_memory_megabytes"] = record.peak_memory_mb
    return [Point(key=metric_key(key), value=value, timestamp_ms=moment, step=step) for key, value in values.items()]


def flattened(value: Any, prefix: str = "") -> dict[str, str]:
    """A nested JSON object as dotted keys; what is None is left out."""
    if isinstance(value, dict):
        parts = (flattened(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
        return {key: text for part in parts for key, text in part.items()}
    if value is None:
        return {}
    return {prefix: value if isinstance(value, str) else json.dumps(value)}


def metric_key(name: str) -> str:
    """A name that every MLflow store accepts."""
    return _FORBIDDEN.sub("_", name)[:250]


def milliseconds(timestamp: str) -> int:
    """A UTC ISO time as milliseconds since the epoch."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def _trial_tags(planned: PlannedTrial, record: RunRecord | None, *, experiment: str) -> dict[str, str]:
    trial = planned.trial
    tags = {metric_key(axis): str(value) for axis, value in planned.axes.items()}
    tags |= {
        "orch.role": "trial",
        "orch.experiment": experiment,
        "orch.trial_id": trial.id,
        "orch.kind": trial.kind,
        "orch.status": str(record.status if record else Status.PENDING),
        "orch.attempts": str(len(record.attempts) if record else 0),
        "mlflow.source.name": f"orch trial {trial.id}",
        "mlflow.source.type": "LOCAL",
    }
    if trial.seed is not None:
        tags["seed"] = str(trial.seed)
    if record and record.attempts:
        provenance = record.attempts[-1].provenance
        tags["orch.host"] = provenance.host
        if provenance.commit:
            tags["mlflow.source.git.commit"] = provenance.commit
            tags["orch.is_dirty"] = str(provenance.is_dirty).lower()
    if record and record.failure:
        tags["orch.failure"] = f"{record.failure.kind}: {record.failure.message}"
    return tags


def _trial_params(planned: PlannedTrial) -> dict[str, str]:
    trial = planned.trial
    params = {"kind": trial.kind, "model_digest": trial.model_digest}
    if trial.recipe is None:
        return params | flattened({"model": encode(trial.model)})
    extra = {"seed": trial.seed, "data_digest": trial.data_digest}
    return params | flattened(encode(trial.recipe)) | flattened(extra)


def _datasets(planned: PlannedTrial, record: RunRecord | None) -> tuple[DatasetView, ...]:
    found: list[DatasetView] = []
    recipe, digest = planned.trial.recipe, planned.trial.data_digest
    if recipe is not None and digest is not None:
        found.append(_dataset(recipe.data.name, digest, "training"))
    for entry in shown_scores(record, planned.evaluation).values():
        found.append(_dataset(entry.benchmark, entry.benchmark_digest, "evaluation"))
    return tuple(dict.fromkeys(found))


def _dataset(name: str, digest: str, context: Literal["training", "evaluation"]) -> DatasetView:
    return DatasetView(name=benchmark_name(name), digest=digest.removeprefix("sha256:")[:_MAX_DIGEST], context=context)


def _trial_artifacts(planned: PlannedTrial, record: RunRecord | None) -> dict[str, str]:
    trial = encode(planned.trial)
    config = {
        "recipe": trial["recipe"],
        "seed": trial["seed"],
        "evaluation": encode(planned.evaluation),
        "resources": encode(planned.resources),
    }
    files = {"config.yaml": _yaml(config), "recipe.json": _json(trial)}
    return files if record is None else files | {"record.json": _json(encode(record))}


def _sweep_status(statuses: Iterable[RunStatus]) -> RunStatus:
    present = set(statuses)
    if "RUNNING" in present:
        return "RUNNING"
    if present == {"FINISHED"}:
        return "FINISHED"
    return "FAILED" if "FAILED" in present else "KILLED"


def _row_time_ms(row: Mapping[str, Any], *, default: int) -> int:
    moment = row.get("time", row.get("timestamp"))
    if isinstance(moment, str):
        return milliseconds(moment)
    return default if moment is None else round(float(moment) * 1000)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    return float(value) if isinstance(value, (int, float)) else None


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
