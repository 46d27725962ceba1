"""The metrics of an attempt on disk: one JSON line a completed step, flushed before anyone is told of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


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
