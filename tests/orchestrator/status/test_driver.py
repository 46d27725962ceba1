import json
import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab import Lab

from orchestrator.status.driver import DriverReport, Wait, Waiting, live_drivers, read_report, report_file, write_report
from orchestrator.status.rows import SweepView
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.trial.attempt import run_trial


def report(**changes: object) -> DriverReport:
    mine = DriverReport(
        experiment="test",
        plan_digest="digest",
        pid=os.getpid(),
        host=socket.gethostname(),
        started_at=now(),
        updated_at=now(),
    )
    return replace(mine, **changes)  # type: ignore[arg-type]


def after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_report_reads_back_and_a_dead_driver_has_none(tmp_path: Path) -> None:
    path = report_file(tmp_path, "test")
    assert read_report(path) is None
    mine = report(nodes=("8 GPU 64 CPU",), waiting=(Waiting(wait=Wait(reason="paused"), trials=("a", "b")),))
    write_report(path, mine)
    assert (read_report(path), live_drivers(tmp_path)) == (mine, (mine,))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    write_report(path, replace(mine, pid=child))
    assert live_drivers(tmp_path) == ()
    elsewhere = replace(mine, host="elsewhere")
    write_report(path, elsewhere)
    assert live_drivers(tmp_path) == (elsewhere,)
    write_report(path, replace(elsewhere, updated_at=after(-60)))
    assert live_drivers(tmp_path) == ()
    path.write_text("{")
    assert live_drivers(tmp_path) == ()


def test_a_disk_that_takes_nothing_does_not_stop_a_driver(tmp_path: Path) -> None:
    (tmp_path / "drivers").write_text("a file where the folder should be")
    write_report(report_file(tmp_path, "test"), report())
    assert live_drivers(tmp_path) == ()


def test_a_wait_tells_the_time_that_is_left() -> None:
    assert Wait(reason="paused").text == "paused"
    assert Wait(reason="again", due_at=after(40.2)).text == "again in 40 s"
    assert Wait(reason="again", due_at=after(-5)).text == "again in 0 s"
    assert Wait(reason="no node has 16 GPU", deadline_at=after(1800.2)).text == "no node has 16 GPU; given up in 30 min"


def test_rows_say_what_was_asked_and_what_is_waited_for(lab: Lab) -> None:
    view = SweepView(lab.store, [lab.planned(seed) for seed in (None, 0, 1, 2)], data_folder=None)
    ids = [planned.trial.id for planned in view.trials]
    run_trial(view.trials[0], lab.store, context=lab.context())
    requests = Requests(lab.store.root, now=now)
    for trial_id in ids[:2]:
        requests.pause(trial_id)
    requests.cancel(ids[2])
    states = [(row.state, row.reason.partition(" by ")[0]) for row in view.rows()]
    assert states == [("done", ""), ("paused", "paused"), ("cancelled", "cancelled"), ("waiting", "")]
    waiting = (Waiting(wait=Wait(reason="needs 8 GPU: 4 free"), trials=(ids[3], ids[0])),)
    write_report(report_file(lab.store.root, "test"), report(waiting=waiting))
    assert [row.reason for row in view.rows()][3] == "needs 8 GPU: 4 free"
    assert [row.state for row in view.rows()] == ["done", "paused", "cancelled", "waiting"]


def test_the_report_of_ten_thousand_trials_is_small(tmp_path: Path) -> None:
    ids = tuple(f"{number:012x}" for number in range(10_000))
    write_report(report_file(tmp_path, "test"), report(waiting=(Waiting(wait=Wait(reason="its turn"), trials=ids),)))
    assert report_file(tmp_path, "test").stat().st_size < 200_000
    assert len(json.loads(report_file(tmp_path, "test").read_text())["waiting"][0]["trials"]) == 10_000
