"""The right to work on something, across machines that share nothing but a folder: leases with heartbeats and fencing.

    <folder>/1.json … <folder>/<generation>.json

A lock of the operating system ends with its process, but on some network file systems holds on one machine only. A
lease holds everywhere. Each has a generation, and the file of a generation is made by `link`, which fails where it
exists: of all that want the next one, a single one gets it. Whoever holds the highest generation holds the lease, and
checks before it writes that no process has a higher one.

A holder counts up a number in its file. An observer takes a lease to be given up only when it has itself seen no new
number for `EXPIRY_S` of its own monotonic clock: no clock of another machine, and no jump of this one's, matters. On
the holder's own machine the death of its process is seen at once.

Source: fencing by generation numbers as in C. Gray and D. Cheriton, Leases, SOSP 1989, and M. Burrows, The Chubby lock
service, OSDI 2006 (sequencers).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from eval.files import replacing
from orchestrator.codec import CodecError, decode, encode
from orchestrator.errors import StoreError
from orchestrator.store.progress import process_exists

BEAT_S = 5.0
"""Between two beats of a holder."""
EXPIRY_S = 60.0
"""Without a beat for this long, by the observer's own clock, a lease is given up."""
_NUM_KEPT = 16
"""Generations whose files stay: a process that still looks at an older one is too late to take the next."""
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""What file systems without hard links answer."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LeaseLost(StoreError):
    """Another process took over: this one must not write any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease."""

    host: str
    machine: str
    """This start of the machine and this namespace of process ids; empty where they cannot be read."""
    pid: int

    @property
    def text(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.host}"

    def is_dead(self, here: Holder) -> bool:
        """Whether it is certain, seen from `here`, that the process is gone; False where nothing is known."""
        is_here = self.machine and (self.host, self.machine) == (here.host, here.machine)
        return bool(is_here) and not process_exists(self.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What stands in the file of a generation."""

    holder: Holder
    beat: int
    """Counts up while the holder lives."""
    is_released: bool = False


def this_process() -> Holder:
    """The holder that this process is."""
    return Holder(host=socket.gethostname(), machine=_this_machine(), pid=os.getpid())


@cache
def _this_machine() -> str:
    with contextlib.suppress(OSError):
        return f"{_BOOT_ID.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return ""


@dataclass(kw_only=True)
class Clock:
    """Time as a lease needs it; tests have their own."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(kw_only=True)
class Observer:
    """What one process has seen of a lease: remembers when each number was new."""

    folder: Path
    here: Holder
    clock: Clock = field(default_factory=Clock)
    _seen: tuple[int, int] | None = None
    _since_s: float = 0.0

    def look(self) -> tuple[int, Beat | None]:
        """The highest generation and what stands in its file; None where it is free to be taken.

        A lease that is given up, whose holder is certainly dead, or whose number has not moved for too long is free.
        """
        generation = highest_generation(self.folder)
        if generation == 0:
            return 0, None
        beat = read_beat(self.folder, generation)
        if beat.is_released or beat.holder.is_dead(self.here):
            return generation, None
        moment_s = self.clock.monotonic()
        if self._seen != (generation, beat.beat):
            self._seen, self._since_s = (generation, beat.beat), moment_s
        return generation, None if moment_s - self._since_s >= EXPIRY_S else beat


class Lease:
    """A lease that this process holds, until it is released or lost."""

    def __init__(self, folder: Path, generation: int, here: Holder, clock: Clock) -> None:
        """Use `take`."""
        self.generation = generation
        self._folder, self._clock = folder, clock
        self._beat = Beat(holder=here, beat=0)
        self._beaten_s = clock.monotonic()

    def check(self) -> None:
        """Call before every write: a holder that was away too long, or that another followed, must not write.

        Raises:
            LeaseLost: another process may be at work.
        """
        is_late = self._clock.monotonic() - self._beaten_s >= EXPIRY_S
        if is_late or _file(self._folder, self.generation + 1).exists():
            raise LeaseLost(
                "this process was silent for so long that another one took its work over"
                if not is_late
                else f"this process was silent for {EXPIRY_S:.0f} s: another one may have taken its work over",
                where=str(self._folder.parent),
                fix="nothing is lost: the other one, or the next `orch sweep`, goes on from the last checkpoint",
            )

    def beat(self) -> None:
        """Show a sign of life.

        Raises:
            LeaseLost: as `check`. OSError: the file cannot be written.
        """
        self.check()
        self._beat = replace(self._beat, beat=self._beat.beat + 1)
        moment_s = self._clock.monotonic()
        _replace(_file(self._folder, self.generation), self._beat)
        self._beaten_s = moment_s

    def release(self) -> None:
        """Let others have it at once."""
        with contextlib.suppress(OSError):
            _replace(_file(self._folder, self.generation), replace(self._beat, is_released=True))

    @contextlib.contextmanager
    def kept(self, *, on_lost: Callable[[], None] = lambda: None) -> Iterator[Lease]:
        """Beat from a thread while the block runs, and release the lease at its end.

        Args:
            on_lost: called from that thread, once, when the lease is lost.
        """
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(BEAT_S):
                try:
                    self.beat()
                except LeaseLost:
                    on_lost()
                    return
                except OSError:
                    continue  # a full disk; `check` ends it when that lasts

        thread = threading.Thread(target=work, name="lease", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()
            self.release()


def take(observer: Observer, *, timeout_s: float = 0.0, poll_s: float = 0.2) -> Lease | Beat:
    """Take a lease, or say who holds it.

    While nothing is known of a holder on another machine this waits: until it shows a sign of life, which ends the
    wait unless `timeout_s` has not passed, or until it has shown none for `EXPIRY_S`.

    Raises:
        OSError: the folder cannot be written.
    """
    observer.folder.mkdir(parents=True, exist_ok=True)
    started_s, first = observer.clock.monotonic(), None
    while True:
        generation, beat = observer.look()
        if beat is None:
            if (lease := _link_next(observer, generation)) is not None:
                return lease
            continue
        first = first or (generation, beat.beat)
        is_alive = (generation, beat.beat) != first or beat.holder.machine == observer.here.machine
        if is_alive and observer.clock.monotonic() - started_s >= timeout_s:
            return beat
        observer.clock.sleep(poll_s)


def highest_generation(folder: Path) -> int:
    """The newest generation; 0 where there is none."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    numbers = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def read_beat(folder: Path, generation: int) -> Beat:
    """The beat in the file of a generation; an unreadable one gives an unknown holder, so that it expires."""
    try:
        return decode(Beat, json.loads(_file(folder, generation).read_text()))
    except (OSError, ValueError, CodecError):
        return Beat(holder=Holder(host="", machine="", pid=0), beat=-1)


def _link_next(observer: Observer, generation: int) -> Lease | None:
    """Make the next generation's file; None where another process was quicker."""
    folder, here, clock = observer.folder, observer.here, observer.clock
    temporary = folder / f".{here.pid}.{secrets.token_hex(4)}.tmp"
    temporary.write_text(json.dumps(encode(Beat(holder=here, beat=0))))
    try:
        _link(temporary, _file(folder, generation + 1))
    except FileExistsError:
        return None
    finally:
        temporary.unlink(missing_ok=True)
    if highest_generation(folder) != generation + 1:  # it looked for so long that the folder was cleared meanwhile
        return None
    for old in range(max(1, generation - 2 * _NUM_KEPT), generation + 1 - _NUM_KEPT):
        _file(folder, old).unlink(missing_ok=True)
    return Lease(folder, generation + 1, here, clock)


def _link(source: Path, target: Path) -> None:
    """Make a whole file that was not there; where there are no hard links, an exclusive one that fills a moment later.

    Raises:
        FileExistsError: it was there.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with target.open("x") as file:
            file.write(source.read_text())


def _replace(path: Path, beat: Beat) -> None:
    with replacing(path, is_synced=False) as file:
        file.write(json.dumps(encode(beat)).encode())


def _file(folder: Path, generation: int) -> Path:
    return folder / f"{generation}.json"
