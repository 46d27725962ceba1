import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab

from orchestrator.store.lease import (
    EXPIRY_S,
    Beat,
    Clock,
    Holder,
    Lease,
    LeaseLost,
    Observer,
    highest_generation,
    take,
    this_process,
)
from orchestrator.store.store import Store, TrialLocked
from orchestrator.trial.attempt import run_trial


@dataclass
class Machine:
    """A process on a machine of its own, whose clock began at another moment than everybody else's."""

    folder: Path
    name: str
    world: list[float]
    offset_s: float = 0.0
    leases: list[Lease] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = Clock(monotonic=lambda: self.world[0] + self.offset_s, sleep=self.sleep)
        self.observer = Observer(folder=self.folder, here=Holder(host=self.name, machine=self.name, pid=1), clock=clock)

    def sleep(self, seconds: float) -> None:
        self.world[0] += seconds

    def try_to_take(self) -> Lease | Beat:
        """One look, without waiting for what is unknown."""
        beat = self.observer.look()[1]
        return take(self.observer) if beat is None else beat


@contextmanager
def machines(*offsets_s: float) -> Iterator[list[Machine]]:
    world = [0.0]
    with TemporaryDirectory() as folder:
        yield [Machine(Path(folder), f"host{n}", world, offset_s) for n, offset_s in enumerate(offsets_s)]


def taken(machine: Machine) -> Lease:
    lease = take(machine.observer)
    assert isinstance(lease, Lease)
    return lease


def test_a_lease_that_beats_is_held_whatever_the_clocks_say() -> None:
    with machines(0.0, 1e9, -1e9) as (first, second, third):
        lease = taken(first)
        for _ in range(100):
            first.sleep(EXPIRY_S / 2)
            lease.beat()
            assert isinstance(second.try_to_take(), Beat)
            assert isinstance(third.try_to_take(), Beat)
        lease.release()
        assert taken(second).generation == 2


def test_a_silent_holder_is_followed_after_the_observers_own_patience() -> None:
    with machines(0.0, 500.0) as (first, second):
        lease = taken(first)
        first.sleep(10 * EXPIRY_S)
        assert isinstance(second.try_to_take(), Beat), "it has only begun to look"
        follower = taken(second)
        assert follower.generation == 2
        with pytest.raises(LeaseLost, match="silent"):
            lease.check()
        with pytest.raises(LeaseLost):
            lease.beat()
        follower.check()
        assert isinstance(first.try_to_take(), Beat), "the follower's time is not over"


def test_waiting_for_an_unknown_holder_ends_with_its_first_beat() -> None:
    with machines(0.0, 0.0) as (first, second):
        lease = taken(first)
        looks: list[float] = []

        def sleep(seconds: float) -> None:
            second.world[0] += seconds
            looks.append(seconds)
            if len(looks) == 20:
                lease.beat()

        second.observer.clock.sleep = sleep
        beat = take(second.observer)
        assert isinstance(beat, Beat)
        assert (beat.beat, len(looks)) == (1, 20)


def test_a_file_that_does_not_read_expires_like_a_silent_holder() -> None:
    with machines(0.0) as (only,):
        taken(only)
        (only.folder / "1.json").write_text("{")
        assert isinstance(only.try_to_take(), Beat)
        only.sleep(EXPIRY_S)
        lease = only.try_to_take()
        assert isinstance(lease, Lease)
        assert lease.generation == 2


def test_a_file_system_without_hard_links_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    with machines(0.0, 0.0) as (first, second):
        lease = taken(first)
        assert isinstance(second.try_to_take(), Beat)
        lease.release()
        assert taken(second).generation == 2


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["take", "beat", "check", "release", "wait", "look"]), st.floats(0, 40)
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(actions=ACTIONS, offsets=st.tuples(*[st.floats(-1e6, 1e6)] * 3))
def test_never_may_two_write(actions: list[tuple[int, str, float]], offsets: tuple[float, float, float]) -> None:
    with machines(*offsets) as all_machines:
        for number, action, seconds in actions:
            machine = all_machines[number]
            if action == "take":
                found = machine.try_to_take()
                machine.leases += [found] if isinstance(found, Lease) else []
            elif action == "wait":
                machine.sleep(seconds)
            elif action == "look":
                machine.observer.look()
            elif machine.leases and action == "release":
                machine.leases.pop().release()
            elif machine.leases:
                try:
                    machine.leases[-1].beat() if action == "beat" else machine.leases[-1].check()
                except LeaseLost:
                    machine.leases.pop()
            assert num_writers(all_machines) <= 1


def num_writers(all_machines: list[Machine]) -> int:
    number = 0
    for lease in [lease for machine in all_machines for lease in machine.leases]:
        try:
            lease.check()
        except LeaseLost:
            continue
        number += 1
    return number


def test_a_dead_process_of_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    here = this_process()
    child = os.fork()
    if child == 0:
        take(Observer(folder=tmp_path, here=this_process()))
        os._exit(0)
    os.waitpid(child, 0)
    before_s = time.monotonic()
    lease = take(Observer(folder=tmp_path, here=here))
    assert isinstance(lease, Lease)
    assert lease.generation == 2
    assert time.monotonic() - before_s < EXPIRY_S


CONTENDER = """
import os, sys, time
from pathlib import Path
from orchestrator.store.lease import Lease, Observer, take, this_process
folder, log = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(15):
    lease = take(Observer(folder=folder, here=this_process()), timeout_s=60, poll_s=0.001)
    assert isinstance(lease, Lease)
    with log.open("a") as file:
        file.write(f"begin {os.getpid()}\\n")
    time.sleep(0.001)
    lease.check()
    with log.open("a") as file:
        file.write(f"end {os.getpid()}\\n")
    lease.release()
"""


def test_real_processes_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", CONTENDER, str(tmp_path / "lease"), str(log)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    lines = log.read_text().splitlines()
    assert len(lines) == 3 * 15 * 2
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert (begin.split()[0], end.split()[0], begin.split()[1]) == ("begin", "end", end.split()[1])
    assert highest_generation(tmp_path / "lease") == 45
    assert len(list((tmp_path / "lease").iterdir())) < 45, "old generations are cleared away"


SLEEPER = """
import sys, time
from pathlib import Path
from orchestrator.store import lease
lease.BEAT_S, lease.EXPIRY_S = 0.05, 0.5
here = lease.Holder(host="elsewhere", machine="elsewhere", pid=1)
held = lease.take(lease.Observer(folder=Path(sys.argv[1]), here=here))
with held.kept(on_lost=lambda: print("lost", flush=True)):
    print("held", flush=True)
    sys.stdin.readline()
    try:
        held.check()
        print("wrote", flush=True)
    except lease.LeaseLost:
        print("refused", flush=True)
"""


def test_a_process_that_was_frozen_writes_no_more_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.lease.EXPIRY_S", 0.5)
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        assert isinstance(take(Observer(folder=tmp_path, here=this_process())), Beat), "it beats"
        other.send_signal(signal.SIGSTOP)
        follower = take(Observer(folder=tmp_path, here=this_process()))
        assert isinstance(follower, Lease)
        other.stdin.write("go\n")
        other.stdin.flush()
        other.send_signal(signal.SIGCONT)
        said = other.stdout.read()  # two threads print, so that lines may run together
    assert "refused" in said
    assert "wrote" not in said


def test_a_lease_of_another_machine_keeps_a_trial_and_its_record_safe(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.lease.EXPIRY_S", 0.4)
    monkeypatch.setattr("orchestrator.store.lease.BEAT_S", 0.05)
    planned = lab.planned(0)
    folder = lab.store.trial_folder(planned.trial.id) / ".leases"
    lab.store.prepare_trial(planned.trial)
    (folder.parent / ".lock").touch()
    elsewhere = Holder(host="elsewhere", machine="elsewhere", pid=1)
    lease = take(Observer(folder=folder, here=elsewhere))
    assert isinstance(lease, Lease)
    with lease.kept():
        assert Store(lab.store.root).is_locked(planned.trial.id)
        with pytest.raises(TrialLocked, match="process 1 on elsewhere"):
            run_trial(planned, lab.store, context=lab.context())
    assert not Store(lab.store.root).is_locked(planned.trial.id)
    with lab.store.lock(planned.trial.id):
        (folder / f"{highest_generation(folder) + 1}.json").write_text(json.dumps({}))
        with pytest.raises(LeaseLost):
            lab.store.check_lease(planned.trial.id)
