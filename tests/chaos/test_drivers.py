"""Drivers that are interrupted, terminated, or started twice."""

import os
import signal
import time
from collections import Counter
from random import Random

import pytest
from arena import Arena, MakeArena
from fingerprint import assert_same
from leftovers import temporary_files, temporary_folders, wait_for_none


def assert_clean(arena: Arena) -> None:
    assert temporary_files(arena.runs) == []
    assert temporary_folders(arena.temporary) == []


@pytest.mark.parametrize(
    ("number", "times", "whom"),
    [
        (signal.SIGINT, 2, "terminal"),
        pytest.param(signal.SIGTERM, 1, "driver", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 1, "driver", marks=pytest.mark.slow),
    ],
)
def test_a_driver_that_is_asked_to_stop_ends_with_130_and_everything_with_it(
    undisturbed: Arena,
    make_arena: MakeArena,
    dice: Random,
    tally: Counter[str],
    number: signal.Signals,
    times: int,
    whom: str,
) -> None:
    arena = make_arena()
    driver = arena.start()
    arena.wait_for_steps(dice.randint(1, 6))
    for _ in range(times):
        os.killpg(driver.pid, number) if whom == "terminal" else os.kill(driver.pid, number)
        time.sleep(dice.uniform(0.05, 1.0))
    assert arena.end(driver) == 130, arena.tail()
    assert wait_for_none(timeout_s=10.0) == []
    assert {record["status"] for record in arena.records().values()} <= {"done", "stopped"}
    arena.finish()
    assert_same(arena, undisturbed)
    assert_clean(arena)
    tally[f"drivers stopped by {times} × {number.name}"] += 1


@pytest.mark.slow
def test_two_drivers_of_one_sweep_run_each_trial_once(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str]
) -> None:
    arena = make_arena()
    drivers = [arena.start()]
    time.sleep(dice.uniform(0.0, 4.0))
    drivers.append(arena.start())
    statuses = sorted(arena.end(driver) for driver in drivers)
    assert statuses[0] == 0, arena.tail()
    assert statuses[1] in (0, 2), arena.tail()
    assert all(len(record["attempts"]) == 1 for record in arena.records().values())
    assert_same(arena, undisturbed)
    assert_clean(arena)
    tally["sweeps with two drivers"] += 1
