import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest
from lab import Lab

from orchestrator.errors import PlanError, StoreError
from orchestrator.status.rows import SweepView
from orchestrator.store.record import Outcome, Status
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.sweep.backends import SchedulerName, open_scheduler
from orchestrator.sweep.driver import summary_line
from orchestrator.sweep.queue import QueueSettings, TrialQueue
from orchestrator.trial.stop import StopSignal, stop_file
from orchestrator.trial.supervisor import WorkerSettings


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def undisturbed_results(lab: Lab, seeds: list[int | None]) -> object:
    other = Lab(lab.root / "undisturbed")
    other.model, other.steps, other.checkpoint_every = lab.model, lab.steps, lab.checkpoint_every
    other.sweep(other.plan(seeds))
    return other.results()


def test_a_sweep_runs_everything_once_and_then_has_nothing_to_do(lab: Lab) -> None:
    plan = lab.plan([None, 0, 1])
    outcome = lab.sweep(plan)
    assert (outcome.exit_code, outcome.num_started) == (0, 3)
    assert [row.state for row in outcome.rows] == ["done", "done", "done"]
    again = lab.sweep(plan)
    assert (again.exit_code, again.num_started) == (0, 0)
    assert all(len(record.attempts) == 1 for record in lab.store.list())
    assert lab.store.plans.read("test") == plan
    assert summary_line(again.rows) == "3 trials: 3 done"


def test_a_failed_trial_does_not_stop_its_siblings_and_is_retried(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    outcome = lab.sweep(lab.plan([0, 1]))
    assert outcome.exit_code == 1
    assert [row.state for row in outcome.rows] == ["failed", "done"]
    assert outcome.failed[0].failure == "RuntimeError: asked to fail at step 3"
    monkeypatch.delenv("FAKE_FAIL")
    again = lab.sweep(lab.plan([0, 1]))
    assert (again.exit_code, again.num_started) == (0, 1)
    assert lab.results() == undisturbed_results(lab, [0, 1])


def test_a_trial_shared_by_two_sweeps_runs_once(lab: Lab) -> None:
    lab.sweep(lab.plan([None, 0], experiment="first"))
    outcome = lab.sweep(lab.plan([None, 0, 1], experiment="second"))
    assert outcome.num_started == 1
    assert [len(record.attempts) for record in lab.store.list()] == [1, 1, 1]
    assert lab.store.plans.names() == ("first", "second")


def test_a_sweep_waits_for_a_trial_that_another_process_runs(lab: Lab) -> None:
    planned = lab.planned(0)
    script = (
        "import sys, time; from pathlib import Path; from orchestrator.store.store import Store\n"
        "with Store(Path(sys.argv[1])).lock(sys.argv[2]): print('held', flush=True); time.sleep(3)"
    )
    command = [sys.executable, "-c", script, str(lab.store.root), planned.trial.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        outcome = lab.sweep(lab.plan([0, 1]))
    assert [row.state for row in outcome.rows] == ["done", "done"]


def test_a_second_driver_of_the_same_plan_is_refused(lab: Lab) -> None:
    plan = lab.plan([0])
    lab.store.plans.save(plan)
    with lab.store.sweep_lock("test"), pytest.raises(StoreError, match="another `orch sweep` is driving test"):
        lab.sweep(plan)


def test_a_changed_plan_is_handed_to_the_driver_that_runs(lab: Lab) -> None:
    lab.steps = 60
    driver = start_driver(lab, [0, 1], "inline", FAKE_STEP_S="0.05")
    wait_until(lambda: num_metrics(lab) >= 5)
    outcome = lab.sweep(lab.plan([0, 2]))
    assert (outcome.exit_code, outcome.handed_to) == (0, f"process {driver.pid} on {socket.gethostname()}")
    assert driver.wait(60) == 0, (lab.root / "driver.log").read_text()
    assert "event: the plan has changed: 1 trials more, 1 fewer\n" in (lab.root / "driver.log").read_text()
    assert {record.trial.seed: record.status for record in lab.store.list()} == {0: Status.DONE, 2: Status.DONE}
    assert lab.sweep(lab.plan([0, 2])).num_started == 0


@pytest.mark.slow
def test_orders_are_followed_while_a_sweep_runs(lab: Lab) -> None:
    lab.steps, lab.checkpoint_every = 100, 1000
    requests = Requests(lab.store.root, now=now)
    paused, cancelled, kept = (lab.planned(seed).trial.id for seed in (0, 1, 2))
    driver = start_driver(lab, [0, 1, 2], "ray_tune", FAKE_STEP_S="0.05")
    wait_until(lambda: num_metrics(lab) >= 10)
    requests.cancel(cancelled)
    requests.pause(paused)
    wait_until(lambda: lab.store.find(paused) is not None and lab.store.read(paused).status is Status.STOPPED)
    (row,) = SweepView(lab.store, [lab.planned(0)], data_folder=None).rows()
    assert (row.state, row.reason.partition(" by ")[0]) == ("paused", "paused")
    wait_until(lambda: len(lab.store.metrics(kept)) >= 5)
    requests.resume(paused)
    assert driver.wait(120) == 3, (lab.root / "driver.log").read_text()
    rows = SweepView(lab.store, lab.plan([0, 1, 2]).entries, data_folder=None).rows()
    assert [row.state for row in rows] == ["done", "cancelled", "done"]
    requests.requeue(cancelled, num_attempts=1)
    assert lab.sweep(lab.plan([0, 1, 2])).exit_code == 0
    assert lab.results() == undisturbed_results(lab, [0, 1, 2])


def test_a_drained_sweep_finishes_what_runs_and_goes_on_when_that_is_undone(lab: Lab) -> None:
    lab.steps = 40
    requests = Requests(lab.store.root, now=now)
    driver = start_driver(lab, [0, 1], "inline", FAKE_STEP_S="0.03")
    wait_until(lambda: num_metrics(lab) >= 5)
    requests.drain("test")
    assert driver.wait(60) == 130, (lab.root / "driver.log").read_text()
    assert [record.status for record in lab.store.list()] == [Status.DONE]
    again = lab.sweep(lab.plan([0, 1]))
    assert (again.exit_code, [row.state for row in again.rows]) == (130, ["done", "waiting"])
    requests.undo_drain("test")
    assert lab.sweep(lab.plan([0, 1])).exit_code == 0


def test_a_stop_request_ends_the_sweep_with_130_and_it_resumes(lab: Lab) -> None:
    plan = lab.plan([0, 1])
    stop = StopSignal(stop_file(lab.store.root, "test"))
    stop.request()
    outcome = lab.sweep(plan, stop=stop)
    assert outcome.exit_code == 130
    assert [row.state for row in outcome.rows] == ["waiting", "waiting"]
    assert lab.sweep(plan).exit_code == 0


def test_nothing_to_do_needs_no_permission_to_write(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = lab.plan([None, 0])
    lab.sweep(plan)

    def refuse(*arguments: object) -> None:
        raise AssertionError("something was written")

    monkeypatch.setattr("orchestrator.store.files.write_atomically", refuse)
    monkeypatch.setattr("orchestrator.store.store.Store.check_writable", refuse)
    assert lab.sweep(plan).num_started == 0


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("evaluation", "engine", "openai", "through an endpoint, which serves no checkpoints"),
        ("evaluation", "engine", "vllm", "by vllm, which is not installed"),
    ],
)
def test_what_cannot_end_well_is_refused_before_it_starts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, section: str, key: str, value: object, message: str
) -> None:
    monkeypatch.setattr("orchestrator.sweep.driver.find_spec", lambda name: None)
    plan = lab.plan([0])
    changed = replace(getattr(plan.entries[0], section), **{key: value})
    entry = replace(plan.entries[0], **{section: changed})
    with pytest.raises(PlanError, match=message) as raised:
        lab.sweep(replace(plan, entries=(entry,)))
    assert raised.value.where.endswith(key)
    assert lab.store.trial_ids() == ()


def start_driver(
    lab: Lab, seeds: list[int | None], scheduler: SchedulerName, **environment: str
) -> subprocess.Popen[bytes]:
    command = lab.driver_command(lab.plan(seeds), scheduler)
    with (lab.root / "driver.log").open("ab") as log:
        return subprocess.Popen(
            command, env=lab.environment(**environment), stdout=log, stderr=log, start_new_session=True
        )


def num_metrics(lab: Lab) -> int:
    return sum(len(lab.store.metrics(trial_id)) for trial_id in lab.store.trial_ids())


def processes_of(lab: Lab) -> list[psutil.Process]:
    """Workers of this laboratory's runs folder that are alive."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if "orchestrator.trial.worker" in line and str(lab.store.root) in line and process.info["status"] != "zombie":
            found.append(process)
    return found


def test_after_kill_nine_of_an_inline_driver_only_the_rest_is_run(lab: Lab) -> None:
    lab.steps = 20
    driver = start_driver(lab, [None, 0, 1], "inline", FAKE_STEP_S="0.02")
    wait_until(lambda: num_metrics(lab) >= 30)
    driver.kill()
    driver.wait()
    done_before = {record.trial.id for record in lab.store.list() if record.status is Status.DONE}
    assert len(done_before) == 2
    assert lab.sweep(lab.plan([None, 0, 1])).num_started == 1
    assert lab.results() == undisturbed_results(lab, [None, 0, 1])


def test_a_sweep_through_ray_equals_one_in_this_process(lab: Lab) -> None:
    driver = start_driver(lab, [None, 0, 1, 2], "ray_tune", FAKE_FAIL="1@3")
    assert driver.wait(120) == 1, (lab.root / "driver.log").read_text()
    states = {record.trial.seed: record.status for record in lab.store.list()}
    assert states == {None: Status.DONE, 0: Status.DONE, 1: Status.FAILED, 2: Status.DONE}
    assert (lab.root / "driver.log").read_text() == f"event: preparing {lab.model}\nevent: starting 4 trials\n"
    lab.sweep(lab.plan([None, 0, 1, 2]))
    assert lab.results() == undisturbed_results(lab, [None, 0, 1, 2])
    record = lab.store.read(lab.planned(0).trial.id)
    assert record.attempts[0].provenance.argv == ("orch", "sweep", "test.yaml")
    assert "trained seed 0" in lab.store.log_file(record.trial.id, 1).read_text()


@pytest.mark.slow
def test_interrupting_a_ray_driver_checkpoints_its_trials_and_exits_130(lab: Lab) -> None:
    lab.steps, lab.checkpoint_every = 500, 1000
    driver = start_driver(lab, [0, 1], "ray_tune", FAKE_STEP_S="0.02")
    wait_until(lambda: num_metrics(lab) >= 20)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: Ray's own processes get it too
    assert driver.wait(60) == 130, (lab.root / "driver.log").read_text()
    assert processes_of(lab) == []
    records = [record for record in lab.store.list() if record.attempts]
    assert {record.status for record in records} == {Status.STOPPED}
    for record in records:
        assert (lab.store.checkpoint_folder(record.trial.id) / "latest.json").exists()
    lab.sweep(lab.plan([0, 1]))
    assert lab.results() == undisturbed_results(lab, [0, 1])


@pytest.mark.slow
def test_interrupting_twice_kills_trials_that_do_not_listen(lab: Lab) -> None:
    lab.steps = 100_000
    driver = start_driver(lab, [0, 1], "ray_tune", FAKE_STEP_S="0.02", FAKE_DEAF="1")
    wait_until(lambda: num_metrics(lab) >= 10)
    for _ in range(2):
        os.killpg(driver.pid, signal.SIGINT)
        time.sleep(1.0)
    assert driver.wait(60) == 130, (lab.root / "driver.log").read_text()
    assert processes_of(lab) == []
    assert {record.attempts[-1].outcome for record in lab.store.list()} == {Outcome.INTERRUPTED}


@pytest.mark.slow
def test_kill_nine_of_a_ray_driver_leaves_no_process_and_the_next_sweep_finishes(lab: Lab) -> None:
    lab.steps = 200
    driver = start_driver(lab, [0, 1, 2], "ray_tune", FAKE_STEP_S="0.02")
    wait_until(lambda: num_metrics(lab) >= 20)
    driver.kill()
    driver.wait()
    wait_until(lambda: processes_of(lab) == [], timeout_s=30)
    assert lab.sweep(lab.plan([0, 1, 2])).exit_code == 0
    assert lab.results() == undisturbed_results(lab, [0, 1, 2])


@pytest.mark.slow
def test_kill_nine_of_a_worker_fails_that_trial_alone(lab: Lab) -> None:
    lab.steps = 100
    driver = start_driver(lab, [0, 1], "ray_tune", FAKE_STEP_S="0.02")
    wait_until(lambda: num_metrics(lab) >= 10)
    victim = processes_of(lab)[0]
    trial_id = victim.cmdline()[victim.cmdline().index("--trial") + 1]
    victim.kill()
    assert driver.wait(120) == 1, (lab.root / "driver.log").read_text()
    record = lab.store.read(trial_id)
    assert record.failure is not None
    assert record.failure.kind == "ProcessDied"
    assert "killed by SIGKILL" in record.failure.message
    assert lab.sweep(lab.plan([0, 1])).num_started == 1
    assert [attempt.outcome for attempt in lab.store.read(trial_id).attempts] == [Outcome.FAILED, Outcome.DONE]
    assert lab.results() == undisturbed_results(lab, [0, 1])


@pytest.mark.slow
def test_a_supervisor_that_cannot_work_says_why(lab: Lab) -> None:
    plan = lab.plan([0])
    stop = StopSignal(stop_file(lab.store.root, plan.experiment))
    events: list[str] = []

    def note(event: str) -> None:
        events.append(event)
        stop.request()

    workers = WorkerSettings(
        store_root=lab.root / "not mounted",
        experiment=plan.experiment,
        cache_folder=lab.root / "models",
        data_folder=None,
        argv=("orch", "test"),
        stop_file=stop.path,
        working_folder=lab.root,
        python_path=lab.environment()["PYTHONPATH"],
    )
    queue = TrialQueue(plan, lab.store, QueueSettings(on_event=note))
    open_scheduler("ray_tune", address=None).run(queue, workers, stop)
    (event,) = events
    assert "could not begin: no experiment named test in the runs folder (node " in event
    assert not workers.store_root.exists()


@pytest.mark.slow
def test_a_record_that_does_not_read_for_a_while_is_waited_for(lab: Lab) -> None:
    driver = start_driver(lab, [0, 1], "ray_tune", FAKE_STEP_S="0.02")
    record = lab.store.trial_folder(lab.planned(0).trial.id) / "record.json"

    def stands_at(status: Status) -> bool:
        kept = lab.store.find(lab.planned(0).trial.id)
        return kept is not None and kept.status is status

    wait_until(lambda: stands_at(Status.RUNNING))
    driver.send_signal(signal.SIGSTOP)  # so that it cannot look before the record is away
    wait_until(lambda: stands_at(Status.DONE))
    aside = record.rename(record.with_suffix(".aside"))
    record.mkdir()
    driver.send_signal(signal.SIGCONT)
    wait_until(lambda: "is set aside" in (lab.root / "driver.log").read_text())
    wait_until(lambda: lab.store.find(lab.planned(1).trial.id) is not None)
    record.rmdir()
    aside.rename(record)
    assert driver.wait(60) == 0, (lab.root / "driver.log").read_text()
    assert lab.results() == undisturbed_results(lab, [0, 1])


@pytest.mark.slow
def test_a_trial_larger_than_every_node_is_refused_before_it_starts(lab: Lab) -> None:
    lab.num_cpus = 4096
    driver = start_driver(lab, [0], "ray_tune")
    assert driver.wait(60) == 1
    message = (lab.root / "driver.log").read_text()
    assert "asks for 4096 CPU, and no node has that" in message
    assert "cluster.num_cpus" in message


def test_two_sweeps_at_once_share_a_trial(lab: Lab) -> None:
    lab.steps = 50
    first = start_driver(lab, [None, 0, 1], "inline", FAKE_STEP_S="0.02")
    wait_until(lambda: num_metrics(lab) >= 5)
    command = lab.driver_command(lab.plan([1, 0], experiment="second"), "inline")
    second = subprocess.run(command, env=lab.environment(FAKE_STEP_S="0.02"), capture_output=True, timeout=120)
    assert (first.wait(60), second.returncode) == (0, 0)
    assert [len(record.attempts) for record in lab.store.list()] == [1, 1, 1]
    assert lab.results() == undisturbed_results(lab, [None, 0, 1])


def test_a_worker_stops_when_its_parent_is_gone(lab: Lab) -> None:
    lab.steps, lab.checkpoint_every = 100_000, 1_000_000
    planned = lab.planned(0)
    lab.store.plans.save(lab.plan([0]))
    script = (
        "import os, subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-m', 'orchestrator.trial.worker', *sys.argv[1:],"
        " '--parent', str(os.getpid())],"
        " start_new_session=True); sys.stdin.read()"
    )
    arguments = ["--store", str(lab.store.root), "--sweep", "test", "--trial", planned.trial.id]
    arguments += ["--cache-dir", str(lab.root / "models")]
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=lab.environment(FAKE_STEP_S="0.01"), stdin=subprocess.PIPE
    )
    wait_until(lambda: num_metrics(lab) >= 5)
    parent.kill()
    parent.communicate()
    wait_until(lambda: processes_of(lab) == [], timeout_s=30)
    assert lab.store.read(planned.trial.id).status is Status.STOPPED


def test_the_full_disk_of_a_trial_is_told_and_mended_by_the_next_sweep(lab: Lab) -> None:
    lab.steps = 200
    script = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = lab.driver_command(lab.plan([0]), "inline")
    limited = [command[0], "-c", script, *command[1:]]
    done = subprocess.run(limited, env=lab.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    record = lab.store.read(lab.planned(0).trial.id)
    assert record.failure is not None
    assert "File too large" in record.failure.message
    assert lab.sweep(lab.plan([0])).exit_code == 0
    assert lab.results() == undisturbed_results(lab, [0])
