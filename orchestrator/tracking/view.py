"""What a trial and a sweep look like as MLflow runs: names, params, tags, datasets, artifacts. Pure, no mlflow.

`mirror.Mirror` compares these views with what MLflow holds already and sends the difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from eval.benchmarks.registry import short_name
from orchestrator.codec import encode
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.status.state import State
from orchestrator.store.record import RunRecord
from orchestrator.store.scores import shown_scores
from orchestrator.tracking.points import metric_key, milliseconds

RunStatus = Literal["SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"]
"""As MLflow names them."""

_RUN_STATUS: dict[State, RunStatus] = {
    "waiting": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "partial": "FINISHED",  # done once: that a plan wants more scores by now does not make it unfinished
    "failed": "FAILED",
    "stopped": "KILLED",
    "interrupted": "KILLED",
    "paused": "KILLED",
    "cancelled": "KILLED",
}
_MAX_DIGEST = 36


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


def trial_view(planned: PlannedTrial, record: RunRecord | None, *, experiment: str, state: State) -> RunView:
    """A trial as a child run.

    Args:
        planned: the trial as the experiment sees it.
        record: what the store knows of it; None before anybody worked on it.
        experiment: the experiment's name.
        state: where it stands (`status.state`).
    """
    status = _RUN_STATUS[state]
    attempts = record.attempts if record else ()
    ended = attempts[-1].ended_at if attempts and status not in ("RUNNING", "SCHEDULED") else None
    return RunView(
        name=planned.label,
        tags=_trial_tags(planned, record, experiment=experiment, state=state),
        params=trial_params(planned),
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


def trial_params(planned: PlannedTrial) -> dict[str, str]:
    """The recipe as dotted keys, with seed and digests; the model alone for a base model."""
    trial = planned.trial
    params = {"kind": trial.kind, "model_digest": trial.model_digest}
    if trial.recipe is None:
        return params | flattened({"model": encode(trial.model)})
    extra = {"seed": trial.seed, "data_digest": trial.data_digest}
    return params | flattened(encode(trial.recipe)) | flattened(extra)


def flattened(value: Any, prefix: str = "") -> dict[str, str]:
    """A nested JSON object as dotted keys; what is None is left out."""
    if isinstance(value, dict):
        parts = (flattened(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
        return {key: text for part in parts for key, text in part.items()}
    if value is None:
        return {}
    return {prefix: value if isinstance(value, str) else json.dumps(value)}


def _trial_tags(planned: PlannedTrial, record: RunRecord | None, *, experiment: str, state: State) -> dict[str, str]:
    trial = planned.trial
    tags = {metric_key(axis): str(value) for axis, value in planned.axes.items()}
    tags |= {
        "orch.role": "trial",
        "orch.experiment": experiment,
        "orch.trial_id": trial.id,
        "orch.kind": trial.kind,
        "orch.status": state,
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


def _datasets(planned: PlannedTrial, record: RunRecord | None) -> tuple[DatasetView, ...]:
    found: list[DatasetView] = []
    recipe, digest = planned.trial.recipe, planned.trial.data_digest
    if recipe is not None and digest is not None:
        found.append(_dataset(recipe.data.name, digest, "training"))
    for entry in shown_scores(record, planned.evaluation).values():
        found.append(_dataset(entry.benchmark, entry.benchmark_digest, "evaluation"))
    return tuple(dict.fromkeys(found))


def _dataset(name: str, digest: str, context: Literal["training", "evaluation"]) -> DatasetView:
    return DatasetView(name=short_name(name), digest=digest.removeprefix("sha256:")[:_MAX_DIGEST], context=context)


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


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
