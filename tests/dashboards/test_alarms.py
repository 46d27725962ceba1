from dataclasses import replace
from pathlib import Path

import pytest
from made_up import MadeUp

from dashboards.frame import frame
from dashboards.render import render
from dashboards.report.site import Request, write_report
from dashboards.table import table
from orchestrator.config.blocks import GuardAction
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.alarm import Alarm
from orchestrator.store.record import Outcome, Status


def speak(made: MadeUp, planned: PlannedTrial, action: GuardAction) -> str:
    """Put an alarm on record; one that acts has stopped the trial."""
    record = made.store.read(planned.trial.id)
    alarm = Alarm(guard="entropy", action=action, step=40, value=0.08, limit=0.1, at="2026-01-01T00:00:00+00:00")
    last = replace(record.attempts[-1], alarms=(alarm,))
    if action == "warn":
        made.store.write(replace(record, attempts=(last,)))
    else:
        stopped = replace(last, outcome=Outcome.STOPPED)
        made.store.write(replace(record, attempts=(stopped,), status=Status.STOPPED, scores=(), train=None))
    return alarm.text


def swept(folder: Path) -> MadeUp:
    made = MadeUp(folder, arms=(("grpo", "full"), ("grpo", "ets")), seeds=(0,))
    for number, planned in enumerate((made.base, *made.trials)):
        made.finish(planned, rate=0.3 + 0.1 * number)
    return made


def test_tables_say_what_guards_said(tmp_path: Path) -> None:
    made = swept(tmp_path)
    dense, sparse = made.trials
    warned, paused = speak(made, dense, "warn"), speak(made, sparse, "pause")
    printed = render(table(frame(made.store, "made_up")), "md", width=200)
    assert f"{dense.label}: guard {warned}" in printed
    assert f"{sparse.label}: guard {paused}" in printed
    assert f"{sparse.label}: by a guard; `orch ctl resume` goes on" in printed


@pytest.mark.slow
def test_the_page_of_a_trial_says_what_guards_said(tmp_path: Path) -> None:
    made = swept(tmp_path)
    dense = made.trials[0]
    warned = speak(made, dense, "warn")
    request = Request(experiments=("made_up",), folder=tmp_path / "site", data_folder=None)
    site = write_report(made.store, request, on_progress=lambda line: None).parent
    page = (site / "experiments" / "made_up" / "trials" / f"{dense.trial.id}.html").read_text()
    assert "What guards said" in page
    assert warned in page
