"""Records of an experiment as a pandas DataFrame: one row a trial × benchmark, at the checkpoint that tables show.

Nothing is left out: a trial that failed, or was never run, has rows too, with NaN where a number would be and a
`state` that says why. NaN is never turned into 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from eval.api import MEASURES, Score
from eval.benchmarks.registry import short_name
from eval.graders.api import OURS, GraderName, regrade_command
from orchestrator.errors import StoreError
from orchestrator.plan.arm import arm_of, family_of
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.status.state import UNDO, first_line, state_of
from orchestrator.store.record import RunRecord, ScoreEntry
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.store.scores import final_step, shown_scores
from orchestrator.store.store import Store

_MEASURES = {name: measure["column"] for name, measure in MEASURES.items()}
"""Field of a score → its column."""
_ASKED = ("num_samples", "temperature", "max_new_tokens", "template")
"""Of the plan's evaluation, so that rows without a score have them too."""
_FOUND = ("num_problems", "benchmark_digest", "grader_version", "engine")
"""Of the score, beside its measures."""

COLUMNS = (
    "trial",
    "label",
    "kind",
    "arm",
    "family",
    "model",
    "model_digest",
    "algorithm",
    "method",
    "ratio",
    "end",
    "seed",
    "device",
    "device_hours",
    "benchmark",
    "step",
    "state",
    "reason",
    "alarms",
    *_MEASURES.values(),
    *_ASKED,
    *_FOUND,
    "per_problem",
)
"""Columns of every frame; one column an axis follows, named `axis:<axis>`.

`arm`: equal for trials that differ in their seed only. `family`: equal for arms that differ in selection only, so
that the one among them with method `full` is the others' dense baseline; None for base models.
`device_hours`: what training it and evaluating it took, all attempts, of its `device`, gpu or core; NaN before.
`state`: scored, failed, stopped, running, missing. `reason`: why it is not scored. `avg` and the errors are fractions.
`alarms`: what guards said of the trial, a text each.
`per_problem`: problem id → 0/1 for each sample, None where there is no score.
"""

AXIS = "axis:"


def frame(store: Store, experiment: str, grader: GraderName = OURS) -> pd.DataFrame:
    """All trials of an experiment in planned order, base models first; `attrs` holds `experiment` and `axes`.

    Scores are those of one grader; what it has not graded is missing.

    Raises:
        StoreError: no such experiment, or a record does not read.
    """
    plan = store.plans.read(experiment)
    rows = [row for planned in plan.entries for row in _rows(planned, store, plan, grader)]
    columns = [*COLUMNS, *(AXIS + axis for axis in plan.axes)]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs = {"experiment": experiment, "axes": list(plan.axes)}
    return table


def _rows(planned: PlannedTrial, store: Store, plan: Plan, grader: GraderName) -> Iterator[dict[str, Any]]:
    record = store.find(planned.trial.id)
    scores = shown_scores(record, planned.evaluation, grader)
    by_ours = scores if grader == OURS else shown_scores(record, planned.evaluation)
    step = final_step(planned)
    for benchmark in planned.evaluation.benchmarks:
        entry = scores.get((benchmark, step))
        score, fault = _read(entry, planned, store)
        if entry is None and (benchmark, step) in by_ours:
            state, reason = "missing", f"not graded by {grader}: {regrade_command(grader)}"
        elif entry is None:
            state, reason = _unscored(record, planned, store)
        else:
            state, reason = ("missing", fault) if score is None else ("scored", "")
        yield {
            **_trial_columns(planned, plan),
            **_cost_columns(planned, record),
            "benchmark": short_name(benchmark),
            "step": step,
            "state": state,
            "reason": reason,
            "alarms": tuple(alarm.text for alarm in record.alarms) if record is not None else (),
            **_score_columns(entry, score, planned),
        }


def _trial_columns(planned: PlannedTrial, plan: Plan) -> dict[str, Any]:
    trial, recipe = planned.trial, planned.trial.recipe
    return {
        "trial": trial.id,
        "label": planned.label,
        "kind": trial.kind,
        "arm": arm_of(planned),
        "family": family_of(planned),
        "model": Path(trial.model.path.removeprefix("builtin:")).name,
        "model_digest": trial.model_digest,
        "algorithm": recipe.algorithm.name if recipe else None,
        "method": recipe.selection.method if recipe else None,
        "ratio": recipe.selection.ratio if recipe else None,
        "end": recipe.selection.end if recipe else None,
        "seed": trial.seed,
        **{AXIS + axis: planned.axes.get(axis) for axis in plan.axes},
    }


def _cost_columns(planned: PlannedTrial, record: RunRecord | None) -> dict[str, Any]:
    resources = planned.resources
    num_devices = (resources.num_gpus or resources.num_cpus) * resources.num_nodes
    seconds = 0.0 if record is None else sum(record.phase_seconds.values())
    return {
        "device": "gpu" if resources.num_gpus else "core",
        "device_hours": seconds * num_devices / 3600 if seconds else math.nan,
    }


def _read(entry: ScoreEntry | None, planned: PlannedTrial, store: Store) -> tuple[Score | None, str]:
    """The score with its verdicts, or what is wrong with it: one broken file must not take the table away."""
    if entry is None:
        return None, ""
    if not math.isfinite(entry.avg):
        return None, "its score is not a number"
    try:
        score = store.read_score(planned.trial.id, entry.key)
    except StoreError as error:
        return None, f"{error.what}; {error.fix}"
    return score, "" if score is not None else "its score file is gone"


def _score_columns(entry: ScoreEntry | None, score: Score | None, planned: PlannedTrial) -> dict[str, Any]:
    evaluation = planned.evaluation
    columns = {name: getattr(evaluation, name) for name in _ASKED}
    if entry is None or score is None:
        return columns | dict.fromkeys(["num_problems", *_MEASURES.values()], math.nan)
    numbers = {column: getattr(entry, name) for name, column in _MEASURES.items()}
    columns |= {column: math.nan if number is None else number for column, number in numbers.items()}
    return columns | {name: getattr(entry, name) for name in _FOUND} | {"per_problem": score.per_problem}


def _unscored(record: RunRecord | None, planned: PlannedTrial, store: Store) -> tuple[str, str]:
    """State and reason of a row without a score."""
    trial_id = planned.trial.id
    request = Requests(store.root, now=now).of(trial_id)
    is_worked_on = partial(store.is_worked_on, trial_id)
    standing = state_of(planned, record, request, is_complete=False, is_worked_on=is_worked_on)
    if standing.state in ("paused", "cancelled", "stopped"):
        alarms = record.attempts[-1].alarms if record is not None and record.attempts else ()
        actions = {alarm.action for alarm in alarms} - {"warn"}
        if actions:
            return "stopped", f"by a guard; `orch ctl {'requeue' if 'stop' in actions else 'resume'}` goes on"
        if request.hold is not None:
            return "stopped", f"{request.hold} by {request.by}; `orch ctl {UNDO[request.hold]}` runs it again"
        return "stopped", "stopped, resumes with the same `orch sweep`"
    if standing.state == "failed" and record is not None:
        return "failed", f"failed: {first_line(record)}"
    if standing.state == "running":
        progress = store.progress(trial_id)
        return "running", "" if progress is None else f"{progress.phase} {progress.step}/{progress.total}"
    return "missing", {"waiting": "not run yet", "partial": "not evaluated"}.get(standing.state, standing.state)
