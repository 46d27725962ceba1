"""Why trials do not run yet: `runs/drivers/<experiment>.json`, which a driver keeps fresh and views read.

A view, never the truth: it is replaced atomically but not fsynced, and losing it loses nothing. Trials that wait for
the same share one line, so that the file of ten thousand trials stays small.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.codec import encode
from orchestrator.store.files import read_view, write_view
from orchestrator.store.progress import age_s, is_alive


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a trial waits for."""

    reason: str
    """For example `needs 8 GPU: 4 free`, `paused`, `at most 2 of algorithm=dapo`."""
    due_at: str | None = None
    """UTC: when the driver starts it again by itself."""
    deadline_at: str | None = None
    """UTC: when the driver gives up on it, unless it can start; None where only something that runs must end first."""

    @property
    def text(self) -> str:
        """The reason with the time that is left."""
        if self.due_at is not None:
            return f"{self.reason} in {_span(-age_s(self.due_at))}"
        if self.deadline_at is not None:
            return f"{self.reason}; given up in {_span(-age_s(self.deadline_at))}"
        return self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The trials that wait for one thing."""

    wait: Wait
    trials: tuple[str, ...]
    """Ids, next first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverReport:
    """What a driver says of itself."""

    experiment: str
    plan_digest: str
    """Of the plan that it works on."""
    pid: int
    host: str
    started_at: str
    updated_at: str
    is_draining: bool = False
    nodes: tuple[str, ...] = ()
    """What the cluster has, a line a node; empty where trials run in the driver."""
    waiting: tuple[Waiting, ...] = ()

    def is_alive(self) -> bool:
        """Whether the driver still runs, as far as this machine can tell."""
        return is_alive(host=self.host, pid=self.pid, updated_at=self.updated_at)


def report_file(runs: Path, experiment: str) -> Path:
    """Where the driver of an experiment writes."""
    return runs / "drivers" / f"{experiment}.json"


def write_report(path: Path, report: DriverReport) -> None:
    """Replace the file. Never raises: a full disk must not end a sweep through its display."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_view(path, json.dumps(encode(report)).encode())


def read_report(path: Path) -> DriverReport | None:
    """What a driver last said, whether or not it still runs; None: there is nothing, or it does not read."""
    return read_view(DriverReport, path)


def live_drivers(runs: Path) -> tuple[DriverReport, ...]:
    """The reports of all drivers that run on a runs folder now."""
    reports = (read_report(path) for path in sorted((runs / "drivers").glob("[!.]*.json")))
    return tuple(report for report in reports if report is not None and report.is_alive())


def waits_of(reports: Iterable[DriverReport]) -> dict[str, Wait]:
    """Trial id → what it waits for."""
    return {trial_id: one.wait for report in reports for one in report.waiting for trial_id in one.trials}


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"
