"""Progress of a training process, from outside: its metrics as they are written, and how long it may be silent.

Signs of life from within a step are those of `pulse.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FACTOR = 6.0
"""A silence of so many of the longest before it is taken for a hang: a failed weight sync waits for ever."""


class MetricsTail:
    """Reads the whole lines that were added to a metrics file."""

    def __init__(self, file: Path) -> None:
        self._file, self._offset = file, 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the steps since the last call."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as lines:
            lines.seek(self._offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


class Watchdog:
    """Knows from the silences so far which one is too long."""

    def __init__(self, *, start_s: float, silence_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Count from now.

        Args:
            start_s: how long the first sign of life may take.
            silence_s: the shortest silence after it that is taken for a hang.
            clock: seconds that never go back.
        """
        self._start_s, self._silence_s, self._clock = start_s, silence_s, clock
        self._last = clock()
        self._longest_s = 0.0
        self._has_begun = False

    @property
    def waited_s(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock() - self._last

    @property
    def is_late(self) -> bool:
        """Whether the process must be given up."""
        if not self._has_begun:
            return self.waited_s > self._start_s
        return self.waited_s > max(self._silence_s, FACTOR * self._longest_s)

    def progressed(self) -> None:
        """There is a sign of life: a step is done, or a part of one."""
        self._longest_s = max(self._longest_s, self.waited_s)
        self._has_begun, self._last = True, self._clock()
