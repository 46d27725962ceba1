"""What looks say: benefit, harm, futile, undecided, or that the next one may tell. Equations: `boundaries`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.sequential.boundaries import FURTHEST, MOST_DRIFT, SHOWN, futility, shrinkage, upper_bounds
from eval.sequential.design import Design

Verdict = Literal["benefit", "harm", "futile", "undecided", "open"]
"""`futile`: a difference of `effect` is not to be expected any more; `undecided`: `at_most` seeds did not decide;
`open`: the next look may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A difference at one look."""

    value: float
    minimum_detectable: float
    """What this many seeds would show with 80 % power, were there one look; NaN where that is not known."""
    p_value: float | None
    """Two-sided; None where nothing varies, which decides nothing."""

    @property
    def deviate(self) -> float:
        """Z."""
        from scipy.special import ndtri

        if self.p_value is None:
            return 0.0
        return float(math.copysign(min(-ndtri(self.p_value / 2), FURTHEST), self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the looks until now say."""

    verdict: Verdict
    look: int
    """Number of the look that decided, or of the last one; 0 before the first."""
    seen: Seen | None
    """The difference at that look; None before the first."""
    design: Design

    @property
    def adjusted(self) -> float | None:
        """The median-unbiased difference."""
        if self.seen is None:
            return None
        return self.seen.value * shrinkage(self.seen.deviate, self.design.times[: self.look], upper_bounds(self.design))


def judge(looks: Sequence[Seen], design: Design) -> Judgement:
    """Go through the looks in order and stop at the first that decides."""
    upper = upper_bounds(design)
    for place, seen in enumerate(looks[: len(upper)]):
        verdict = _verdict(seen, upper, place, design)
        if verdict != "open" or place + 1 == len(looks):
            return Judgement(verdict=verdict, look=place + 1, seen=seen, design=design)
    return Judgement(verdict="open", look=0, seen=None, design=design)


def _verdict(seen: Seen, upper: Sequence[float], place: int, design: Design) -> Verdict:
    if abs(seen.deviate) >= upper[place]:
        return "benefit" if seen.value > 0 else "harm"
    if seen.p_value is not None and seen.minimum_detectable >= 0:
        inner = futility(drift_of(seen, design.times[place], design.effect), design.times[: place + 1], upper)
        if abs(seen.deviate) <= inner[-1]:
            return "futile"
    return "undecided" if place + 1 == len(upper) else "open"


def drift_of(seen: Seen, time: float, effect: float) -> float:
    """θ of a true difference of `effect`, from the error at one look; 0 where that is not known."""
    if math.isnan(seen.minimum_detectable):
        return 0.0
    if seen.minimum_detectable <= 0:
        return MOST_DRIFT
    drift = SHOWN * effect / seen.minimum_detectable / math.sqrt(time)
    return round(min(drift, MOST_DRIFT), 2)  # so that boundaries are computed for few values
