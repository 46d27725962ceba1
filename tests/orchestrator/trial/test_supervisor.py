import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab

from orchestrator.store.record import Outcome, Status
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.trial.attempt import run_trial
from orchestrator.trial.retry import FailureClass, classify
from orchestrator.trial.stop import StopSignal, read_request
from orchestrator.trial.supervisor import WorkerSettings, record_unplaced, supervise
from orchestrator.trial.worker import DONE, FAILED, LOCKED, REFUSED, STOPPED


@pytest.fixture
def settings(lab: Lab) -> WorkerSettings:
    """A kept plan of two trials, and the fakes on the workers' path."""
    lab.store.plans.save(lab.plan([0, 1]))
    return WorkerSettings(
        store_root=lab.store.root,
        experiment="test",
        cache_folder=lab.root / "models",
        data_folder=None,
        argv=("orch", "sweep", "--flag"),
        stop_file=lab.root / "stop",
        working_folder=lab.root,
        python_path=lab.environment()["PYTHONPATH"],
        grace_s=5.0,
    )


def test_a_worker_brings_a_trial_to_its_end_and_logs_to_its_file(lab: Lab, settings: WorkerSettings) -> None:
    planned = lab.planned(0)
    assert supervise(planned, settings) == DONE
    record = lab.store.read(planned.trial.id)
    assert record.status is Status.DONE
    assert record.attempts[0].provenance.argv == ("orch", "sweep", "--flag")
    log = lab.store.log_file(planned.trial.id, 1).read_text()
    assert "trained seed 0" in log
    assert f"{planned.trial.id} attempt 1 ends: done" in log
    assert supervise(planned, settings) == DONE
    assert len(lab.store.read(planned.trial.id).attempts) == 1


def test_a_failure_in_the_trial_is_the_workers_own_to_record(
    lab: Lab, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    assert supervise(lab.planned(0), settings) == FAILED
    failure = lab.store.read(lab.planned(0).trial.id).failure
    assert failure is not None
    assert failure.kind == "RuntimeError"
    assert failure.log_tail[-1] == "RuntimeError: asked to fail at step 3"


def test_a_trial_that_another_process_holds_is_left_to_it(lab: Lab, settings: WorkerSettings) -> None:
    with lab.store.lock(lab.planned(0).trial.id):
        assert supervise(lab.planned(0), settings) == LOCKED
    assert lab.store.find(lab.planned(0).trial.id) is None


def test_a_worker_that_cannot_begin_is_recorded_with_its_reason(lab: Lab, settings: WorkerSettings) -> None:
    stranger = lab.planned(7)
    assert supervise(stranger, settings) == REFUSED
    record = lab.store.read(stranger.trial.id)
    assert record.status is Status.FAILED
    assert record.failure is not None
    assert "is not in the plan of test" in record.failure.message


def test_a_worker_that_dies_before_its_first_line_is_recorded(lab: Lab, settings: WorkerSettings) -> None:
    broken = lab.root / "broken" / "orchestrator"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise SystemError('a broken installation')")
    assert supervise(lab.planned(0), replace(settings, python_path=str(broken.parent))) == 1
    failure = lab.store.read(lab.planned(0).trial.id).failure
    assert failure is not None
    assert "ended with status 1" in failure.message
    assert "a broken installation" in failure.log_tail[-1]


def run_and_stop(lab: Lab, settings: WorkerSettings, *, num_requests: int) -> int:
    """Supervise a slow trial, and ask it to stop once it has made some steps."""
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(supervise(lab.planned(0), settings)))
    thread.start()
    deadline = time.monotonic() + 30
    while len(lab.store.metrics(lab.planned(0).trial.id)) < 3:
        assert time.monotonic() < deadline, "the trial does not start"
        time.sleep(0.02)
    stop = StopSignal(settings.stop_file)
    for _ in range(num_requests):
        stop.request()
    thread.join(30)
    return status[0]


def test_a_stop_request_lets_the_worker_write_its_checkpoint(
    lab: Lab, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.steps, lab.checkpoint_every = 5000, 10_000
    lab.store.plans.save(lab.plan([0]))
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    assert run_and_stop(lab, settings, num_requests=1) == STOPPED
    assert lab.store.read(lab.planned(0).trial.id).status is Status.STOPPED
    assert (lab.store.checkpoint_folder(lab.planned(0).trial.id) / "latest.json").exists()


@pytest.mark.parametrize("num_requests", [1, 2])
def test_a_worker_that_does_not_listen_is_killed(
    lab: Lab, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, num_requests: int
) -> None:
    lab.steps, lab.checkpoint_every = 5000, 10_000
    lab.store.plans.save(lab.plan([0]))
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    monkeypatch.setenv("FAKE_DEAF", "1")
    patience_s = 0.5 if num_requests == 1 else 60.0
    started = time.monotonic()
    status = run_and_stop(lab, replace(settings, grace_s=patience_s), num_requests=num_requests)
    assert status == -signal.SIGKILL
    assert time.monotonic() - started < 20.0
    record = lab.store.read(lab.planned(0).trial.id)
    assert (record.status, record.attempts[-1].outcome) == (Status.STOPPED, Outcome.INTERRUPTED)


def test_a_worker_that_dies_after_its_last_score_leaves_the_trial_done(
    lab: Lab, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = lab.planned(0)
    record = run_trial(planned, lab.store, context=lab.context())
    opened = replace(record.attempts[0], outcome=Outcome.RUNNING, ended_at=None)
    lab.store.write(replace(record, attempts=(opened,), status=Status.TRAINED))
    dying = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr("orchestrator.trial.supervisor._command", lambda trial_id, settings: dying)
    assert supervise(planned, settings) == -signal.SIGKILL
    record = lab.store.read(planned.trial.id)
    assert (record.status, record.attempts[-1].outcome, record.failure) == (Status.DONE, Outcome.INTERRUPTED, None)


def test_a_paused_trial_writes_its_checkpoint_and_does_not_start_before_it_is_resumed(
    lab: Lab, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.steps, lab.checkpoint_every = 100_000, 1_000_000
    lab.store.plans.save(lab.plan([0]))
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    planned, requests = lab.planned(0), Requests(lab.store.root, now=now)
    pause = threading.Timer(3.0, lambda: requests.pause(planned.trial.id))
    pause.start()
    assert supervise(planned, settings) == STOPPED
    record = lab.store.read(planned.trial.id)
    assert (record.status, len(record.attempts)) == (Status.STOPPED, 1)
    assert (lab.store.checkpoint_folder(planned.trial.id) / "latest.json").exists()
    assert supervise(planned, settings) == -signal.SIGTERM
    assert len(lab.store.read(planned.trial.id).attempts) == 1


def test_what_was_never_placed_is_on_record_with_its_class(lab: Lab, settings: WorkerSettings) -> None:
    planned = lab.planned(0)
    record_unplaced(planned, settings, "no node has 16 GPU 1 CPU for 60 s")
    record = lab.store.read(planned.trial.id)
    assert record.failure is not None
    assert (record.status, classify(record.failure)) == (Status.FAILED, FailureClass.NOT_PLACED)
    assert record.failure.message == "the trial was not placed: no node has 16 GPU 1 CPU for 60 s"


def test_nothing_starts_after_a_stop_request(lab: Lab, settings: WorkerSettings) -> None:
    StopSignal(settings.stop_file).request()
    assert supervise(lab.planned(0), settings) == -signal.SIGTERM
    assert lab.store.trial_ids() == ()


def test_a_second_request_is_a_forced_one_and_closing_takes_it_back(tmp_path: Path) -> None:
    stop = StopSignal(tmp_path / "sweeps" / "stop")
    assert read_request(stop.path) == (False, False)
    stop.request()
    assert (stop.is_requested, stop.is_forced, read_request(stop.path)) == (True, False, (True, False))
    stop.request()
    assert (stop.is_forced, read_request(stop.path)) == (True, (True, True))
    stop.close()
    assert read_request(stop.path) == (False, False)


def test_a_worker_uses_the_threads_that_were_booked(lab: Lab, settings: WorkerSettings) -> None:
    lab.num_cpus = 3
    lab.store.plans.save(lab.plan([0]))
    assert supervise(lab.planned(0), settings) == DONE
    assert "threads: 3, gpus: ''" in lab.store.log_file(lab.planned(0).trial.id, 1).read_text()
