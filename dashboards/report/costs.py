"""What an experiment cost: wall time by phase and device-hours, from the attempts that its records hold."""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.figures.swept import Swept, label_of
from orchestrator.record import Outcome, RunRecord
from orchestrator.trial import PlannedTrial


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One arm, or all of them."""

    label: str
    num_trials: int
    """With at least one attempt."""
    num_attempts: int
    seconds: float
    """Wall time of all attempts, by phase summed."""
    lost_seconds: float
    """Of attempts that did not end well; what they left as checkpoints is not lost, so this is an upper bound."""
    device_hours: float
    """Hours × GPUs of the trial; × 1 on a CPU."""
    phases: dict[str, float]
    """Phase → seconds."""
    peak_memory_mb: float


def costs(swept: Swept) -> tuple[Cost, ...]:
    """One row an arm, in the table's order, and the total last."""
    rows = [_cost(label_of(row), swept, swept.seeds_of(row.arm)) for row in swept.table.rows]
    return (*rows, _cost("all", swept, swept.plan.entries))


def _cost(label: str, swept: Swept, trials: tuple[PlannedTrial, ...]) -> Cost:
    pairs = [(one, swept.records[one.trial.id]) for one in trials if one.trial.id in swept.records]
    begun = [(planned, record) for planned, record in pairs if record.attempts]
    phases: dict[str, float] = {}
    for _, record in begun:
        for phase, seconds in record.phase_seconds.items():
            phases[phase] = phases.get(phase, 0.0) + seconds
    return Cost(
        label=label,
        num_trials=len(begun),
        num_attempts=sum(len(record.attempts) for _, record in begun),
        seconds=sum(phases.values()),
        lost_seconds=sum(_lost(record) for _, record in begun),
        device_hours=sum(
            sum(record.phase_seconds.values()) * max(planned.resources.num_gpus, 1) / 3600 for planned, record in begun
        ),
        phases=phases,
        peak_memory_mb=max((record.peak_memory_mb for _, record in begun), default=0.0),
    )


def _lost(record: RunRecord) -> float:
    bad = (Outcome.FAILED, Outcome.STOPPED, Outcome.INTERRUPTED)
    return sum(sum(attempt.phase_seconds.values()) for attempt in record.attempts if attempt.outcome in bad)
