"""What `orch plan` says of seeds until decided: the looks, and how many trials and GPU-hours there may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eval.sequential.expected import expected_seeds
from orchestrator.config.blocks import UntilDecided
from orchestrator.plan.contrasts import arms_of, primary_contrasts
from orchestrator.plan.trial import Plan, PlannedTrial

GpuHours = Callable[[PlannedTrial], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What seeds come to in all, base models and arms of no contrast included; from the start, whatever is done."""

    fewest: float
    if_equal: float
    """Expected where no contrast has a difference."""
    if_different: float
    """Expected where each has one that `at_most` seeds would show with 80 % power in a single look."""
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsAhead:
    """The design of a plan."""

    until: UntilDecided
    contrasts: tuple[str, ...]
    trials: Amounts
    gpu_hours: Amounts | None
    """None without a cluster."""

    def text(self) -> str:
        """The lines below a plan's table."""
        design, count = self.until.design, len(self.contrasts)
        shown = "; ".join(self.contrasts[:_NUM_NAMED]) + (f"; … {count - _NUM_NAMED} more" * (count > _NUM_NAMED))
        lines = [
            f"seeds until decided: a look after each of {design.at_least} to {design.at_most} seeds an arm, "
            f"alpha {design.alpha:g} over {count} contrast{'s' * (count > 1)}, effect {100 * design.effect:g} points",
            f"  contrasts  {shown}",
            f"  trials     {_spelled(self.trials)}",
        ]
        lines += [f"  GPU-hours  {_spelled(self.gpu_hours)}"] if self.gpu_hours is not None else []
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            **asdict(self.until.design),
            "contrasts": list(self.contrasts),
            "trials": asdict(self.trials),
            "gpu_hours": None if self.gpu_hours is None else asdict(self.gpu_hours),
        }


_NUM_NAMED = 4


def seeds_ahead(plan: Plan, gpu_hours: GpuHours | None) -> SeedsAhead | None:
    """What a plan's design may ask for; None where its seeds are listed."""
    if plan.until is None:
        return None
    contrasts, arms = primary_contrasts(plan), arms_of(plan)
    places = {arm: place for place, arm in enumerate(arms)}
    design = plan.until.design.shared_by(len(contrasts))
    pairs = [(places[one.first], places[one.second]) for one in contrasts]
    compared = {arm for one in contrasts for arm in (one.first, one.second)}

    def seeds_of(in_contrasts: Mapping[str, float]) -> dict[str, float]:
        return {arm: in_contrasts.get(arm, design.at_least) for arm in arms}

    expected = [
        dict(zip(arms, expected_seeds(design, pairs, has_effect=has_effect), strict=False))
        for has_effect in (False, True)
    ]
    numbers = [
        seeds_of({}),
        *(seeds_of({arm: float(found[arm]) for arm in compared}) for found in expected),
        seeds_of(dict.fromkeys(compared, design.at_most)),
    ]

    def amounts(weight: GpuHours) -> Amounts:
        bases = sum(weight(planned) for planned in plan.entries if planned.trial.kind == "base")
        found = [bases + sum(count * weight(arms[arm]) for arm, count in one.items()) for one in numbers]
        return Amounts(fewest=found[0], if_equal=found[1], if_different=found[2], most=found[3])

    return SeedsAhead(
        until=plan.until,
        contrasts=tuple(one.label for one in contrasts),
        trials=amounts(lambda planned: 1.0),
        gpu_hours=None if gpu_hours is None else amounts(gpu_hours),
    )


def _spelled(amounts: Amounts) -> str:
    return (
        f"{amounts.fewest:,.0f} at least, {amounts.most:,.0f} at most; expected {amounts.if_equal:,.0f} if nothing "
        f"differs, {amounts.if_different:,.0f} if everything does"
    )
