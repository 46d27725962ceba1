"""What several experiments cost alone and together: a trial or score that two of them want is paid once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.config.blocks import Schedule
from orchestrator.forecast.measured import Estimate, total
from orchestrator.forecast.trial_cost import Coster, TrialCost
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.plan.where import caps_of, priority_of
from orchestrator.sweep.placement import Task

FinishedOf = Callable[[str], frozenset[str]]
"""Trial id → names of the pieces that are already there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One experiment. Estimates are GPU-seconds; what is done already is part of them."""

    experiment: str
    num_trials: int
    num_shared: int
    """Of them, how many an experiment above wants as well."""
    alone: Estimate
    added: Estimate
    """What the experiments above leave to pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Some experiments together."""

    lines: tuple[Line, ...]
    num_trials: int
    """Each counted once."""
    before_sharing: Estimate
    after_sharing: Estimate
    left: Estimate
    """What is not done yet, each piece once."""
    tasks: tuple[Task, ...]
    """The trials of which something is left, for a planner."""
    left_s: Estimate
    """Their seconds in a row, with the spread that the makespan has too."""
    disk_gb: float


def make_bill(plans: Sequence[Plan], coster: Coster, finished_of: FinishedOf) -> Bill:
    """Add up plans in the order given.

    Raises:
        PlanError: a model of unknown shape.
    """
    pieces: dict[str, dict[str, Estimate]] = {}
    costs: dict[str, tuple[PlannedTrial, TrialCost, Schedule]] = {}
    lines = []
    for plan in plans:
        alone: list[Estimate] = []
        added: list[Estimate] = []
        num_shared = 0
        for planned in plan.entries:
            trial_id, cost = planned.trial.id, coster.cost(planned)
            num_shared += trial_id in costs
            costs.setdefault(trial_id, (planned, cost, plan.schedule))
            known = pieces.setdefault(trial_id, {})
            for piece in cost.pieces:
                spent = _times(piece.estimate, cost.num_gpus)
                alone.append(spent)
                if piece.name not in known:
                    known[piece.name] = piece.estimate
                    added.append(spent)
        lines.append(
            Line(
                experiment=plan.experiment,
                num_trials=len(plan.entries),
                num_shared=num_shared,
                alone=total(alone),
                added=total(added),
            )
        )
    left = {trial_id: _left(found, finished_of(trial_id)) for trial_id, found in pieces.items()}
    return Bill(
        lines=tuple(lines),
        num_trials=len(costs),
        before_sharing=total(line.alone for line in lines),
        after_sharing=total(line.added for line in lines),
        left=total(_times(spent, costs[trial_id][1].num_gpus) for trial_id, spent in left.items()),
        tasks=tuple(_task(*costs[trial_id], spent) for trial_id, spent in left.items() if spent.seconds),
        left_s=total(left.values()),
        disk_gb=sum(cost.disk_gb for _, cost, _ in costs.values()),
    )


def _left(found: dict[str, Estimate], finished: frozenset[str]) -> Estimate:
    return total(spent for name, spent in found.items() if name not in finished)


def _task(planned: PlannedTrial, cost: TrialCost, schedule: Schedule, left: Estimate) -> Task:
    return Task(
        id=planned.trial.id,
        request=cost.request,
        seconds=left.seconds,
        priority=-priority_of(planned, schedule),
        labels=caps_of(planned, schedule),
    )


def _times(spent: Estimate, factor: float) -> Estimate:
    return Estimate(seconds=spent.seconds * factor, spread=spent.spread, is_measured=spent.is_measured)
