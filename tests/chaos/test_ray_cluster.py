"""A Ray cluster of several nodes that loses one, loses its control plane, or loses the driver that used it."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
import pytest
from arena import Arena, MakeArena, wait_until
from fingerprint import assert_same
from leftovers import descendants

HERE = Path(__file__).parent
_GROUPS = """
import json, ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
groups = ray.util.placement_group_table().values()
print(json.dumps([[one["name"], one["state"]] for one in groups if one["state"] != "REMOVED"]))
"""


class Nodes:
    """A cluster in a process of its own."""

    def __init__(self, arena: Arena) -> None:
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.environment = arena.environment(**self.token, RAY_USAGE_STATS_ENABLED="0")
        with (arena.root / "nodes.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "ray_nodes.py")],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        arena.started.add(self.process.pid)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (arena.root / "nodes.log").read_text()
        told = json.loads(line)
        self.noted: list[psutil.Process] = []
        self.address, self.gcs, self.raylets = told["address"], told["gcs"], told["raylets"]

    def kill_gcs(self) -> None:
        """Note what there is before: raylets end without it, and leave agents that nobody would find any more."""
        self.noted = self._processes()
        os.kill(self.gcs, signal.SIGKILL)

    def _processes(self) -> list[psutil.Process]:
        return [process for process in descendants(self.process.pid) if not _is_trial(process)]

    def kill_node(self, raylet: int) -> None:
        """As when its power is cut: everything on it at once."""
        for pid in [raylet, *(process.pid for process in descendants(raylet))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def busy(self) -> list[int]:
        """Raylets that run a trial, fewest first steps last."""
        return [raylet for raylet in self.raylets if any(_is_trial(one) for one in descendants(raylet))]

    def placement_groups(self) -> list[list[str]]:
        command = [sys.executable, "-c", _GROUPS, self.address]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        groups: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
        return groups

    def end(self) -> None:
        """End the cluster, which a dead GCS or raylet keeps from ending itself; trials have to end by themselves."""
        own = self.noted + self._processes()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for process in own:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _is_trial(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "orchestrator.trial.worker" in process.cmdline()
    return False


@contextmanager
def ray_nodes(arena: Arena) -> Iterator[Nodes]:
    nodes = Nodes(arena)
    try:
        yield nodes
    finally:
        nodes.end()


@pytest.mark.parametrize("scope", ["whole node", pytest.param("raylet", marks=pytest.mark.slow)])
def test_when_a_node_is_lost_the_rest_goes_on_and_the_next_call_finishes(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str], scope: str
) -> None:
    arena = make_arena()
    with ray_nodes(arena) as nodes:
        driver = arena.start("--ray-address", nodes.address, **nodes.token)
        arena.wait_for_steps(dice.randint(1, 6))
        wait_until(lambda: bool(nodes.busy()) or driver.poll() is not None, "a trial on a node")
        victim = dice.choice(nodes.busy() or nodes.raylets)
        nodes.kill_node(victim) if scope == "whole node" else os.kill(victim, signal.SIGKILL)
        status = arena.end(driver)
        log = arena.tail()
        assert status in (0, 1, 3), log
        num_done = sum(record["status"] == "done" for record in arena.records().values())
        assert num_done >= (3 if status == 0 else 1), log
        if status:
            assert arena.sweep("--ray-address", nodes.address, **nodes.token) == 0, arena.tail()
        assert nodes.placement_groups() == []
    assert_same(arena, undisturbed)
    tally[f"kills: {scope} of a cluster"] += 1


@pytest.mark.slow
def test_a_driver_killed_on_a_shared_cluster_leaves_it_empty_for_the_next(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str]
) -> None:
    arena = make_arena()
    with ray_nodes(arena) as nodes:
        driver = arena.start("--ray-address", nodes.address, **nodes.token)
        arena.wait_for_steps(dice.randint(1, 6))
        driver.kill()
        driver.wait()
        wait_until(lambda: nodes.placement_groups() == [], "placement groups of a dead driver go", timeout_s=60)
        wait_until(lambda: nodes.busy() == [], "trials of a dead driver end", timeout_s=60)
        assert arena.sweep("--ray-address", nodes.address, **nodes.token) == 0, arena.tail()
        assert nodes.placement_groups() == []
    assert_same(arena, undisturbed)
    tally["kills: driver on a shared cluster"] += 1


@pytest.mark.slow
def test_when_the_control_plane_is_lost_the_driver_says_so_and_the_next_call_finishes(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str]
) -> None:
    arena = make_arena()
    with ray_nodes(arena) as nodes:
        driver = arena.start("--ray-address", nodes.address, **nodes.token)
        arena.wait_for_steps(dice.randint(1, 6))
        nodes.kill_gcs()
        assert arena.end(driver) != 0
        wait_until(lambda: nodes.busy() == [], "trials of a lost cluster end", timeout_s=120)
    assert arena.finish() <= 2
    assert_same(arena, undisturbed)
    tally["kills: GCS of a cluster"] += 1
