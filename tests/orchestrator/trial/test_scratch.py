import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.trial import scratch
from orchestrator.trial.scratch import scratch_folder

HOLD = """
from orchestrator.trial.scratch import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    input()
"""

AGENT = """
import sys, time
log = open(sys.argv[1], "a")
print(flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    scratch._remove_orphans.cache_clear()
    return tmp_path


def test_a_folder_goes_with_its_block(temporary: Path) -> None:
    with scratch_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(temporary: Path) -> None:
    stranger = temporary / "orch-of-someone-else"
    stranger.mkdir()
    command = [sys.executable, "-c", HOLD]
    holders = [subprocess.Popen(command, stdin=-1, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    living, killed = (Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout)
    holders[1].kill()
    holders[1].communicate()
    with scratch_folder() as folder:
        assert set(temporary.iterdir()) == {stranger, living, folder}
    assert not killed.exists()
    holders[0].communicate("\n")
    assert list(temporary.iterdir()) == [stranger]


def test_what_could_not_be_removed_is_left_to_the_next(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raylet that outlives its killed driver for a moment writes on."""
    killed = temporary / "orch-killed"
    (killed / "session").mkdir(parents=True)
    (killed / ".alive").touch()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path, ignore_errors: None)
        with scratch_folder():
            assert (killed / ".alive").exists()
    scratch._remove_orphans.cache_clear()
    with scratch_folder() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_agents_that_outlive_their_killed_ray_are_ended_and_whoever_reads_its_logs_is_not(temporary: Path) -> None:
    killed = temporary / "orch-killed"
    killed.mkdir()
    (killed / ".alive").touch()
    log = killed / "agent.log"
    log.touch()
    agent = subprocess.Popen([sys.executable, "-c", AGENT, str(log)], stdout=subprocess.PIPE)
    reader = subprocess.Popen(["tail", "-f", str(log)], stdout=subprocess.DEVNULL)
    assert agent.stdout is not None
    agent.stdout.readline()
    try:
        with scratch_folder():
            assert agent.wait(10) == -signal.SIGKILL
            assert reader.poll() is None
        assert not killed.exists()
    finally:
        agent.kill()
        reader.kill()
        agent.communicate()
        reader.wait()
