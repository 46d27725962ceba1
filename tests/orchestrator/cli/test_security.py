"""Secrets stay where they are, control files are their owner's, and nothing listens beyond this machine."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from lab import Lab

from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.trial.attempt import run_trial
from orchestrator.trial.stop import StopSignal, stop_file

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # mlflow's own

SECRETS = {
    name: f"planted-{number:02d}-6f1c9a"
    for number, name in enumerate(
        (
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_TRACKING_TOKEN",
            "WANDB_API_KEY",
            "RAY_AUTH_TOKEN",
            "GITHUB_TOKEN",
        )
    )
}
ON_THE_LINE = "planted-on-the-line"
ARGV = (
    "orch",
    "sweep",
    "x.yaml",
    "--api-key",
    ON_THE_LINE,
    f"--token={ON_THE_LINE}",
    f"model.secret={ON_THE_LINE}",
    "--tracking-uri",
    f"https://user:{ON_THE_LINE}@mlflow.example",
)


def files_with(folder: Path, secrets: Iterator[str]) -> list[tuple[str, str]]:
    """(file, secret) of every file under a folder that holds one."""
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(contents) > 10
    return [(str(path), one) for one in secrets for path, content in contents.items() if one.encode() in content]


def test_no_secret_reaches_records_logs_metrics_or_mlflow(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.tracking.mirror import Mirror

    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FAKE_FAIL", "1@3")
    monkeypatch.setenv("FAKE_FAIL_MESSAGE", f"401 for Bearer {SECRETS['HF_TOKEN']}")
    plan = lab.plan([None, 0, 1])
    lab.store.plans.save(plan)
    for entry in plan.entries:
        run_trial(entry, lab.store, context=replace(lab.context(), argv=ARGV))
    Mirror(lab.store, "test", f"sqlite:///{lab.root / 'mlflow.db'}", tables=lambda: {"table.md": "| a |"}).sync()
    assert (lab.root / "mlflow.db").stat().st_size > 10_000
    assert files_with(lab.root, iter((*SECRETS.values(), ON_THE_LINE))) == []
    failure = lab.store.read(plan.entries[2].trial.id).failure
    assert failure is not None
    assert failure.message == "401 for Bearer ***"
    assert "401 for Bearer ***" in lab.store.log_file(plan.entries[2].trial.id, 1).read_text()
    assert "***" in (lab.store.trial_folder(plan.entries[1].trial.id) / "record.json").read_text()


def test_whatever_steers_a_driver_is_its_owners_alone(lab: Lab) -> None:
    before = os.umask(0)
    try:
        lab.store.plans.save(lab.plan([0]))
        requests = Requests(lab.store.root, now=now)
        requests.pause(lab.planned(0).trial.id)
        requests.set_priority(lab.planned(1).trial.id, 3)
        requests.drain("test")
        StopSignal(stop_file(lab.store.root, "test")).request()
    finally:
        os.umask(before)
    files = [path for path in lab.store.root.rglob("*") if path.is_file()]
    modes = {path.relative_to(lab.store.root).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in files}
    assert modes.pop("sweeps/test.json") == 0o644, "a plan is for all to read"
    assert len(modes) == 5
    assert set(modes.values()) == {0o600}
    folders = [path for path in (lab.store.root / "orders").rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_a_plan_says_whose_code_it_runs(lab: Lab) -> None:
    from orchestrator.cli.plan import _trusted

    entry = lab.planned(None)
    trusting = replace(entry, trial=replace(entry.trial, model=replace(entry.trial.model, trust_remote_code=True)))
    assert _trusted(lab.plan([None, 0])) == []
    assert _trusted(replace(lab.plan([None]), entries=(trusting,))) == [
        f"runs code that comes with {lab.model} (model.trust_remote_code)"
    ]


def listening(process: psutil.Process) -> set[tuple[str, str]]:
    """(process name, address) of every TCP socket that a process and its descendants listen on."""
    found = set()
    for one in (process, *process.children(recursive=True)):
        try:
            connections = one.net_connections(kind="tcp")
        except psutil.Error:
            continue
        found |= {(one.name(), each.laddr.ip) for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def watched(process: subprocess.Popen[str], *, seconds: float) -> set[tuple[str, str]]:
    """All that was listened on while a process ran, for so many seconds after the first socket."""
    found: set[tuple[str, str]] = set()
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if now_there := listening(psutil.Process(process.pid)) - found:
            end = min(end, time.monotonic() + seconds) if not found else end
            found |= now_there
        time.sleep(0.1)
    return found


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


@pytest.mark.slow
def test_ray_listens_on_loopback_alone(lab: Lab) -> None:
    command = lab.driver_command(lab.plan([0, 1]), "ray_tune")
    process = subprocess.Popen(command, env=lab.environment(FAKE_STEP_S="1"), text=True, stdout=subprocess.DEVNULL)
    try:
        found = watched(process, seconds=15)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert {name for name, _ in found} >= {"gcs_server", "raylet"}
    assert {one for one in found if not is_loopback(one[1])} == set()


@pytest.mark.slow
def test_mlflow_listens_on_loopback_alone(lab: Lab) -> None:
    from orchestrator.tracking.client import Tracker

    uri = f"sqlite:///{lab.root / 'mlflow.db'}"
    Tracker(uri, "test")
    command = [sys.executable, "-m", "orchestrator.cli", "ui", "--no-open", "--tracking-uri", uri]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=os.environ.copy())
    try:
        found = watched(process, seconds=10)
    finally:
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert "http://127.0.0.1:" in printed
    assert found
    assert {one for one in found if not is_loopback(one[1])} == set()


@pytest.mark.slow
def test_a_real_sweep_with_planted_tokens_writes_none_of_them(tmp_path: Path) -> None:
    """The whole command: real trainer, engine and MLflow, the tiny model untaught."""
    from trainers.models.tiny import build
    from trainers.models.tiny_spec import ARITHMETIC_TINY

    build(
        replace(ARITHMETIC_TINY, stop_at=0.0, band=(0.0, 1.0), first_check=20, check_problems=1, check_samples=1),
        tmp_path / "model",
    )
    file = Path(__file__).parents[3] / "experiments" / "smoke.yaml"
    sizes = ("recipe.steps=2", "recipe.lr_warmup_steps=0", "recipe.prompts_per_step=4", "recipe.mini_batch_prompts=4")
    sizes += ("recipe.group_size=4", "eval.limit=4", "eval.num_samples=2", "cluster.checkpoint_every=1")
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(file), "selection=gmts", "algorithm=grpo", *sizes]
    command += [f"model.path={tmp_path / 'model'}", "--scheduler", "inline"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | SECRETS, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "mlflow.db").exists()
    assert len(list(tmp_path.glob("runs/*/record.json"))) == 2
    assert files_with(tmp_path, iter(SECRETS.values())) == []
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())
    assert json.loads(next(tmp_path.glob("runs/*/record.json")).read_text())["attempts"]
