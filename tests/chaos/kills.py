"""Where and whom to kill: points drawn from a seed, and the kill -9 itself."""

import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import psutil
from arena import PATIENCE_S, Arena
from leftovers import descendants

Victim = Literal["driver", "trial", "supervisor", "raylet", "agent"]
_SHARES: dict[Victim, int] = {"driver": 5, "trial": 3, "supervisor": 1, "raylet": 1, "agent": 1}
"""A supervisor is the Ray actor above a trial; an agent is a helper of a raylet, which ends with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillPoint:
    """A moment and a victim."""

    victim: Victim
    driver_age_s: float
    """How long the driver has run, at least, …"""
    after_steps: int
    """…training steps, of all trials together, and the victim's being there, before…"""
    delay_s: float
    """…and then so long."""


@dataclass(slots=True)
class Toll:
    """What was done to one sweep."""

    kills: Counter[str] = field(default_factory=Counter)
    num_drivers: int = 0
    num_after_the_end: int = 0
    """Kills of a driver that had nothing left to do but its table and MLflow."""


def draw(random: Random, *, max_steps: int) -> KillPoint:
    """A third of the points lie early, where a driver starts Ray and its trials load; the rest along the training."""
    victim = random.choices(list(_SHARES), weights=list(_SHARES.values()))[0]
    age_s, steps = (random.uniform(0.0, 8.0), 0) if random.random() < 1 / 3 else (0.0, random.randint(1, max_steps))
    return KillPoint(victim=victim, driver_age_s=age_s, after_steps=steps, delay_s=random.uniform(0.0, 0.5))


def disturb(arena: Arena, random: Random, *, num_kills: int, max_steps: int) -> Toll:
    """Drive a sweep and kill at `num_kills` points of it; whatever ended is issued again. Leaves nobody running it."""
    toll, is_over = Toll(), False
    driver: subprocess.Popen[bytes] | None = None
    began = 0.0
    while toll.kills.total() < num_kills:
        if driver is None or driver.poll() is not None:
            driver, began = arena.start(), time.monotonic()
            toll.num_drivers += 1
        point = draw(random, max_steps=max_steps)
        if is_over:
            point = KillPoint(victim="driver", driver_age_s=0.0, after_steps=0, delay_s=random.uniform(0.0, 1.5))
        if _wait(arena, driver, point, began):
            toll.kills[_kill(point.victim, driver)] += 1
            toll.num_after_the_end += is_over
        is_over = is_over or driver.poll() == 0
    if driver is not None and driver.poll() is None:
        driver.kill()
        driver.wait()
    return toll


def _wait(arena: Arena, driver: subprocess.Popen[bytes], point: KillPoint, began: float) -> bool:
    """Wait for the point; False if the driver, which began at that moment, has ended before it."""
    with suppress(subprocess.TimeoutExpired):
        driver.wait(max(0.0, began + point.driver_age_s - time.monotonic()))
    wanted, deadline = arena.num_steps() + point.after_steps, time.monotonic() + PATIENCE_S
    while driver.poll() is None and arena.num_steps() < wanted:
        assert time.monotonic() < deadline, f"no step for {PATIENCE_S:.0f} s:\n{arena.tail()}"
        time.sleep(0.02)
    while driver.poll() is None and _find(point.victim, driver) is None:
        assert time.monotonic() < deadline, f"no {point.victim} for {PATIENCE_S:.0f} s:\n{arena.tail()}"
        time.sleep(0.1)
    with suppress(subprocess.TimeoutExpired):
        driver.wait(point.delay_s)
    return driver.poll() is None


def _kill(victim: Victim, driver: subprocess.Popen[bytes]) -> Victim:
    """Kill the victim, or the driver where the last of that kind has just ended; who it was."""
    pid = _find(victim, driver)
    if pid is not None and pid != driver.pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return victim
    driver.kill()
    driver.wait()
    return "driver"


def _find(victim: Victim, driver: subprocess.Popen[bytes]) -> int | None:
    """A process of that kind, if there is one now."""
    if victim == "driver":
        return driver.pid
    for process in descendants(driver.pid):
        with suppress(psutil.NoSuchProcess):
            if _kind(process) == victim:
                return int(process.pid)
    return None


def _kind(process: psutil.Process) -> str:
    words = process.cmdline()
    if "orchestrator.trial.worker" in words:
        return "trial"
    if words and words[0].startswith("ray::ImplicitFunc"):
        return "supervisor"
    return "agent" if words and words[0].startswith("ray::") and "Agent" in words[0] else str(process.name())
