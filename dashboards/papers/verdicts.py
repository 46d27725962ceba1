"""The claims of a published table under our runs: measured contrast by contrast, judged, corrected for their number.

`claims.judge` takes each claim by itself at 95 %. A table makes many claims, so a verdict other than underpowered
must also hold after Holm's correction over them; what falls is called underpowered, and the note says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from dashboards.cells import root_sum
from dashboards.papers.claims import Measured, Papers, Verdict, judge, parts_of, region_of
from dashboards.papers.compared import HAS_NUMBER, JudgedClaim
from dashboards.papers.experiment_runs import ExperimentRuns
from dashboards.papers.measurement import Measurement, difference_of, mean_of
from dashboards.papers.published import CellRef, Claim, ClaimKind, Contrast, PublishedTable
from dashboards.papers.score_columns import ScoreColumn, measure_row, score_column, stand_in
from dashboards.table import SIGNIFICANT
from eval.comparison import FEWEST_SEEDS, holm

_MUST: Mapping[ClaimKind, str] = {
    "equals": "the difference lies on the stated side of 0",
    "mean": "the mean of the differences lies on the stated side of 0",
    "maximum": "the largest difference lies on the stated side of 0",
    "greater": "every difference lies above 0",
    "within": "every difference lies within {bounds}",
    "rising": "each difference lies above the one before",
}
_FEW_SEEDS = (
    f" Fewer than {FEWEST_SEEDS} seeds a side: the interval is sampling noise only and says nothing of training again."
)
_DECIDED = (
    "Reproduced if the 95 % interval shows it, contradicted if the interval excludes it, underpowered otherwise; "
    "both also after Holm's correction over the claims of this table."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One cell of a claim under our runs."""

    row: str
    """As printed, with its block where the label alone would not say which."""
    label: str
    """Of the column that it is judged on."""
    column: ScoreColumn | None
    measured: tuple[Measurement, ...]

    @property
    def name(self) -> str:
        """Row and column."""
        return f"{self.row} on {self.label}"

    @property
    def lack(self) -> str:
        """Why it has no number; empty if it has."""
        if self.column is None:
            return f"{self.name} is not run"
        mean = mean_of(self.measured)
        return "" if mean.state in HAS_NUMBER else f"{self.name}: {mean.note}"


def judge_claims(table: PublishedTable, papers: Papers, runs: ExperimentRuns) -> tuple[JudgedClaim, ...]:
    """Judge every claim of a table, in its order."""
    found = [_judge_alone(claim, papers, runs) for claim in table.claims]
    adjusted = holm([claim.p_value for claim in found])
    return tuple(_corrected(claim, p_value) for claim, p_value in zip(found, adjusted, strict=True))


def _judge_alone(claim: Claim, papers: Papers, runs: ExperimentRuns) -> JudgedClaim:
    contrasts = _contrasts(claim, papers, runs)
    lacks = list(dict.fromkeys(side.lack for plus, minus in contrasts for side in (*plus, *minus) if side.lack))
    shown = JudgedClaim(
        id=claim.id,
        quote=claim.quote,
        place=claim.place,
        kind=claim.kind,
        rule=_rule(claim, contrasts),
        stated=claim.stated,
        verdict="not measured",
        note="",
        contrasts=tuple(_in_words(plus, minus) for plus, minus in contrasts),
        measured=(),
        p_value=None,
        is_stated_inside=None,
    )
    if lacks:
        return replace(shown, note=lacks[0] + (f" (and {len(lacks) - 1} more)" if len(lacks) > 1 else ""))
    measured = [_measured(plus, minus) for plus, minus in contrasts]
    present = [one for one in measured if one is not None]
    if len(present) < len(measured):
        return replace(shown, note="its arms answered other questions, or were graded by other versions")
    distinct = replace(claim, contrasts=claim.contrasts[:1] * len(present))  # `judge` counts them, no more
    judged = judge(distinct, present)
    is_own_column = all(side.column is not None and side.column.is_published for plus, _ in contrasts for side in plus)
    return replace(
        shown,
        verdict=judged.verdict,
        measured=tuple(present),
        p_value=_p_value(distinct, present, judged.verdict),
        is_stated_inside=judged.is_stated_inside if is_own_column else None,
    )


def _corrected(claim: JudgedClaim, adjusted: float | None) -> JudgedClaim:
    if claim.verdict in ("reproduced", "contradicted") and adjusted is not None and adjusted >= SIGNIFICANT:
        note = f"{claim.verdict} by itself; not after the correction (p {adjusted:.3f})"
        return replace(claim, verdict="underpowered", note=note, p_value=adjusted)
    return replace(claim, p_value=adjusted)


def _contrasts(claim: Claim, papers: Papers, runs: ExperimentRuns) -> list[tuple[tuple[_Side, ...], tuple[_Side, ...]]]:
    """Plus and minus side of each contrast; those that a twin's own benchmark makes equal stand once."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[tuple[_Side, ...], tuple[_Side, ...]]] = {}
    for contrast in claim.contrasts:
        plus, minus = (tuple(_sides(refs, papers, runs)) for refs in _refs(contrast))
        found.setdefault((tuple(side.name for side in plus), tuple(side.name for side in minus)), (plus, minus))
    return list(found.values())


def _refs(contrast: Contrast) -> tuple[Sequence[CellRef], Sequence[CellRef]]:
    return contrast.plus, contrast.minus


def _sides(refs: Sequence[CellRef], papers: Papers, runs: ExperimentRuns) -> Iterator[_Side]:
    for ref in refs:
        table = papers[ref.table]
        row = table.row(ref.row)
        printed = score_column(table, next(column for column in table.columns if column.id == ref.column))
        column = stand_in(printed, table, runs)
        yield _Side(
            row=row.label if row.block is None or row.block in row.label.casefold() else f"{row.block} {row.label}",
            label=(column or printed).label,
            column=column,
            measured=measure_row(row, column, runs) if column else (),
        )


def _measured(plus: Sequence[_Side], minus: Sequence[_Side]) -> Measured | None:
    """mean(plus) − mean(minus) in percent; None where the sides cannot be paired.

    Of several pairs the mean error is taken, which is an upper bound: the pairs share questions and arms.
    """
    if not minus:
        means = [mean_of(side.measured) for side in plus]
        error = root_sum([mean.standard_error for mean in means])
        value = sum(mean.value or 0.0 for mean in means) / len(means)
        return Measured(difference=100 * value, standard_error=math.nan if error is None else 100 * error)
    pairs = [_pair(ours, theirs) for ours, theirs in product(plus, minus)]
    present = [pair for pair in pairs if pair is not None]
    if len(present) < len(pairs):
        return None
    return Measured(
        difference=sum(pair.difference for pair in present) / len(present),
        standard_error=sum(pair.standard_error for pair in present) / len(present),
        degrees=min(pair.degrees for pair in present),
    )


def _pair(ours: _Side, theirs: _Side) -> Measured | None:
    assert ours.column is not None
    assert theirs.column is not None
    if ours.column.metrics == theirs.column.metrics:
        paired = difference_of(ours.measured, theirs.measured)
        if paired is None:
            return None
        return Measured(
            difference=100 * paired.delta, standard_error=100 * paired.standard_error, degrees=paired.degrees
        )
    first, second = mean_of(ours.measured), mean_of(theirs.measured)
    errors = [math.nan if mean.standard_error is None else mean.standard_error for mean in (first, second)]
    assert first.value is not None  # `lack` was asked before
    assert second.value is not None
    return Measured(difference=100 * (first.value - second.value), standard_error=100 * math.hypot(*errors))


def _p_value(claim: Claim, measured: Sequence[Measured], verdict: Verdict) -> float | None:
    """Return the p of a verdict: how easily noise puts the interval there. Two-sided, by each part's error.

    Reproduced needs all parts, so the largest p counts; contradicted needs one, so the smallest, times their number.
    Underpowered claims enter the correction with the smaller of the two: choosing claims after the fact is no way out.
    """
    parts = parts_of(claim, measured)
    if any(not math.isfinite(part.difference + part.standard_error) for part in parts):
        return None
    regions = [region_of(claim, part) for part in parts]
    inside = [
        _p_beyond(part, min(part.difference - low, high - part.difference))
        for part, (low, high) in zip(parts, regions, strict=True)
    ]
    outside = [
        _p_beyond(part, max(low - part.difference, part.difference - high))
        for part, (low, high) in zip(parts, regions, strict=True)
    ]
    p_reproduced, p_contradicted = max(inside), min(1.0, len(outside) * min(outside))
    if verdict == "underpowered":
        return min(p_reproduced, p_contradicted)
    return p_reproduced if verdict == "reproduced" else p_contradicted


def _p_beyond(part: Measured, distance: float) -> float:
    """Two-sided p of a distance to the region's edge on the right side of it; 1 on the wrong side."""
    if distance <= 0:
        return 1.0
    if part.standard_error == 0:
        return 0.0
    from scipy.stats import t

    return float(2 * t.sf(distance / part.standard_error, min(part.degrees, 1e9)))


def _rule(claim: Claim, contrasts: Sequence[tuple[Sequence[_Side], Sequence[_Side]]]) -> str:
    bounds = "" if claim.bounds is None else f"{claim.bounds[0]:g} and {claim.bounds[1]:g} points"
    labels = dict.fromkeys(side.column.label for plus, _ in contrasts for side in plus if side.column is not None)
    judged_on = f" Judged on {'; '.join(label.rstrip('.') for label in labels)}." if labels else ""
    must = _MUST[claim.kind].format(bounds=bounds)
    if claim.stated is not None and float(claim.stated) == 0:
        must = "the difference is 0 within twice its error"
    seeds = [len(one.runs) for sides in contrasts for side in (*sides[0], *sides[1]) for one in side.measured]
    few = _FEW_SEEDS if seeds and 0 < min(seeds) < FEWEST_SEEDS else ""
    return f"{must[0].upper()}{must[1:]}.{judged_on} {_DECIDED}{few}"


def _in_words(plus: Sequence[_Side], minus: Sequence[_Side]) -> str:
    labels = list(dict.fromkeys(side.label for side in (*plus, *minus)))
    if len(labels) > 1:
        return " − ".join(" and ".join(side.name for side in sides) for sides in (plus, minus) if sides)
    rows = " − ".join(" and ".join(side.row for side in sides) for sides in (plus, minus) if sides)
    return f"{rows} on {labels[0]}"
