import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.codec import encode
from orchestrator.store import progress as progress_module
from orchestrator.store.progress import Progress, ProgressWriter, read_progress
from orchestrator.store.redact import now


def written(path: Path) -> Progress:
    found = read_progress(path)
    assert found is not None
    return found


def test_progress_is_there_at_once_and_keeps_reward_through_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "THROTTLE_S", 0.0)
    path = tmp_path / "progress.json"
    writer = ProgressWriter(path, attempt=2, now=now)
    assert (written(path).phase, written(path).attempt, written(path).pid) == ("start", 2, os.getpid())
    writer.complete_step(3, total=40, reward=0.25)
    assert (written(path).step, written(path).total, written(path).reward, written(path).eta_s) == (3, 40, 0.25, None)
    writer.complete_step(4, total=40, reward=0.5)
    eta_s = written(path).eta_s
    assert eta_s is not None
    assert 0.0 <= eta_s < 36.0
    writer.enter("evaluate arithmetic", step=10, total=64, unit="sample")
    assert (written(path).phase, written(path).unit, written(path).reward) == ("evaluate arithmetic", "sample", 0.5)
    assert os.listdir(tmp_path) == ["progress.json"]


def test_progress_is_throttled_and_complete_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    writer = ProgressWriter(path, attempt=1, now=now)
    with writer.heartbeat():
        for step in range(1, 101):
            writer.complete_step(step, total=100, reward=0.0)
        assert written(path).step < 100
    assert written(path).step == 100


def test_a_folder_that_vanished_does_not_disturb_the_trial(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    writer = ProgressWriter(folder / "progress.json", attempt=1, now=now)
    (folder / "progress.json").unlink()
    folder.rmdir()
    with writer.heartbeat():
        writer.enter("sample", step=0, total=1)
    assert read_progress(folder / "progress.json") is None


def test_a_garbled_progress_file_reads_as_none(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    for text in ("", "{", "[]", '{"phase": 1}'):
        path.write_text(text)
        assert read_progress(path) is None


def test_life_is_told_by_the_process_here_and_by_the_clock_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    ProgressWriter(path, attempt=1, now=now)
    here = written(path)
    assert here.is_alive()
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert not replace(here, pid=done.pid).is_alive()
    assert replace(here, host="elsewhere", pid=1).is_alive()
    assert not replace(here, host="elsewhere", pid=1, updated_at="2020-01-01T00:00:00.000Z").is_alive()


def test_a_process_that_is_dead_but_not_reaped_is_not_alive(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    ProgressWriter(path, attempt=1, now=now)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert not replace(written(path), pid=child).is_alive()
    finally:
        os.waitpid(child, 0)


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    ProgressWriter(path, attempt=1, now=now)
    assert json.loads(path.read_text()) == encode(written(path))
