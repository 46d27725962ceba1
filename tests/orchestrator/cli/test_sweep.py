import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import Lab

HEAVY = ("ray", "torch", "mlflow", "transformers")
ORCH = "import sys; from orchestrator.cli import main; sys.argv = ['orch', *sys.argv[1:]]; main()"


@pytest.fixture
def experiment(lab: Lab) -> Path:
    """An experiment file over the fake trainer, the laboratory's model and its benchmark."""
    return lab.experiment("{seeds: [0, 1]}")


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORCH_STORE", "ORCH_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Swept:
    """A sweep of two seeds that has ended, to be looked at."""

    lab: Lab
    experiment: Path
    done: "subprocess.CompletedProcess[str]"


def swept(root: Path, *arguments: str, **environment: str) -> Swept:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ORCH_STORE", "ORCH_CACHE_DIR"):
            patch.delenv(name, raising=False)
        lab = Lab(root)
        experiment = lab.experiment("{seeds: [0, 1]}")
        return Swept(lab, experiment, sweep(lab, experiment, *arguments, **environment))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    return swept(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def with_a_failure(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The second seed fails at its third step."""
    return swept(tmp_path_factory.mktemp("failure"), FAKE_FAIL="1@3")


def orch(lab: Lab, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ORCH, *arguments],
        capture_output=True,
        text=True,
        cwd=lab.root,
        env=lab.environment(**environment),
        timeout=120,
    )


def sweep(lab: Lab, experiment: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return orch(lab, "sweep", str(experiment), "--no-mlflow", *arguments, **environment)


def test_a_sweep_prints_changes_a_table_and_what_to_do_next(finished: Swept) -> None:
    done = finished.done
    assert done.returncode == 0, done.stderr
    assert "tiny: 3 trials: 3 done" in done.stdout
    assert "bench0" in done.stdout
    assert "orch table tiny --format md" in done.stdout


def test_the_same_command_again_finds_nothing_to_do_and_loads_nothing_heavy(finished: Swept) -> None:
    code = f"""
import sys
from orchestrator.cli import app
sys.argv = ['orch', 'sweep', {str(finished.experiment)!r}, '--no-mlflow']
try:
    app()
except SystemExit as end:
    assert end.code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    lab = finished.lab
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=lab.root, env=lab.environment()
    )
    assert "tiny: 3 trials: 3 done; nothing to do" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_a_dry_run_writes_nothing(lab: Lab, experiment: Path) -> None:
    done = sweep(lab, experiment, "--dry-run")
    assert done.stdout.splitlines()[-1] == "tiny: 3 of 3 trials would run"
    assert not (lab.root / "runs").exists()
    as_json = json.loads(sweep(lab, experiment, "--dry-run", "--json").stdout)
    assert [trial["label"] for trial in as_json["would_run"]] == ["base", "seed 0", "seed 1"]


def test_failed_trials_exit_1_with_their_last_log_lines(with_a_failure: Swept) -> None:
    done = with_a_failure.done
    assert done.returncode == 1
    assert "failed: RuntimeError: asked to fail at step 3" in done.stderr
    assert "  class: unknown; read the log: orch logs TRIAL\n" in done.stderr
    assert "  | RuntimeError: asked to fail at step 3" in done.stderr
    assert "  log: orch logs " in done.stderr
    assert "3 trials: 2 done, 1 failed; run the same command again to finish the rest" in done.stdout


def test_json_goes_to_standard_output_alone(lab: Lab, experiment: Path) -> None:
    done = sweep(lab, experiment, "--json", FAKE_FAIL="1@3")
    payload = json.loads(done.stdout)
    assert (payload["exit_code"], done.returncode) == (1, 1)
    assert payload["counts"] == {"done": 2, "failed": 1}
    assert [trial["state"] for trial in payload["trials"]] == ["done", "done", "failed"]
    assert payload["trials"][1]["scores"].keys() == {"bench0"}
    assert "3 trials" in done.stderr
    assert "trained seed 0" in done.stderr


def start_slow_sweep(lab: Lab, experiment: Path, **environment: str) -> "subprocess.Popen[str]":
    """A sweep whose first trained trial has begun."""
    command = [sys.executable, "-c", ORCH, "sweep", str(experiment), "recipe.steps=20000", "--no-mlflow"]
    driver = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=lab.root,
        env=lab.environment(FAKE_STEP_S="0.01", **environment),
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not any(lab.store.metrics(trial_id) for trial_id in lab.store.trial_ids()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return driver


def test_an_interrupted_sweep_exits_130_and_says_how_to_go_on(lab: Lab, experiment: Path) -> None:
    driver = start_slow_sweep(lab, experiment)
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "1 stopped" in output
    assert "run the same command again" in output


def test_a_second_interrupt_ends_a_trial_in_this_process_that_does_not_listen(lab: Lab, experiment: Path) -> None:
    driver = start_slow_sweep(lab, experiment, FAKE_DEAF="1")
    os.killpg(driver.pid, signal.SIGINT)
    time.sleep(0.5)
    assert driver.poll() is None
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "killed; trials resume from their last checkpoint" in output
    assert "Traceback" not in output


def test_a_mistake_in_the_file_exits_2_before_anything_is_written(lab: Lab, experiment: Path) -> None:
    done = sweep(lab, experiment, "recipe.stepz=3")
    assert done.returncode == 2
    assert "stepz" in done.stderr
    assert "steps" in done.stderr
    assert not (lab.root / "runs").exists()


def test_status_reads_the_store_while_and_after_a_sweep(lab: Lab, with_a_failure: Swept) -> None:
    empty = orch(lab, "status")
    assert empty.returncode == 2
    assert "no experiment has been started in this runs folder" in empty.stderr
    lab = with_a_failure.lab
    text = orch(lab, "status", "tiny").stdout.splitlines()
    assert text[0].split() == ["trial", "what", "state", "bench0", "step", "reward", "ETA", "doing"]
    assert text[4] == "tiny: 3 trials: 2 done, 1 failed"
    payload = json.loads(orch(lab, "status", "--json").stdout)
    assert payload["experiments"][0]["experiment"] == "tiny"
    assert payload["experiments"][0]["counts"] == {"done": 2, "failed": 1}
    unknown = orch(lab, "status", "tyni")
    assert unknown.returncode == 2
    assert "here are: tiny" in unknown.stderr


def test_logs_print_the_last_lines_of_the_latest_attempt(with_a_failure: Swept) -> None:
    lab = with_a_failure.lab
    failed = next(record.trial.id for record in lab.store.list() if record.failure)
    done = orch(lab, "logs", failed[:6], "-n", "1")
    assert done.stdout == f"{lab.store.log_tail(failed, 1, lines=1)[0]}\n"
    assert "attempt 1 ends: failed" in done.stdout
    assert "attempts/1/train.log" in done.stderr
    followed = orch(lab, "logs", failed, "--follow")
    assert followed.returncode == 0
    missing = orch(lab, "logs", failed, "--attempt", "7")
    assert missing.returncode == 2
    assert "attempts there: 1" in missing.stderr


def test_a_sweep_is_mirrored_and_caught_up(finished: Swept) -> None:
    lab = finished.lab
    database = f"sqlite:///{lab.root}/mlflow.db"
    done = orch(lab, "sweep", str(finished.experiment), "--tracking-uri", database)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    assert "orch ui tiny" in done.stdout
    assert (lab.root / "mlflow.db").exists()
