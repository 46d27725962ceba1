"""The metrics of an attempt on disk: one JSON line a completed step, flushed before anyone is told of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from trainers.api import Phase


class MetricsLog:
    """Appends to `metrics.jsonl`; NaN and infinities are written as null, which readers show as missing."""

    def __init__(self, file: Path, *, last_step: int) -> None:
        """Open the file, without the lines of steps after `last_step`, which will be done again."""
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(file) if _step_of(line) is not None and (_step_of(line) or 0) <= last_step]
        file.write_text("".join(kept))
        self._file = file.open("a")

    def append(self, metrics: Mapping[str, Any]) -> None:
        """Write one step's metrics as a line."""
        finite = {name: _finite(value) for name, value in metrics.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class PhaseClock:
    """Wall time by phase, of the present step and in all."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self._step: dict[str, float] = {}

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the block's time to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.total[name] = self.total.get(name, 0.0) + elapsed
            self._step[name] = self._step.get(name, 0.0) + elapsed

    def take_step(self) -> dict[str, float]:
        """Return the seconds of each phase since the last call."""
        taken, self._step = self._step, {}
        return taken


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines(keepends=True) if file.is_file() else []


def _step_of(line: str) -> int | None:
    """The step of a whole line; None for one that a kill cut short."""
    if not line.endswith("\n"):
        return None
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
