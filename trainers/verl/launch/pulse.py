"""Signs of life from within a step: what a training process is doing, and how far it has come. Light.

Whoever works writes: the trainer while responses come in, checkpoints are written and weights are sent, the first
worker pass by pass. The supervisor reads, shows it, and knows a long step from one that stands still.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.files import replacing

EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """One sign of life."""

    doing: str
    """`sample`, `score`, `update`, `checkpoint` or `send weights`."""
    done: int = 0
    total: int | None = None
    unit: str = ""

    def __str__(self) -> str:
        """As `orch status` says it: `sample 5,120 of 8,192 responses`."""
        if not self.unit:
            return self.doing
        of = "" if self.total is None else f" of {self.total:,}"
        return f"{self.doing} {self.done:,}{of} {self.unit}"


class PulseFile:
    """Where one attempt's signs of life are left, each in the place of the last. Losing one is no harm."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._last: Pulse | None = None
        self._beaten_s = -EVERY_S
        self._read_at = 0

    def beat(self, pulse: Pulse) -> None:
        """Leave a sign, at most one a second of one kind; a disk that is full must not end a training.

        One that says what the last said is none: who only looks again and again has come no further.
        """
        now, last = self._clock(), self._last
        is_early = last is not None and pulse.doing == last.doing and now - self._beaten_s < EVERY_S
        if pulse == last or is_early:
            return
        self._last, self._beaten_s = pulse, now
        with contextlib.suppress(OSError), replacing(self._path, is_synced=False) as file:
            file.write(json.dumps(asdict(pulse)).encode())

    def read(self) -> Pulse | None:
        """Return the last one if it is new, and can be read."""
        try:
            at = self._path.stat().st_mtime_ns
            pulse = Pulse(**json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        is_new, self._read_at = at != self._read_at, at
        return pulse if is_new else None
