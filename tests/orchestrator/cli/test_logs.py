import os
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest
from lab import Lab
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.logs import SETTLE_S, followed
from orchestrator.status.driver import DriverReport, Wait, Waiting, report_file, write_report
from orchestrator.store.redact import now
from orchestrator.trial.attempt import run_trial


def report(lab: Lab, *, due: bool) -> None:
    """A driver that lives (this process) and starts the trial again, or has nothing to say of it."""

    wait = Wait(reason="failed for a passing reason: again", due_at="2099-01-01T00:00:00+00:00")
    own = DriverReport(
        experiment="test",
        plan_digest="",
        pid=os.getpid(),
        host=socket.gethostname(),
        started_at=now(),
        updated_at=now(),
        waiting=(Waiting(wait=wait, trials=(lab.planned(0).trial.id,)),) if due else (),
    )
    write_report(report_file(lab.store.root, "test"), own)


def follow(lab: Lab, *moments: Callable[[], object], is_single: bool = False) -> tuple[str, float]:
    """What is printed while one moment after the other passes between looks, and how long it took."""
    left, slept = list(moments), 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        if left:
            left.pop(0)()

    chunks = followed(lab.store, lab.planned(0).trial.id, 1, lines=50, is_single=is_single, sleep=sleep)
    return "".join(chunks), slept


def fail_first(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    run_trial(lab.planned(0), lab.store, context=lab.context())
    monkeypatch.delenv("FAKE_FAIL")


def test_a_trial_that_is_over_is_printed_and_left(lab: Lab) -> None:
    run_trial(lab.planned(0), lab.store, context=lab.context())
    text, slept = follow(lab)
    assert text.count("attempt 1 ends: done") == 1
    assert slept == 0.0


def test_a_failed_trial_is_followed_into_the_attempt_that_its_driver_starts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_first(lab, monkeypatch)
    report(lab, due=True)
    text, _ = follow(lab, lambda: None, lambda: run_trial(lab.planned(0), lab.store, context=lab.context()))
    order = ["attempt 1 ends: failed", "-- attempt 2", "attempt 2 starts", "attempt 2 ends: done"]
    assert [text.count(line) for line in order] == [1, 1, 1, 1]
    assert sorted(order, key=text.index) == order


def test_a_failed_trial_that_nobody_starts_again_is_over_after_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_first(lab, monkeypatch)
    assert follow(lab)[1] == 0.0
    report(lab, due=False)
    assert follow(lab)[1] == SETTLE_S


def test_an_attempt_that_was_asked_for_ends_with_itself(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_first(lab, monkeypatch)
    run_trial(lab.planned(0), lab.store, context=lab.context())
    text, _ = follow(lab, is_single=True)
    assert "attempt 1 ends: failed" in text
    assert "attempt 2" not in text


def test_a_running_trial_is_followed_line_by_line_until_it_ends(lab: Lab) -> None:
    planned = lab.planned(0)
    record = run_trial(planned, lab.store, context=lab.context())
    ghost = replace(record.attempts[0], ended_at=None)
    lab.store.write(replace(record, attempts=(ghost,), status="running"))  # type: ignore[arg-type]
    log = lab.store.log_file(planned.trial.id, 1)
    log.write_text("first\n")

    def add(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    text, _ = follow(lab, lambda: add("half a l"), lambda: add("ine\n"), lambda: lab.store.write(record))
    assert text == "first\nhalf a line\n"


def test_the_command_says_how_the_trial_stands(lab: Lab) -> None:
    run_trial(lab.planned(0), lab.store, context=lab.context())
    done = CliRunner().invoke(app, ["logs", lab.planned(0).trial.id[:6], "-f", "--store", str(lab.store.root)])
    assert done.exit_code == 0
    assert "attempt 1 ends: done" in done.output
    assert done.stderr.endswith(f"{lab.planned(0).trial.id}: done\n")
