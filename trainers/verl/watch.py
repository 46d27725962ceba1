"""Progress of a training process, from outside: its metrics as they are written, and how long it may be silent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

START_S = 1800.0
"""How long the first step may take: imports, weights, and the first batch of a large model."""
FLOOR_S = 600.0
"""The shortest silence that is taken for a hang."""
FACTOR = 20.0
"""A silence of this many median steps is taken for a hang: a failed weight sync waits for ever."""


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
    """Knows from the steps so far when the next is overdue."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._steps: list[float] = []
        self._has_begun = False

    @property
    def waited_s(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock() - self._last

    @property
    def is_late(self) -> bool:
        """Whether the process must be given up."""
        if not self._has_begun:
            return self.waited_s > START_S
        usual = median(self._steps) if self._steps else START_S / FACTOR
        return self.waited_s > max(FLOOR_S, FACTOR * usual)

    def progressed(self) -> None:
        """A step is done."""
        if self._has_begun:
            self._steps.append(self.waited_s)
        self._has_begun, self._last = True, self._clock()
