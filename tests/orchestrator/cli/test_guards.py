"""Guards, notifications and costs by their commands, in one sweep over the fake trainer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Lab

ORCH = "import sys; from orchestrator.cli import main; sys.argv = ['orch', *sys.argv[1:]]; main()"


def orch(lab: Lab, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ORCH, *arguments],
        capture_output=True,
        text=True,
        cwd=lab.root,
        env=lab.environment(**environment),
        timeout=120,
    )


def experiment(lab: Lab) -> Path:
    return lab.experiment(
        "{seeds: [0, 1]}",
        "guards: {window: 4, reward: 1.0, pause: [reward]}",
        'notify: {command: [sh, -c, "cat >> events; echo >> events"]}',
    )


@pytest.mark.slow
def test_a_paused_and_a_failed_trial_are_told_shown_and_paid_for(lab: Lab) -> None:
    done = orch(lab, "sweep", str(experiment(lab)), "--no-mlflow", FAKE_FAIL="1@3")
    assert done.returncode == 1, done.stderr
    events = [json.loads(line) for line in (lab.root / "events").read_text().splitlines()]
    assert sorted(event["event"] for event in events) == ["failed", "finished", "guard"]
    told = {event["event"]: event["text"] for event in events}
    assert told["guard"].endswith("≤ 1 at step 4: pause")
    assert told["failed"].endswith("RuntimeError: asked to fail at step 3")
    assert told["finished"] == "tiny: 3 trials: 1 done, 1 paused, 1 failed"
    (status,) = json.loads(orch(lab, "status", "tiny", "--json").stdout)["experiments"]
    assert [row["state"] for row in status["trials"]] == ["done", "paused", "failed"]
    assert status["trials"][1]["alarms"][0].endswith("≤ 1 at step 4: pause")
    assert "≤ 1 at step 4: pause" in orch(lab, "table", "tiny").stdout
    whole = json.loads(orch(lab, "cost", "tiny", "--json").stdout)["accounts"][-1]
    assert (whole["num_trials"], whole["num_attempts"]) == (3, 3)
    assert whole["hours"]["core"]["lost"] > 0
