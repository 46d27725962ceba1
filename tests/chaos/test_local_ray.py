"""The Ray that `orch sweep` starts for itself dies under it: the sweep ends in time, and the next call finishes it."""

import os
import signal
from collections import Counter
from random import Random

import pytest
from arena import Arena, MakeArena, wait_until
from fingerprint import assert_same
from leftovers import descendants, temporary_files

from orchestrator.sweep.ray_watch import END_S

_WITHIN_S = END_S + 60.0
"""A loss is seen within seconds; the rest is for a busy machine and for what the mirror still sends."""
_QUICK = {
    "RAY_health_check_failure_threshold": "1",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_period_ms": "500",
}
"""So that a raylet that hangs is marked dead within seconds."""


@pytest.mark.parametrize(
    ("server", "number", "environment"),
    [
        pytest.param("raylet", signal.SIGKILL, {}, id="raylet killed", marks=pytest.mark.slow),
        pytest.param("gcs_server", signal.SIGKILL, {}, id="GCS killed", marks=pytest.mark.slow),
        pytest.param("raylet", signal.SIGSTOP, _QUICK, id="raylet hangs", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_without_its_ray_ends_and_the_same_command_finishes_it(
    undisturbed: Arena,
    make_arena: MakeArena,
    dice: Random,
    tally: Counter[str],
    server: str,
    number: signal.Signals,
    environment: dict[str, str],
) -> None:
    arena = make_arena()
    driver = arena.start(**environment)
    arena.wait_for_steps(dice.randint(1, 6))
    (victim,) = [one.pid for one in descendants(driver.pid) if one.name() == server]
    os.kill(victim, number)
    status = arena.end(driver, timeout_s=_WITHIN_S)
    log = arena.tail()
    assert status == 3, log
    assert "the local Ray of this sweep is lost: its " in log
    assert "fix: run the same command again" in log
    wait_until(lambda: descendants(os.getpid()) == [], "supervisors and trials of a lost Ray end", timeout_s=120)

    done = {trial: one["attempts"] for trial, one in arena.records().items() if one["status"] == "done"}
    assert arena.finish() == 1, arena.tail()
    assert_same(arena, undisturbed)
    assert temporary_files(arena.runs) == []
    assert {trial: arena.records()[trial]["attempts"] for trial in done} == done, "what was done is not done again"
    tally[f"kills: {server} of a sweep's own Ray, {number.name}"] += 1
