"""Claims against numbers: against the paper's own table (do the printed numbers give it?), and against ours (verdict).

A claim has contrasts: mean(some cells) − mean(other cells), in points. What its kind asks of them:

    equals    the contrast is the stated number
    mean      the mean of the contrasts is the stated number
    maximum   the largest contrast is the stated number
    greater   every contrast is above 0
    within    every contrast lies in the bounds
    rising    each contrast is above the one before

Printed numbers are rounded, so a printed cell stands for an interval of half a unit of its last place to each side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from dashboards.papers.published import CellRef, Claim, Contrast, Papers
from eval.stats import t_quantile

Outcome = Literal["holds", "rounding", "fails", "unprinted"]
"""The printed numbers give it; give it only within rounding; do not give it; are not all printed."""
Verdict = Literal["reproduced", "contradicted", "underpowered"]

TWO_SIDED_95 = 1.96
"""Normal quantile: a verdict rests on 95 % intervals, of Student's t where the degrees of freedom are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A printed value, or a sum of them, with the error that rounding leaves."""

    value: Decimal
    error: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimCheck:
    """A claim held against the numbers that its own paper prints."""

    claim: Claim
    outcome: Outcome
    found: tuple[Decimal, ...]
    """The contrasts as the printed numbers give them; empty if unprinted."""
    failing: tuple[Contrast, ...] = ()
    """For greater, within, rising: the contrasts that do not do what the claim says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One contrast as measured by us, in points."""

    difference: float
    standard_error: float
    """Of the difference: paired where both arms answered the same questions."""
    degrees: float = math.inf
    """Degrees of freedom of the error: few seeds make wide intervals."""
    num_seeds: int = 2
    """Fewest of an arm in it. Below two the error is of checkpoints, and no verdict on a method follows."""
    power: float | None = None
    """Chance to find a true difference of the stated size; None where the claim states none."""

    @property
    def margin(self) -> float:
        """Half the 95 % interval."""
        return quantile(self.degrees) * self.standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVerdict:
    """What our measurement says of a claim."""

    verdict: Verdict
    is_stated_inside: bool | None
    """Whether the stated number lies in our 95 % interval; None where the claim states none."""


def check_claim(claim: Claim, papers: Papers) -> ClaimCheck:
    """Recompute a claim from the printed numbers."""
    contrasts = [contrast_of(contrast, papers) for contrast in claim.contrasts]
    printed = [contrast for contrast in contrasts if contrast is not None]
    if len(printed) < len(contrasts):
        return ClaimCheck(claim=claim, outcome="unprinted", found=())
    found = tuple(contrast.value for contrast in printed)
    if claim.stated is not None:
        return ClaimCheck(claim=claim, outcome=_compare_stated(claim, printed), found=found)
    failing = tuple(
        contrast
        for index, contrast in enumerate(claim.contrasts)
        if not _does_hold(claim, [float(value) for value in found], index)
    )
    return ClaimCheck(claim=claim, outcome="fails" if failing else "holds", found=found, failing=failing)


def contrast_of(contrast: Contrast, papers: Papers) -> Interval | None:
    """Compute mean(plus) − mean(minus) of printed cells; None when one of them is not printed."""
    plus, minus = mean_of(contrast.plus, papers), mean_of(contrast.minus, papers)
    if plus is None or (contrast.minus and minus is None):
        return None
    if minus is None:
        return plus
    return Interval(value=plus.value - minus.value, error=plus.error + minus.error)


def mean_of(refs: Sequence[CellRef], papers: Papers) -> Interval | None:
    """Compute the mean of printed cells; None when one of them is not printed, or there are none."""
    cells = [papers[ref.table].cell(ref.row, ref.column) for ref in refs]
    printed = [cell for cell in cells if cell is not None]
    if not printed or len(printed) < len(cells):
        return None
    count = Decimal(len(printed))
    return Interval(
        value=sum((cell.value for cell in printed), Decimal(0)) / count,
        error=sum((rounding_error(cell.value) for cell in printed), Decimal(0)) / count,
    )


def rounding_error(printed: Decimal) -> Decimal:
    """Return half a unit of the last printed place."""
    exponent = printed.as_tuple().exponent
    assert isinstance(exponent, int)  # the loader refuses NaN and infinities
    return Decimal(5).scaleb(exponent - 1)


def judge(claim: Claim, parts: Sequence[Measured]) -> ClaimVerdict:
    """Judge a claim by our own numbers, one for each of its parts (`combinations_of`).

    A part of a claim is a number with a 95 % interval and a region where the claim puts it: the claimed side of 0 for
    equals, mean and greater; the bounds for within; above 0 for the steps of rising. A part is reproduced when its
    interval lies in the region, contradicted when it lies wholly outside, underpowered otherwise. `maximum` is
    judged by its largest contrast. A claim is contradicted when one part is, reproduced when all are, else
    underpowered. A stated difference of 0 has no side: its region is ± twice the standard error.
    Parts are taken as they are; correcting for many claims is the table's business (Holm).
    """
    if any(not math.isfinite(part.difference + part.standard_error) for part in parts):
        return ClaimVerdict(verdict="underpowered", is_stated_inside=None)
    regions = [region_of(claim, part) for part in parts]
    verdicts = [_judge_part(part, region) for part, region in zip(parts, regions, strict=True)]
    verdict: Verdict = "underpowered"
    if "contradicted" in verdicts:
        verdict = "contradicted"
    elif set(verdicts) == {"reproduced"}:
        verdict = "reproduced"
    inside = None
    if claim.stated is not None:
        inside = abs(parts[0].difference - float(claim.stated)) <= parts[0].margin
    return ClaimVerdict(verdict=verdict, is_stated_inside=inside)


def combinations_of(claim: Claim, num_contrasts: int) -> list[list[float]]:
    """What a claim asks for, as numbers that each have a region to lie in: weights of its contrasts, one list a part.

    Of `maximum`, every contrast; which of them is the part, only the measurement says.
    """
    each = [[float(place == number) for place in range(num_contrasts)] for number in range(num_contrasts)]
    if claim.kind == "mean":
        return [[1 / num_contrasts] * num_contrasts]
    if claim.kind == "rising":
        return [[after - before for before, after in zip(*pair, strict=True)] for pair in pairwise(each)]
    return each


def region_of(claim: Claim, part: Measured) -> tuple[float, float]:
    """Where a claim puts one of its parts: lowest and highest value."""
    if claim.bounds is not None:
        return claim.bounds
    stated = float(claim.stated) if claim.stated is not None else 1.0
    if stated == 0:
        return -2 * part.standard_error, 2 * part.standard_error
    return (0.0, math.inf) if stated > 0 else (-math.inf, 0.0)


def quantile(degrees: float) -> float:
    """Two-sided 95 % quantile of Student's t; 1.96 without a bound on the degrees."""
    return TWO_SIDED_95 if math.isinf(degrees) else t_quantile(max(1.0, degrees), 0.95)


def _compare_stated(claim: Claim, contrasts: Sequence[Interval]) -> Outcome:
    assert claim.stated is not None
    stated = Decimal(claim.stated)
    if claim.kind == "maximum":
        best = max(contrasts, key=lambda contrast: contrast.value)
    else:
        count = Decimal(len(contrasts))
        best = Interval(
            value=sum((contrast.value for contrast in contrasts), Decimal(0)) / count,
            error=sum((contrast.error for contrast in contrasts), Decimal(0)) / count,
        )
    difference = abs(best.value - stated)
    if difference <= rounding_error(stated):
        return "holds"
    return "rounding" if difference <= rounding_error(stated) + best.error else "fails"


def _does_hold(claim: Claim, values: Sequence[float], index: int) -> bool:
    if claim.kind == "within":
        assert claim.bounds is not None
        return claim.bounds[0] <= values[index] <= claim.bounds[1]
    if claim.kind == "rising":
        return index == 0 or values[index] > values[index - 1]
    return values[index] > 0


def _judge_part(part: Measured, region: tuple[float, float]) -> Verdict:
    low, high = part.difference - part.margin, part.difference + part.margin
    if high < region[0] or low > region[1]:
        return "contradicted"
    return "reproduced" if region[0] <= low and high <= region[1] else "underpowered"
