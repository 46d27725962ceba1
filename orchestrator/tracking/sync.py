"""One pass over an experiment: send MLflow what it lacks. Holds what is known of both sides between passes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import setitem
from pathlib import Path

from orchestrator.codec import encode
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.status.state import state_of
from orchestrator.store.record import RunRecord
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.store.scores import is_shown_whole, shown_scores
from orchestrator.store.store import Store
from orchestrator.tracking.board import BOARD_TAG, board
from orchestrator.tracking.client import RemoteRun, Tracker
from orchestrator.tracking.cursor import Cursor, TrialCursor, save_cursor, text_digest
from orchestrator.tracking.points import (
    MetricPoint,
    cost_points,
    macro_points,
    metric_key,
    milliseconds,
    score_points,
    step_points,
)
from orchestrator.tracking.view import RunStatus, RunView, sweep_view, trial_view

log = logging.getLogger(__name__)

TableFiles = Callable[[], Mapping[str, str]]
"""Renders the experiment's table: artifact name → text. Given from outside, as dashboards stand above."""

Keep = Callable[[TrialCursor], None]
"""Notes what was sent of a run so far: a server that fails now and then must not send it back to its start."""

_SAVE_EVERY_TRIALS = 50
_MAX_NOTE = 7500
_RENDER_SHARE = 0.1
"""Of a live sweep's time, at most so much goes into rendering its table anew."""


@dataclass(slots=True)
class Counts:
    """What a pass sent."""

    runs: int = 0
    points: int = 0
    artifacts: int = 0


class SyncPass:
    """Brings one tracker up to the store. After an error throw it away: MLflow is then asked again what it holds."""

    def __init__(self, store: Store, tracker: Tracker, cursor: Cursor, tables: TableFiles) -> None:
        """Ask MLflow which runs it holds; what the cursor says of runs that are gone is forgotten."""
        self._store, self._tracker, self._tables = store, tracker, tables
        self._requests = Requests(store.root, now=now)
        self._sweep: RemoteRun | None = None
        self._trials: dict[str, RemoteRun] = {}
        for run in tracker.find_runs():
            if run.role == "sweep":
                self._sweep = self._sweep or run
            elif run.trial_id is not None:
                self._trials.setdefault(run.trial_id, run)
        self.cursor = self._valid(cursor)
        self._next_render_s = 0.0

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        return self._tracker.experiment_id

    def run(self, plan: Plan, *, cursor_file: Path, is_live: bool) -> Counts:
        """Send what is missing, trial by trial in the plan's order, then the sweep's own run.

        Args:
            plan: the kept plan of the experiment.
            cursor_file: where to note what was sent.
            is_live: another pass follows soon, so that a table may wait for it.

        Raises:
            TrackingError: MLflow failed; what was sent stays sent.
            StoreError: a record does not read, or the cursor cannot be written.
        """
        try:
            return self._run(plan, cursor_file, is_live=is_live)
        finally:  # see Keep
            save_cursor(cursor_file, self.cursor)

    def _run(self, plan: Plan, cursor_file: Path, *, is_live: bool) -> Counts:
        counts = Counts()
        parent = self._parent(plan, counts)
        statuses: dict[str, RunStatus] = {}
        is_new_plan = self.cursor.plan != plan.digest
        for number, planned in enumerate(plan.entries, start=1):
            status = self._sync_trial(planned, plan, parent, counts, is_forced=is_new_plan)
            statuses[planned.trial.id] = status
            if number % _SAVE_EVERY_TRIALS == 0:
                save_cursor(cursor_file, self.cursor)
        self.cursor = replace(self.cursor, plan=plan.digest)
        self._sync_sweep(plan, parent, statuses, counts, is_live=is_live)
        return counts

    def _valid(self, cursor: Cursor) -> Cursor:
        kept = {
            trial_id: known
            for trial_id, known in cursor.trials.items()
            if trial_id in self._trials and self._trials[trial_id].run_id == known.run_id
        }
        is_known = cursor.sweep is not None and self._sweep is not None and cursor.sweep.run_id == self._sweep.run_id
        return replace(cursor, trials=kept, sweep=cursor.sweep if is_known else None)

    def _parent(self, plan: Plan, counts: Counts) -> RemoteRun:
        if self._sweep is None:
            tags = {"orch.role": "sweep", "orch.experiment": plan.experiment}
            self._sweep = self._tracker.create_run(name=plan.experiment, tags=tags, started_ms=None)
            counts.runs += 1
        return self._sweep

    def _sync_trial(
        self, planned: PlannedTrial, plan: Plan, parent: RemoteRun, counts: Counts, *, is_forced: bool
    ) -> RunStatus:
        trial_id = planned.trial.id
        known = self.cursor.trials.get(trial_id)
        request = self._requests.of(trial_id)
        mark = f"{self._store.change_mark(trial_id)} {request.hold or ''}".rstrip()
        if known and known.mark == mark and known.status != "RUNNING" and not is_forced:
            return self._trials[trial_id].status
        record = self._store.find(trial_id)
        if record is None or not record.attempts:
            return "SCHEDULED"
        is_worked_on = partial(self._store.is_worked_on, trial_id)
        is_complete = is_shown_whole(record, planned)
        standing = state_of(planned, record, request, is_complete=is_complete, is_worked_on=is_worked_on)
        view = trial_view(planned, record, experiment=plan.experiment, state=standing.state)
        run = self._child(trial_id, view, parent, counts)
        known = known or TrialCursor(run_id=run.run_id)
        keep = partial(setitem, self.cursor.trials, trial_id)
        run, known = self._send_points(run, known, planned, record, counts)
        keep(known)
        run, known = self._send_view(run, known, view, counts, keep)
        self._trials[trial_id] = run
        self.cursor.trials[trial_id] = replace(known, mark=mark)
        return view.status

    def _child(self, trial_id: str, view: RunView, parent: RemoteRun, counts: Counts) -> RemoteRun:
        if trial_id not in self._trials:
            tags = {**view.tags, "mlflow.parentRunId": parent.run_id}
            self._trials[trial_id] = self._tracker.create_run(name=view.name, tags=tags, started_ms=view.started_ms)
            counts.runs += 1
        return self._trials[trial_id]

    def _send_points(
        self, run: RemoteRun, known: TrialCursor, planned: PlannedTrial, record: RunRecord, counts: Counts
    ) -> tuple[RemoteRun, TrialCursor]:
        rows = self._store.metrics(planned.trial.id)
        origin_ms = milliseconds(record.attempts[0].started_at)
        points: list[MetricPoint] = step_points(rows, after_step=run.last_step, origin_ms=origin_ms)
        files: dict[str, str] = {}
        scores = shown_scores(record, planned.evaluation)
        new = [entry for entry in scores.values() if entry.key not in known.scores]
        for entry in new:
            points += score_points(entry)
            if (score := self._store.read_score(planned.trial.id, entry.key)) is not None:
                folder = f"eval/{metric_key(entry.benchmark)}/step_{entry.step}"
                files[f"{folder}/score.json"] = json.dumps(encode(score), ensure_ascii=False)
        points += macro_points(planned, scores) if new else []
        num_ended = sum(attempt.ended_at is not None for attempt in record.attempts)
        if num_ended > known.num_costs:
            points += cost_points(record)
        if points:
            self._tracker.log(run.run_id, points=points)
        if files:
            self._tracker.upload(run.run_id, files)
        counts.points += len(points)
        counts.artifacts += len(files)
        last_step = max([run.last_step, *(int(row["step"]) for row in rows)])
        keys = (*known.scores, *(entry.key for entry in new))
        return replace(run, last_step=last_step), replace(known, scores=keys, num_costs=num_ended)

    def _send_view(
        self, run: RemoteRun, known: TrialCursor, view: RunView, counts: Counts, keep: Keep
    ) -> tuple[RemoteRun, TrialCursor]:
        params = {key: value for key, value in view.params.items() if key not in run.params}
        tags = {key: value for key, value in view.tags.items() if run.tags.get(key) != value}
        if params or tags:
            self._tracker.log(run.run_id, params=params, tags=tags)
        datasets = {f"{one.context} {one.name} {one.digest}": one for one in view.datasets}
        if unsent := [one for name, one in datasets.items() if name not in known.datasets]:
            self._tracker.log_datasets(run.run_id, unsent)
            known = replace(known, datasets=tuple(datasets))
            keep(known)
        digests = {path: text_digest(text) for path, text in view.artifacts.items()}
        for path in [path for path, digest in digests.items() if known.artifacts.get(path) != digest]:
            self._tracker.upload(run.run_id, {path: view.artifacts[path]})
            known = replace(known, artifacts={**known.artifacts, path: digests[path]})
            keep(known)
            counts.artifacts += 1
        if run.status != view.status:
            self._tracker.set_status(run.run_id, view.status, ended_ms=view.ended_ms)
        run = replace(run, params=run.params | params.keys(), tags={**run.tags, **tags}, status=view.status)
        return run, replace(known, status=view.status, datasets=tuple(datasets))

    def _sync_sweep(
        self, plan: Plan, parent: RemoteRun, statuses: dict[str, RunStatus], counts: Counts, *, is_live: bool
    ) -> None:
        known = self.cursor.sweep or TrialCursor(run_id=parent.run_id)
        mark = self.cursor.sweep_mark()
        if known.mark == mark or (is_live and time.monotonic() < self._next_render_s):
            return
        self._tracker.tag_experiment({BOARD_TAG: board(plan)})
        tables = self._rendered()
        view = sweep_view(plan, statuses, tables=tables, notes=_note(tables.get("table.md", "")))
        self._sweep, known = self._send_view(parent, known, view, counts, self._keep_sweep)
        self.cursor = replace(self.cursor, sweep=replace(known, mark=mark))

    def _keep_sweep(self, known: TrialCursor) -> None:
        self.cursor = replace(self.cursor, sweep=known)

    def _rendered(self) -> Mapping[str, str]:
        started = time.monotonic()
        try:
            return self._tables()
        except Exception:  # a table that does not render must not keep the runs from MLflow
            log.exception("the table could not be rendered for MLflow")
            return {}
        finally:
            elapsed_s = time.monotonic() - started
            self._next_render_s = started + elapsed_s / _RENDER_SHARE


def _note(markdown: str) -> str:
    if len(markdown) <= _MAX_NOTE:
        return markdown
    return markdown[:_MAX_NOTE].rpartition("\n")[0] + "\n\n… the whole table is the artifact `table.md`\n"
