import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import SweepIncomplete
from orchestrator.sweep import ray_watch
from orchestrator.sweep.ray_watch import RayWatch

PATIENCE_S = 30.0


@pytest.fixture
def raylet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A child of this process that has the name of a raylet, and looks that come quickly."""
    for name in ("_LOOK_S", "_ASK_S", "_NO_NODE_S"):
        monkeypatch.setattr(ray_watch, name, 0.02)
    program = tmp_path / "raylet"
    program.symlink_to(sys.executable)
    with subprocess.Popen([str(program), "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        wait_until(lambda: process.pid in ray_watch._servers_below(os.getpid()))
        yield process
        process.kill()


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def run_under(watch: RayWatch, block: Callable[[], object]) -> None:
    """What a scheduler does: everything guarded, and looked after until Ray is shut down."""
    with watch.guarding(), watch.looking():
        block()


def test_a_server_that_has_ended_is_a_loss_even_before_anybody_waits_for_it(raylet: subprocess.Popen[bytes]) -> None:
    said: list[str] = []
    watch = RayWatch(count_nodes=lambda: 1, say=said.append)

    def tune() -> None:
        raylet.kill()
        wait_until(lambda: watch.lost)

    with pytest.raises(SweepIncomplete, match=f"its raylet .process {raylet.pid}. has ended") as raised:
        run_under(watch, tune)
    assert raised.value.exit_code == 3
    assert "run the same command again" in raised.value.fix
    assert said == [f"the local Ray of this sweep is lost: its raylet (process {raylet.pid}) has ended; the sweep ends"]


@pytest.mark.usefixtures("raylet")
def test_a_ray_is_lost_when_it_stays_without_a_living_node() -> None:
    answers = iter([1, 0, 1])
    watch = RayWatch(count_nodes=lambda: next(answers, 0), say=lambda line: None)
    with pytest.raises(SweepIncomplete, match="is marked dead"):
        run_under(watch, lambda: wait_until(lambda: watch.lost))
    assert next(answers, None) is None, "one look without a node is no loss"


def test_what_breaks_because_of_the_loss_is_told_as_the_loss(raylet: subprocess.Popen[bytes]) -> None:
    watch = RayWatch(count_nodes=lambda: 1, say=lambda line: None)

    def tune() -> None:
        raylet.kill()
        wait_until(lambda: watch.lost)
        raise ConnectionError("no GCS")

    with pytest.raises(SweepIncomplete) as raised:
        run_under(watch, tune)
    assert isinstance(raised.value.__cause__, ConnectionError)


def test_a_main_thread_that_hangs_in_ray_is_ended_with_the_message(raylet: subprocess.Popen[bytes]) -> None:
    said: list[str] = []
    statuses: list[int] = []
    watch = RayWatch(count_nodes=lambda: 1, say=said.append, end_process=statuses.append, end_s=0.05)

    def tune() -> None:
        raylet.kill()
        wait_until(lambda: statuses)

    with pytest.raises(SweepIncomplete):
        run_under(watch, tune)
    assert statuses == [3]
    assert said[-1].startswith("error: the local Ray of this sweep is lost")
    assert "run the same command again" in said[-1]


def test_a_ray_that_lives_disturbs_nobody_and_its_shutdown_is_no_loss(raylet: subprocess.Popen[bytes]) -> None:
    asked: list[int] = []

    def count_nodes() -> int:
        asked.append(1)
        return 1

    watch = RayWatch(count_nodes=count_nodes, say=pytest.fail)
    with watch.guarding():
        with watch.looking():
            wait_until(lambda: len(asked) >= 3)
        raylet.kill()
        raylet.wait()
        time.sleep(0.1)
    assert watch.lost == ""


def test_other_errors_pass(raylet: subprocess.Popen[bytes]) -> None:
    def tune() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_under(RayWatch(count_nodes=lambda: 1, say=pytest.fail), tune)


def test_a_ray_that_somebody_else_started_is_not_looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "_LOOK_S", 0.01)
    watch = RayWatch(count_nodes=lambda: pytest.fail("asked for nodes"), say=pytest.fail)
    run_under(watch, lambda: time.sleep(0.1))
    assert watch.lost == ""
