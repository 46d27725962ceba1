"""Where the wall time of an attempt went."""

from __future__ import annotations

import time

from trainers.api import TrainResult


class PhaseClock:
    """Wall time by phase of one attempt, as seen from outside; a trainer's own account of itself replaces it."""

    def __init__(self) -> None:
        """An attempt begins with preparation."""
        self.seconds: dict[str, float] = {}
        self.peak_memory_mb = 0.0
        self._phase = "prepare"
        self._since = time.monotonic()

    def enter(self, phase: str) -> None:
        """Count the time since the last call to the phase that ends now."""
        moment = time.monotonic()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + moment - self._since
        self._phase, self._since = phase, moment

    def merge(self, result: TrainResult) -> None:
        """Take over a trainer's phases; time that it does not account for, such as imports, is preparation."""
        self.enter("evaluate")
        unaccounted_s = sum(self.seconds.values()) - sum(result.phase_seconds.values())
        self.seconds = dict(result.phase_seconds)
        self.seconds["prepare"] = self.seconds.get("prepare", 0.0) + max(0.0, unaccounted_s)
        self.peak_memory_mb = result.peak_memory_mb

    def stop(self) -> dict[str, float]:
        """Seconds by phase over the attempt."""
        self.enter("stopped")
        return {phase: round(seconds, 3) for phase, seconds in self.seconds.items()}
