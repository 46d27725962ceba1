"""The claims of a published table under our runs: measured contrast by contrast, judged, corrected for their number.

`claims.judge` takes each claim by itself at 95 %. A table makes many claims, so a verdict other than underpowered
must also hold after Holm's correction over them; what falls is called underpowered, and the note says so.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dashboards.papers.claims import Measured, Verdict, combinations_of, judge, region_of
from dashboards.papers.compared import HAS_NUMBER, JudgedClaim
from dashboards.papers.experiment_runs import ExperimentRuns
from dashboards.papers.measurement import Measurement, mean_of
from dashboards.papers.published import CellRef, Claim, ClaimKind, Contrast, Papers, PublishedTable
from dashboards.papers.score_columns import ScoreColumn, measure_row, score_column, stand_in
from dashboards.table import ONE_SEED, SIGNIFICANT
from eval.comparison import Part, estimate, holm, p_beyond, power_of
from eval.errors import DataError
from eval.seed_model import FEWEST_SEEDS

_MUST: Mapping[ClaimKind, str] = {
    "equals": "the difference lies on the stated side of 0",
    "mean": "the mean of the differences lies on the stated side of 0",
    "maximum": "the largest difference lies on the stated side of 0",
    "greater": "every difference lies above 0",
    "within": "every difference lies within {bounds}",
    "rising": "each difference lies above the one before",
}
_DECIDED = (
    "Reproduced if the 95 % interval shows it, contradicted if the interval excludes it, underpowered otherwise; both "
    "also after Holm's correction over the distinct tests of this table. "
    f"Below {FEWEST_SEEDS} seeds an arm there is no verdict: the interval is of checkpoints, not of training again."
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
    identity: Hashable
    """Equal for cells of one arm in one column, in whichever table they are printed."""

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


_Contrast = tuple[tuple[_Side, ...], tuple[_Side, ...]]
"""Plus and minus side."""


def judge_claims(table: PublishedTable, papers: Papers, runs: ExperimentRuns) -> tuple[JudgedClaim, ...]:
    """Judge every claim of a table, in its order. Claims that are one test count once in the correction."""
    contrasts = [contrasts_of(claim, papers, runs) for claim in table.claims]
    found = [_judge_alone(claim, own) for claim, own in zip(table.claims, contrasts, strict=True)]
    tests = [null_hypothesis_of(claim, own) for claim, own in zip(table.claims, contrasts, strict=True)]
    p_values: dict[Hashable, float] = {}
    for test, claim in zip(tests, found, strict=True):
        if claim.p_value is not None:
            p_values[test] = min(claim.p_value, p_values.get(test, 1.0))
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return tuple(_corrected(claim, adjusted.get(test)) for test, claim in zip(tests, found, strict=True))


def null_hypothesis_of(claim: Claim, contrasts: Sequence[_Contrast]) -> Hashable:
    """What a claim tests: equal for claims that restate one, also with the sides exchanged or another number."""
    pairs = [tuple(frozenset(side.identity for side in sides) for sides in contrast) for contrast in contrasts]
    is_ordered = claim.kind == "rising"
    tested = tuple(pairs) if is_ordered else frozenset(frozenset(pair) for pair in pairs)
    return tested, claim.kind if len(pairs) > 1 else "", claim.bounds


def _judge_alone(claim: Claim, contrasts: Sequence[_Contrast]) -> JudgedClaim:
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
    stated = None if claim.stated is None else float(claim.stated)
    ones = [[float(place == number) for place in range(len(contrasts))] for number in range(len(contrasts))]
    measured, parts = (
        [_combined(contrasts, weights, stated=stated) for weights in wanted]
        for wanted in (ones, combinations_of(claim, len(contrasts)))
    )
    present, asked = ([one for one in some if one is not None] for some in (measured, parts))
    if len(present) < len(measured) or len(asked) < len(parts):
        return replace(shown, note="its arms answered other questions, or were graded by other versions")
    if any(0 < one.num_seeds < FEWEST_SEEDS for one in present):
        return replace(shown, verdict=ONE_SEED, measured=tuple(present))
    if claim.kind == "maximum":
        asked = [max(asked, key=lambda part: part.difference)]
    judged = judge(claim, asked)
    is_own_column = all(side.column is not None and side.column.is_published for plus, _ in contrasts for side in plus)
    return replace(
        shown,
        verdict=judged.verdict,
        measured=tuple(present),
        p_value=_p_value(claim, asked, judged.verdict),
        is_stated_inside=judged.is_stated_inside if is_own_column else None,
    )


def _corrected(claim: JudgedClaim, adjusted: float | None) -> JudgedClaim:
    if claim.p_value is None:
        return claim
    if claim.verdict in ("reproduced", "contradicted") and adjusted is not None and adjusted >= SIGNIFICANT:
        note = f"{claim.verdict} by itself; not after the correction (p {adjusted:.3f})"
        return replace(claim, verdict="underpowered", note=note, p_value=adjusted)
    return replace(claim, p_value=adjusted)


def contrasts_of(claim: Claim, papers: Papers, runs: ExperimentRuns) -> list[_Contrast]:
    """Plus and minus side of each contrast; those that a twin's own benchmark makes equal stand once."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], _Contrast] = {}
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
        printed = score_column(table, table.column(ref.column))
        column = stand_in(printed, table, runs)
        yield _Side(
            row=row.label if row.block is None or row.block in row.label.casefold() else f"{row.block} {row.label}",
            label=(column or printed).label,
            column=column,
            measured=measure_row(row, column, runs) if column else (),
            identity=(row.arm, tuple(column.metrics.items()) if column else printed.id),
        )


def _combined(contrasts: Sequence[_Contrast], weights: Sequence[float], *, stated: float | None) -> Measured | None:
    """Σ weight · (mean(plus) − mean(minus)) in percent; None where the sides cannot be paired."""
    parts: list[Part] = []
    graders: dict[str, str | None] = {}
    for weight, (plus, minus) in zip(weights, contrasts, strict=True):
        for sign, sides in ((1, plus), (-1, minus)):
            for side in sides if weight else ():
                assert side.column is not None  # `lack` was asked before
                share = sign * weight / (len(sides) * len(side.measured))
                for benchmark, one in zip(side.column.metrics, side.measured, strict=True):
                    parts.append(Part(weight=share, benchmark=benchmark, arm=one.arm))
                    if graders.setdefault(benchmark, one.grader) != one.grader:
                        return None
    try:
        found = estimate(parts)
    except DataError:
        return None
    power = None if not stated else power_of(stated / 100, found.standard_error, found.degrees)
    return Measured(
        difference=100 * found.value,
        standard_error=100 * found.standard_error,
        degrees=found.degrees,
        num_seeds=min((len(part.arm.runs) for part in parts if part.arm.is_trained), default=0),
        power=power,
    )


def _p_value(claim: Claim, parts: Sequence[Measured], verdict: Verdict) -> float | None:
    """Return the p of a verdict: how easily noise puts the interval there. Two-sided, by each part's error.

    Reproduced needs all parts, so the largest p counts; contradicted needs one, so the smallest, times their number.
    Underpowered claims enter the correction with the smaller of the two: choosing claims after the fact is no way out.
    """
    if any(not math.isfinite(part.difference + part.standard_error) for part in parts):
        return None
    regions = [region_of(claim, part) for part in parts]
    inside = [
        _p_outside(part, min(part.difference - low, high - part.difference))
        for part, (low, high) in zip(parts, regions, strict=True)
    ]
    outside = [
        _p_outside(part, max(low - part.difference, part.difference - high))
        for part, (low, high) in zip(parts, regions, strict=True)
    ]
    p_reproduced, p_contradicted = max(inside), min(1.0, len(outside) * min(outside))
    if verdict == "underpowered":
        return min(p_reproduced, p_contradicted)
    return p_reproduced if verdict == "reproduced" else p_contradicted


def _p_outside(part: Measured, distance: float) -> float:
    """Two-sided p of a distance to the region's edge on the right side of it; 1 on the wrong side."""
    p_value = p_beyond(distance, part.standard_error, part.degrees) if distance > 0 else None
    return 1.0 if p_value is None else p_value


def _rule(claim: Claim, contrasts: Sequence[_Contrast]) -> str:
    bounds = "" if claim.bounds is None else f"{claim.bounds[0]:g} and {claim.bounds[1]:g} points"
    labels = dict.fromkeys(side.column.label for plus, _ in contrasts for side in plus if side.column is not None)
    judged_on = f" Judged on {'; '.join(label.rstrip('.') for label in labels)}." if labels else ""
    must = _MUST[claim.kind].format(bounds=bounds)
    if claim.stated is not None and float(claim.stated) == 0:
        must = "the difference is 0 within twice its error"
    return f"{must[0].upper()}{must[1:]}.{judged_on} {_DECIDED}"


def _in_words(plus: Sequence[_Side], minus: Sequence[_Side]) -> str:
    labels = list(dict.fromkeys(side.label for side in (*plus, *minus)))
    if len(labels) > 1:
        return " − ".join(" and ".join(side.name for side in sides) for sides in (plus, minus) if sides)
    rows = " − ".join(" and ".join(side.row for side in sides) for sides in (plus, minus) if sides)
    return f"{rows} on {labels[0]}"
