"""Scores of `orch eval` in MLflow: one run for each model, a score once, its benchmark as an input.

Scores of trials need nothing of this: they stand in the trial's record, and the experiment's mirror carries them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from eval.api import Score
from orchestrator.evaluations.targets import Target
from orchestrator.store.record import score_entry
from orchestrator.tracking.client import RemoteRun, Tracker
from orchestrator.tracking.points import score_points
from orchestrator.tracking.view import DatasetView

EXPERIMENT = "evaluations"
"""Name of the MLflow experiment that holds them."""

_OWNER, _SCORE = "orch.owner_id", "orch.score."


def log_scores(target: Target, scores: Mapping[str, Score], *, files: Mapping[str, Path], tracking_uri: str) -> int:
    """Send the scores that the model's run does not hold yet, and return how many those were.

    Args:
        target: the model; its owner id finds its run again.
        scores: score key → score.
        files: score key → its score.json: its time dates the points, and its text is an artifact.
        tracking_uri: where MLflow is.

    Raises:
        TrackingError: MLflow does not answer, or refuses.
    """
    tracker = Tracker(tracking_uri, EXPERIMENT)
    run = _run_of(target, tracker)
    new = {key: score for key, score in scores.items() if f"{_SCORE}{key}" not in run.tags}
    for key, score in new.items():
        made_at = datetime.fromtimestamp(files[key].stat().st_mtime, UTC).isoformat(timespec="milliseconds")
        entry = score_entry(score, key=key, step=target.step, limit=None, at=made_at)
        tracker.log_datasets(
            run.run_id, [DatasetView(name=score.benchmark, digest=score.benchmark_digest[:36], context="evaluation")]
        )
        tracker.upload(run.run_id, {f"scores/{score.benchmark}-{key}.json": files[key].read_text()})
        tracker.log(run.run_id, points=score_points(entry))
        # The tag comes last: a kill before it sends the same points once more.
        tracker.log(run.run_id, tags={f"{_SCORE}{key}": score.benchmark})
    tracker.set_status(run.run_id, "FINISHED", ended_ms=None)
    return len(new)


def _run_of(target: Target, tracker: Tracker) -> RemoteRun:
    found = [run for run in tracker.find_runs() if run.tags.get(_OWNER) == target.owner_id]
    if found:
        return found[0]
    tags = {
        "orch.experiment": EXPERIMENT,
        "orch.role": "evaluation",
        _OWNER: target.owner_id,
        "orch.model": target.model.path,
    }
    return tracker.create_run(name=target.label, tags=tags, started_ms=None)
