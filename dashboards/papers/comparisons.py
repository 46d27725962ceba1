"""How much a stated gain is worth: comparisons left out beside it, columns that make it, and sampling error."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from dashboards.papers.arithmetic import describe
from dashboards.papers.claims import TWO_SIDED_95, contrast_of
from dashboards.papers.denominators import benchmark_sizes
from dashboards.papers.finding import Finding, Severity, finding
from dashboards.papers.published import CellRef, Claim, Contrast, Papers, PublishedTable, Row

Pair = tuple[PublishedTable, Claim, CellRef, CellRef]
"""A claim of one number about two cells of one table and column, the first minus the second."""

MIN_SIBLINGS = 2
"""Comparisons stated of one kind from which a missing one is told."""


def find_omitted_comparisons(papers: Papers) -> list[Finding]:
    """Find comparisons of the kind that the text lists, with the opposite sign, that it does not list."""
    stated: dict[tuple[str, str, str], set[Contrast]] = defaultdict(set)
    for table, claim, plus, minus in _pairs(papers):
        for kind in _kinds(table, plus, minus):
            stated[kind].add(claim.contrasts[0])
    findings = []
    for (table_id, family, name), contrasts in stated.items():
        if len(contrasts) < MIN_SIBLINGS:
            continue
        table = papers[table_id]
        for contrast in _siblings(table, family, name):
            value = contrast_of(contrast, papers)
            first = contrast_of(next(iter(contrasts)), papers)
            if contrast in contrasts or value is None or first is None or value.value * first.value >= 0:
                continue
            message = (
                f"the text lists {len(contrasts)} such differences and leaves this one out: "
                f"{describe(contrast, papers)}: {value.value:+.2f}"
            )
            rows = contrast.plus[0].row, contrast.minus[0].row
            columns = [contrast.plus[0].column]
            findings.append(finding("omitted", table, message, severity="note", rows=rows, columns=columns))
    return list(dict.fromkeys(findings))


def find_driven_averages(papers: Papers) -> list[Finding]:
    """Find stated gains of an average that change sign when one of its columns is left out."""
    findings = []
    for table, claim, plus, minus in _pairs(papers):
        column = table.column(plus.column)
        gains = {name: _gain(table, plus.row, minus.row, name) for name in column.mean_of}
        if not gains:
            continue
        total = sum(gains.values(), Decimal(0))
        driver = max(gains, key=lambda name: gains[name] * (1 if total > 0 else -1))
        rest = (total - gains[driver]) / max(1, len(gains) - 1)
        if rest * total < 0:
            label = table.column(driver).label
            message = (
                f"the stated {claim.stated} of {describe(claim.contrasts[0], papers)} comes from {label} alone "
                f"({gains[driver]:+.2f} there); over the other {len(gains) - 1} columns it is {rest:+.2f}"
            )
            severity: Severity = "doubt" if 10 * abs(gains[driver]) > 11 * abs(total) else "note"
            rows = plus.row, minus.row
            findings.append(finding("driven", table, message, severity=severity, rows=rows, columns=[driver]))
    return list(dict.fromkeys(findings))


def find_gains_within_noise(papers: Papers) -> list[Finding]:
    """Find stated gains that redrawing the samples alone could give: 95 %, same questions, same two policies.

    The error of a mean score is at most sqrt(p(1−p)/(nK)), reached when every question is as hard as the mean; the
    real error is smaller and cannot be had from a table. Choice of questions and training seed come on top.
    """
    small: dict[str, dict[Contrast, str]] = defaultdict(dict)
    stated: dict[str, set[Contrast]] = defaultdict(set)
    for table, claim, plus, minus in _pairs(papers):
        margin = _sampling_margin(table, plus, minus)
        if margin is None:
            continue
        contrast = claim.contrasts[0]
        stated[table.id].add(contrast)
        if abs(_gain(table, plus.row, minus.row, plus.column)) <= margin:
            small[table.id][contrast] = f"{describe(contrast, papers)}: {claim.stated} within ±{margin:.2f}"
    findings = []
    for table_id, gains in small.items():
        message = (
            f"{len(gains)} of {len(stated[table_id])} stated gains may be sampling noise (95 %, upper bound of the "
            f"error of redrawing the answers alone): {'; '.join(gains.values())}"
        )
        firsts = [contrast.plus[0] for contrast in gains]
        rows, columns = (one.row for one in firsts), (one.column for one in firsts)
        findings.append(finding("noise", papers[table_id], message, severity="note", rows=rows, columns=columns))
    return findings


def _pairs(papers: Papers) -> Iterator[Pair]:
    for owner in papers.values():
        for claim in owner.claims:
            contrast = claim.contrasts[0]
            if claim.kind != "equals" or len(contrast.plus) != 1 or len(contrast.minus) != 1:
                continue
            plus, minus = contrast.plus[0], contrast.minus[0]
            table = papers[plus.table]
            is_printed = table.cell(plus.row, plus.column) is not None and minus.table == plus.table
            if is_printed and minus.column == plus.column and table.cell(minus.row, minus.column) is not None:
                yield table, claim, plus, minus


def _kinds(table: PublishedTable, plus: CellRef, minus: CellRef) -> Iterator[tuple[str, str, str]]:
    """What a comparison is one of: these rows over all columns; these methods in this column over all settings."""
    yield table.id, "columns", f"{plus.row} {minus.row}"
    ours, theirs = table.row(plus.row), table.row(minus.row)
    if _setting(ours) == _setting(theirs):
        yield table.id, "settings", f"{ours.arm.method} {theirs.arm.method} {plus.column}"


def _siblings(table: PublishedTable, family: str, name: str) -> Iterator[Contrast]:
    if family == "columns":
        rows = name.split()
        for column in table.columns:
            if column.benchmark is not None:
                yield _contrast(table, rows[0], rows[1], column.id)
        return
    ours, theirs, column_id = name.split()
    for row in table.rows:
        for other in table.rows:
            if (row.arm.method, other.arm.method) == (ours, theirs) and _setting(row) == _setting(other):
                yield _contrast(table, row.id, other.id, column_id)


def _setting(row: Row) -> tuple[object, ...]:
    return row.arm.model, row.arm.algorithm, row.arm.ratio, row.arm.end


def _contrast(table: PublishedTable, row: str, other: str, column: str) -> Contrast:
    refs = [CellRef(table=table.id, row=row_id, column=column) for row_id in (row, other)]
    return Contrast(plus=(refs[0],), minus=(refs[1],))


def _gain(table: PublishedTable, row: str, other: str, column: str) -> Decimal:
    ours, theirs = table.cell(row, column), table.cell(other, column)
    return ours.value - theirs.value if ours is not None and theirs is not None else Decimal(0)


def _sampling_margin(table: PublishedTable, plus: CellRef, minus: CellRef) -> float | None:
    """Half the 95 % interval of a difference between two scores or averages, in points; None where K is unknown."""
    column = table.column(plus.column)
    if table.sampling is None or not column.metric.startswith("avg@"):
        return None
    names = column.mean_of or (column.id,)
    answers = table.sampling.num_samples * table.sampling.seeds
    variance = sum(_variance(table, ref.row, name, answers) for ref in (plus, minus) for name in names)
    return TWO_SIDED_95 * 100 * math.sqrt(variance) / len(names)


def _variance(table: PublishedTable, row: str, column_id: str, answers: int) -> float:
    """p(1−p)/(answers of one benchmark), for fractions."""
    cell = table.cell(row, column_id)
    column = table.column(column_id)
    if cell is None or column.benchmark is None:
        return 0.0
    share = float(cell.value) / 100
    return share * (1 - share) / (benchmark_sizes()[column.benchmark][0] * answers)
