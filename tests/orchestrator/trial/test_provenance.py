import json
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from lab import Lab

from orchestrator.codec import encode
from orchestrator.store.redact import masked, now
from orchestrator.trial.attempt import run_trial
from orchestrator.trial.provenance import collect


def test_provenance_tells_commit_versions_and_hardware() -> None:
    found = collect(["orch", "sweep", "x.yaml"])
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    assert found.commit == commit.stdout.strip()
    assert isinstance(found.is_dirty, bool)
    assert found.versions["torch"] == metadata.version("torch")
    assert found.versions["orch"] == metadata.version("orch")
    assert found.argv == ("orch", "sweep", "x.yaml")
    assert found.hardware.num_cores >= 1
    assert found.hardware.memory_gb > 0.1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", now())


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["orch", "--store", "runs"], ("orch", "--store", "runs")),
        (["orch", "--hf-token", "hf_123"], ("orch", "--hf-token", "***")),
        (["orch", "--api-key=abc"], ("orch", "--api-key=***")),
        (["orch", "model.token=abc"], ("orch", "model.token=***")),
        (["--tracking-uri", "http://me:pass@host/x"], ("--tracking-uri", "http://me:***@host/x")),
        (["data.max_prompt_tokens=64"], ("data.max_prompt_tokens=64",)),
        (["--password", "--json"], ("--password", "--json")),
    ],
)
def test_arguments_named_like_credentials_are_starred_out(argv: list[str], shown: tuple[str, ...]) -> None:
    assert masked(argv) == shown


def test_no_secret_of_the_environment_reaches_the_runs_folder(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "planted-token-6f1c"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secret)
    monkeypatch.setenv("FAKE_FAIL", "1@3")
    for seed in (0, 1):
        run_trial(lab.planned(seed), lab.store, context=lab.context())
    assert secret not in json.dumps(encode(lab.store.list()))
    files = [path for path in lab.store.root.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
