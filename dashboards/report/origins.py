"""Where an experiment's numbers come from: code, command, machine and versions, grouped by what is the same."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from dashboards.figures.swept import Swept
from orchestrator.store.record import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Attempts that ran the same code by the same command on the same machine."""

    commit: str
    is_dirty: bool | None
    command: str
    host: str
    cpu: str
    gpus: tuple[str, ...]
    python: str
    versions: tuple[str, ...]
    num_attempts: int
    first_at: str
    last_at: str


def origins(swept: Swept) -> tuple[Origin, ...]:
    """In the order in which they first ran."""
    attempts = [attempt for record in swept.records.values() for attempt in record.attempts]
    groups: dict[tuple[object, ...], list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda one: one.started_at):
        groups.setdefault(_key(attempt), []).append(attempt)
    return tuple(_origin(found) for found in groups.values())


def _key(attempt: Attempt) -> tuple[object, ...]:
    one = attempt.provenance
    return one.commit, one.is_dirty, one.argv, one.host, one.hardware, one.python, tuple(one.versions.items())


def _origin(attempts: list[Attempt]) -> Origin:
    one = attempts[0].provenance
    return Origin(
        commit=one.commit or "not a git checkout",
        is_dirty=one.is_dirty,
        command=shlex.join(one.argv),
        host=one.host,
        cpu=f"{one.hardware.num_cores} cores of {one.hardware.cpu}, {one.hardware.memory_gb:.0f} GB",
        gpus=one.hardware.gpus,
        python=one.python,
        versions=tuple(f"{name} {version}" for name, version in one.versions.items()),
        num_attempts=len(attempts),
        first_at=attempts[0].started_at,
        last_at=max(attempt.ended_at or attempt.started_at for attempt in attempts),
    )
