import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Lab

from dashboards.frame import frame
from orchestrator.errors import OrchError
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.sweep.control import ask, choose, read_where
from orchestrator.trial.attempt import run_trial

ORCH = "import sys; from orchestrator.cli import main; sys.argv = ['orch', *sys.argv[1:]]; main()"


@pytest.fixture
def requests(lab: Lab) -> Requests:
    lab.store.plans.save(lab.plan([None, 0, 1]))
    lab.store.plans.save(lab.plan([1, 2], experiment="other"))
    return Requests(lab.store.root, now=now)


def seeds(lab: Lab, **choice: object) -> list[int | None]:
    return [planned.trial.seed for planned in choose(lab.store, **choice)]  # type: ignore[arg-type]


def test_trials_are_chosen_by_name_and_by_what_they_have(lab: Lab, requests: Requests) -> None:
    ids = {seed: lab.planned(seed).trial.id for seed in (None, 0, 1, 2)}
    assert seeds(lab, names=[ids[0][:6], ids[0], ids[2]]) == [0, 2]
    assert seeds(lab, where=read_where(["selection=full"])) == [1, 2, 0]
    assert seeds(lab, where=read_where(["seed=0,1", "kind=train"]), experiment="test") == [0, 1]
    assert seeds(lab, where=read_where(["kind=base"]), names=[ids[1]]) == [1, None]


@pytest.mark.parametrize(
    ("choice", "what", "fix"),
    [
        ({}, "no trial is named", "--where selection=ets"),
        ({"names": ["ffffff"]}, "no trial ffffff is planned", "orch status"),
        ({"names": [""]}, "4 trials begin with", "one of: "),
        ({"where": {"selektion": ("full",)}}, "no trial has a 'selektion'", "did you mean selection?"),
        ({"where": {"selection": ("ful",)}}, "no trial has selection=ful", "did you mean full?"),
        ({"where": {"kind": ("base",), "seed": ("0",)}}, "no trial is all of kind=base seed=0", "leave one"),
    ],
)
def test_what_chooses_no_trial_is_told_with_what_there_is(
    lab: Lab, requests: Requests, choice: dict[str, object], what: str, fix: str
) -> None:
    with pytest.raises(OrchError) as raised:
        seeds(lab, **choice)
    assert what in raised.value.what
    assert fix in raised.value.fix


def test_a_mistyped_id_is_answered_with_the_nearest(lab: Lab, requests: Requests) -> None:
    trial_id = lab.planned(0).trial.id
    mistyped = trial_id[:3] + ("0" if trial_id[3] != "0" else "1") + trial_id[4:8]
    with pytest.raises(OrchError) as raised:
        choose(lab.store, names=[mistyped])
    assert f"did you mean {trial_id}" in raised.value.fix


def test_a_verb_says_what_it_did_and_asks_for_nothing_in_vain(lab: Lab, requests: Requests) -> None:
    run_trial(lab.planned(None), lab.store, context=lab.context())
    trials = [lab.planned(None), lab.planned(0)]

    def answers(verb: str) -> list[str]:
        return [answer.what for answer in ask(verb, trials, lab.store, requests, priority=3)]  # type: ignore[arg-type]

    assert answers("resume") == ["is done", "is not paused"]
    assert answers("pause") == ["is done", "paused"]
    assert answers("pause") == ["is done", "is paused already"]
    assert answers("resume") == ["is done", "goes on from its last checkpoint"]
    assert answers("cancel") == ["is done", "cancelled"]
    assert answers("pause") == ["is done", "is cancelled already"]
    assert answers("resume") == ["is done", "is cancelled: orch ctl requeue takes it back"]
    assert answers("requeue") == ["is done", "runs again"]
    assert answers("priority") == ["is done", "has priority 3"]
    assert list(requests.all()) == [lab.planned(0).trial.id]
    assert (requests.of(lab.planned(0).trial.id).hold, requests.of(lab.planned(0).trial.id).priority) == (None, 3)


@pytest.mark.parametrize("text", ["selection", "=ets", "selection="])
def test_a_where_needs_a_trait_and_a_value(text: str) -> None:
    with pytest.raises(OrchError, match="chooses nothing"):
        read_where([text])


def orch(lab: Lab, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**lab.environment(), "ORCH_STORE": str(lab.store.root)}
    return subprocess.run(
        [sys.executable, "-c", ORCH, *arguments], capture_output=True, text=True, env=environment, timeout=60
    )


def test_the_command_line_asks_and_status_shows_it(lab: Lab, requests: Requests) -> None:
    trial_id = lab.planned(0).trial.id
    done = orch(lab, "ctl", "pause", trial_id[:5])
    assert (
        done.stdout
        == f"{trial_id}  full · seed 0: paused\n  no sweep is running: the next `orch sweep FILE` follows this\n"
    )
    shown = json.loads(orch(lab, "status", "test", "--json").stdout)
    assert shown["experiments"][0]["counts"] == {"waiting": 2, "paused": 1}
    unknown = orch(lab, "ctl", "cancel", "--where", "selection=fulll")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "did you mean full?" in unknown.stderr
    assert Path(lab.store.root / "orders" / "trials").stat().st_uid == os.getuid()


def test_a_table_shows_what_was_cancelled_as_that(lab: Lab, requests: Requests) -> None:
    ask("cancel", [lab.planned(0)], lab.store, requests)
    ask("pause", [lab.planned(1)], lab.store, requests)
    rows = frame(lab.store, "test")
    shown = {
        seed: (state, reason.partition(" by ")[0]) for seed, state, reason in rows[["seed", "state", "reason"]].values
    }
    assert (shown[0], shown[1]) == (("stopped", "cancelled"), ("stopped", "paused"))
