"""What finished runs tell about runs to come: measured over modelled seconds, and how far apart two runs are.

A run of the same recipe replaces the model's estimate; a similar one corrects it, the less sure the further it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Literal

from orchestrator.sizing.assumptions import Assumptions

_OTHER_VARIANT = 0.5
"""Distance between arms of one size: another algorithm, selection or benchmark."""
_OTHER_BACKEND = 2.0
"""Distance between trainers or engines, and between devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of work as far as its duration goes."""

    kind: Literal["train", "evaluate"]
    backend: str
    """Trainer, or sampling engine."""
    device: str
    variant: str
    """What else tells recipes apart: equal for runs that differ in their seed only."""
    modelled_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A piece of work that was done."""

    work: Work
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds, and a factor by which they may be off either way."""

    seconds: float
    spread: float
    is_measured: bool
    """Whether a measured run stands behind it."""

    @property
    def low_s(self) -> float:
        """Lower end."""
        return self.seconds / self.spread

    @property
    def high_s(self) -> float:
        """Upper end."""
        return self.seconds * self.spread


def distance(one: Work, other: Work) -> float:
    """How unlike two pieces of work are: logarithm of their modelled ratio, and steps for what the model may get wrong.

    Infinite between training and evaluating, and where one has no modelled duration.
    """
    if one.kind != other.kind or not (one.modelled_s > 0 and other.modelled_s > 0):
        return float("inf")
    apart = abs(log(one.modelled_s / other.modelled_s))
    apart += _OTHER_VARIANT * (one.variant != other.variant)
    apart += _OTHER_BACKEND * ((one.backend != other.backend) + (one.device != other.device))
    return apart


def estimate(work: Work, measured: Sequence[Measurement], assumed: Assumptions) -> Estimate:
    """Scale the nearest measurements (their mean ratio) to the work; the model alone where none is near enough."""
    nearest = min((distance(work, one.work) for one in measured), default=float("inf"))
    spread = assumed.measured_spread * exp(assumed.spread_per_distance * nearest)
    if spread >= assumed.unmeasured_spread:
        return Estimate(seconds=work.modelled_s, spread=assumed.unmeasured_spread, is_measured=False)
    ratios = [one.seconds / one.work.modelled_s for one in measured if distance(work, one.work) <= nearest + 1e-9]
    return Estimate(seconds=work.modelled_s * sum(ratios) / len(ratios), spread=spread, is_measured=True)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """The sum; ends are summed too, since what an estimate gets wrong it gets wrong everywhere."""
    parts = list(estimates)
    seconds = sum(part.seconds for part in parts)
    high_s = sum(part.high_s for part in parts)
    return Estimate(
        seconds=seconds,
        spread=high_s / seconds if seconds else 1.0,
        is_measured=bool(parts) and all(part.is_measured for part in parts),
    )
