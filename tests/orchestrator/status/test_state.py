"""Every combination of record, request, lock and files is one state, and every command says the same of it."""

import functools
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from typer.testing import CliRunner

from dashboards.frame import frame
from orchestrator.cli import app
from orchestrator.config.spec import load_sweep
from orchestrator.plan.make import make_plan
from orchestrator.plan.trial import Plan
from orchestrator.status.rows import SweepView
from orchestrator.status.state import STATES, TO_RUN, UNDO, state_of
from orchestrator.store.record import RunRecord, Status, new_record
from orchestrator.store.redact import now
from orchestrator.store.requests import Hold, Requests, TrialRequest
from orchestrator.store.store import Store
from orchestrator.sweep.queue import QueueSettings, TrialQueue
from orchestrator.tracking.view import trial_view
from orchestrator.trial.attempt import run_trial

HOLDS: tuple[Hold | None, ...] = (None, "paused", "cancelled")
STATUSES = (None, *Status)
FILES = ("whole", "without a score", "gone")


@pytest.mark.parametrize("is_worked_on", [False, True])
@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("status", STATUSES)
def test_the_table_of_states(
    lab: Lab, status: Status | None, hold: Hold | None, is_complete: bool, is_worked_on: bool
) -> None:
    planned = lab.planned(0)
    record = None if status is None else replace(new_record(planned.trial, at=now()), status=status)
    found = state_of(
        planned,
        record,
        TrialRequest(hold=hold, by="me@here"),
        is_complete=is_complete,
        is_worked_on=lambda: is_worked_on,
    )
    is_open = status in (Status.RUNNING, Status.TRAINED)
    resting = {Status.DONE: "partial", Status.FAILED: "failed", Status.STOPPED: "stopped"}
    if is_complete and not is_open:
        expected = "done"
    elif is_worked_on:
        expected = "running"
    elif hold is not None:
        expected = hold
    elif is_open:
        expected = "interrupted"
    else:
        expected = resting.get(status, "waiting") if status is not None else "waiting"
    assert found.state == expected
    assert found.reason
    assert "\n" not in found.reason
    assert found.state in STATES


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Path, Plan]:
    """A finished sweep of base and one seed, with its file, to be copied and spoiled."""
    lab = Lab(tmp_path_factory.mktemp("finished"))
    file = lab.experiment("{seeds: [0]}")
    plan = make_plan(load_sweep(file))
    with pytest.MonkeyPatch.context() as patch:
        from fake_trainer import open_fake_sampler

        patch.setattr("orchestrator.trial.attempt.open_sampler", open_fake_sampler)
        lab.store.plans.save(plan)
        for planned in plan.entries:
            run_trial(planned, lab.store, context=lab.context())
    return lab, file, plan


load_once = functools.cache(load_sweep)
"""An experiment file composed once: the commands are asked a hundred times about the same one."""


@pytest.mark.parametrize(
    ("status", "hold", "files", "is_locked"), [*itertools.product(Status, HOLDS, FILES, (False, True))]
)
def test_every_command_says_the_same(
    finished: tuple[Lab, Path, Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: Status,
    hold: Hold | None,
    files: str,
    is_locked: bool,
) -> None:
    monkeypatch.setattr("orchestrator.config.spec.load_sweep", load_once)
    lab, file, plan = finished
    store = Store(tmp_path / "runs")
    shutil.copytree(lab.store.root, store.root)
    planned = plan.entries[1]
    spoil(store, planned.trial.id, status, files)
    if hold is not None:
        (Requests(store.root, now=now).pause if hold == "paused" else Requests(store.root, now=now).cancel)(
            planned.trial.id
        )
    if not is_locked:
        ask_everybody(store, plan, file)
        return
    with Store(store.root).lock(planned.trial.id):
        ask_everybody(store, plan, file)


def spoil(store: Store, trial_id: str, status: Status, files: str) -> None:
    """Put a record into a status, with or without its score, or remove all of the trial."""
    if files == "gone":
        shutil.rmtree(store.trial_folder(trial_id))
        return
    record = store.read(trial_id)
    scores: Any = {} if files == "whole" else {"scores": ()}
    with store.lock(trial_id):
        store.write(replace(record, status=status, **scores))


def ask_everybody(store: Store, plan: Plan, file: Path) -> None:
    """All that speak of the plan's second trial agree on its state."""
    planned = plan.entries[1]
    (row,) = SweepView(store, [planned], data_folder=None).rows()
    state = row.state

    at = ["--store", str(store.root)]
    planned_as = orch_json("plan", str(file), *at, "--json")["trials"][1]
    assert (planned_as["state"], planned_as["reason"]) == (state, row.why)
    status_row = orch_json("status", plan.experiment, *at, "--json")["experiments"][0]["trials"][1]
    assert status_row["state"] == state
    would_run = [one["id"] for one in orch_json("sweep", str(file), *at, "--dry-run", "--json")["would_run"]]
    assert would_run == ([planned.trial.id] if state in TO_RUN or state == "running" else [])

    stage = stage_of(TrialQueue(plan, store, QueueSettings()), planned.trial.id)
    assert stage == {"done": "over", "running": "elsewhere", **dict.fromkeys(UNDO, "held")}.get(state, "ready")

    record = store.find(planned.trial.id)
    cell = frame(store, plan.experiment).iloc[1]["state"]
    assert cell in cells_of(state, record)
    seen = trial_view(planned, record, experiment=plan.experiment, state=state)
    assert seen.tags["orch.status"] == state


def cells_of(state: str, record: RunRecord | None) -> tuple[str, ...]:
    """What a table may say of a benchmark of a trial: a score that is there is shown whatever follows."""
    if record is not None and record.scores:
        return ("scored",)
    if state in ("paused", "cancelled", "stopped"):
        return ("stopped",)
    return (state,) if state in ("failed", "running") else ("missing",)


def stage_of(queue: TrialQueue, trial_id: str) -> str:
    reasons = {one: waiting.wait.reason for waiting in queue.waiting() for one in waiting.trials}
    if reasons.get(trial_id) == "another process works on it":
        return "elsewhere"
    if any(planned.trial.id == trial_id for planned in queue.to_start):
        return "ready"
    return "held" if trial_id in reasons else "over"


def orch_json(*words: str) -> Any:
    done = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_what_is_cancelled_is_not_promised(finished: tuple[Lab, Path, Plan], tmp_path: Path) -> None:
    """A finished store, one trial's folder deleted, the trial cancelled: the sweep says what gives it back."""
    lab, file, plan = finished
    store = Store(tmp_path / "runs")
    shutil.copytree(lab.store.root, store.root)
    trial_id = plan.entries[1].trial.id
    shutil.rmtree(store.trial_folder(trial_id))
    Requests(store.root, now=now).cancel(trial_id)
    at = ["--store", str(store.root)]
    said = {
        "plan": CliRunner().invoke(app, ["plan", str(file), *at]).stdout,
        "status": CliRunner().invoke(app, ["status", plan.experiment, *at]).stdout,
        "dry run": CliRunner().invoke(app, ["sweep", str(file), *at, "--dry-run"]).stdout,
    }
    swept = CliRunner().invoke(app, ["sweep", str(file), *at, "--no-mlflow"])
    assert all("1 cancelled" in text or "cancelled: " in text for text in said.values()), said
    assert "0 of 2 trials would run" in said["dry run"]
    assert (swept.exit_code, swept.stderr) == (3, "")
    assert "2 trials: 1 done, 1 cancelled; nothing to do" in swept.stdout
    assert "run the same command again" not in swept.stdout
    for text in (said["dry run"], swept.stdout):
        assert f"cancelled: orch ctl requeue {trial_id}" in text
    CliRunner().invoke(app, ["ctl", "requeue", trial_id, *at])
    assert orch_json("sweep", str(file), *at, "--dry-run", "--json")["would_run"][0]["id"] == trial_id
