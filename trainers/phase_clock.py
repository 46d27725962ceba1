"""Wall time by phase: a trainer's of its steps, and that of an attempt at a trial as seen from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class PhaseClock:
    """One phase at a time; what passes between phases is not counted."""

    def __init__(self) -> None:
        """Nothing is counted before the first phase."""
        self.total: dict[str, float] = {}
        """Phase → seconds so far."""
        self._step: dict[str, float] = {}
        self._phase: str | None = None
        self._since = 0.0

    def enter(self, phase: str | None) -> None:
        """End the phase that runs, and begin another; None begins none."""
        moment = time.perf_counter()
        if self._phase is not None:
            for seconds in (self.total, self._step):
                seconds[self._phase] = seconds.get(self._phase, 0.0) + moment - self._since
        self._phase, self._since = phase, moment

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time to a phase."""
        self.enter(name)
        try:
            yield
        finally:
            self.enter(None)

    def take_step(self) -> dict[str, float]:
        """Return the seconds of each phase since the last call."""
        taken, self._step = self._step, {}
        return taken

    def replace(self, account: Mapping[str, float]) -> None:
        """Take over a trainer's own account; time that it does not tell of, such as imports, is preparation."""
        self.enter(None)
        unaccounted_s = max(0.0, sum(self.total.values()) - sum(account.values()))
        self.total = {**account, "prepare": account.get("prepare", 0.0) + unaccounted_s}
