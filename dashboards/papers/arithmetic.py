"""Do the printed numbers give the printed averages and the claims made about them?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import combinations

from dashboards.papers.claims import ClaimCheck, Interval, check_claim, contrast_of, rounding_error
from dashboards.papers.finding import Finding, finding
from dashboards.papers.published import CellRef, Claim, Contrast, Papers, PublishedTable


def find_wrong_averages(papers: Papers) -> list[Finding]:
    """Find printed averages that the mean of the printed columns does not give, whatever was rounded."""
    findings = []
    for table in papers.values():
        for row in table.rows:
            for column in table.columns:
                printed = table.cell(row.id, column.id)
                refs = tuple(CellRef(table=table.id, row=row.id, column=name) for name in column.mean_of)
                mean = contrast_of(Contrast(plus=refs), papers) if refs else None
                if printed is None or mean is None:
                    continue
                if abs(mean.value - printed.value) > mean.error + rounding_error(printed.value):
                    message = f"{printed.text} is printed, its {len(refs)} columns have mean {mean.value:.2f}"
                    place, rows, columns = table.place(row, column), [row.id], [column.id]
                    findings.append(finding("average", table, message, place=place, rows=rows, columns=columns))
    return findings


def find_unsupported_claims(papers: Papers) -> list[Finding]:
    """Find claims that the printed numbers do not give, and other readings under which they would."""
    findings = []
    for table in papers.values():
        repeated: dict[tuple[object, ...], list[Claim]] = defaultdict(list)
        for claim in table.claims:
            repeated[claim.kind, claim.contrasts, claim.stated and Decimal(claim.stated)].append(claim)
        for claims in repeated.values():
            check = check_claim(claims[0], papers)
            if check.outcome not in ("holds", "unprinted"):
                findings.append(_claim_finding(table, claims, check, papers))
    return findings


def find_restated_differently(papers: Papers) -> list[Finding]:
    """Find one comparison that a paper states twice with different numbers."""
    stated: dict[tuple[Contrast, ...], list[tuple[PublishedTable, Claim]]] = defaultdict(list)
    for table in papers.values():
        for claim in table.claims:
            if claim.stated is not None:
                stated[claim.contrasts].append((table, claim))
    findings = []
    for claims in stated.values():
        numbers = {Decimal(claim.stated or 0): f"{claim.stated} ({claim.place})" for _, claim in claims}
        if len(numbers) > 1:
            table, claim = claims[0]
            message = f"{describe(claim.contrasts[0], papers)} is stated as " + " and as ".join(numbers.values())
            place, rows, columns = f"{table.place()} · {claim.place}", _rows(claim), _columns(claim)
            findings.append(finding("restated", table, message, place=place, rows=rows, columns=columns))
    return findings


def describe(contrast: Contrast, papers: Papers) -> str:
    """Name a contrast in the table's own words: `+ GMTS Top (50%) − + ETS Top (50%), Avg.`."""
    sides = [_name_side(side, papers) for side in (contrast.plus, contrast.minus) if side]
    columns = dict.fromkeys(papers[ref.table].column(ref.column).label for ref in contrast.plus)
    return f"{' − '.join(sides)} in {', '.join(columns)}"


def _claim_finding(table: PublishedTable, claims: Sequence[Claim], check: ClaimCheck, papers: Papers) -> Finding:
    """Tell one claim, wherever the paper repeats it."""
    claim = check.claim
    if claim.stated is not None:
        given = max(check.found) if claim.kind == "maximum" else sum(check.found, Decimal(0)) / len(check.found)
        message = f"“{claim.quote}” states {claim.stated}; {describe(claim.contrasts[0], papers)} is {given:.2f}"
        if len(claim.contrasts) > 1:
            message = f"“{claim.quote}” states {claim.stated}; the {claim.kind} is {given:.2f}"
        if check.outcome == "rounding":
            message += ", which rounding of the cells allows"
        elif readings := list(_other_readings(claim, papers)):
            message += "; it is given by " + ", or by ".join(readings)
    else:
        values = {contrast: value for contrast, value in zip(claim.contrasts, check.found, strict=True)}
        against = [f"{describe(contrast, papers)}: {values[contrast]:+.2f}" for contrast in check.failing]
        message = f"“{claim.quote}”: {len(against)} of {len(check.found)} say otherwise: {'; '.join(against)}"
    return finding(
        "claim",
        table,
        message,
        severity="note" if check.outcome == "rounding" else "doubt",
        place=f"{table.place()} · {', '.join(dict.fromkeys(claim.place for claim in claims))}",
        rows=_rows(claim),
        columns=_columns(claim),
    )


def _other_readings(claim: Claim, papers: Papers) -> Iterator[str]:
    """Name other rows to compare with, or other columns to average, that do give the stated number."""
    if claim.kind != "equals" or claim.stated is None:
        return
    contrast = claim.contrasts[0]
    readings = _other_rows(contrast, papers) if contrast.minus else _other_columns(contrast, papers)
    for name, reading in readings:
        value = contrast_of(reading, papers)
        if value is not None and _gives(value, Decimal(claim.stated)):
            yield name


def _other_rows(contrast: Contrast, papers: Papers) -> Iterator[tuple[str, Contrast]]:
    """Try every set of rows of the block as what is compared with."""
    own, column = contrast.plus[0], contrast.minus[0].column
    table = papers[own.table]
    block = table.row(own.row).block
    rivals = [row for row in table.rows if row.block == block and row.id != own.row and row.role != "gain"]
    for size in range(1, len(rivals) + 1):
        for rows in combinations(rivals, size):
            minus = tuple(CellRef(table=table.id, row=row.id, column=column) for row in rows)
            if set(minus) != set(contrast.minus):
                name = "comparing with " + (
                    f"the mean of {', '.join(row.label for row in rows)}" if size > 1 else rows[0].label
                )
                yield name, replace(contrast, minus=minus)


def _other_columns(contrast: Contrast, papers: Papers) -> Iterator[tuple[str, Contrast]]:
    """Try the other metrics of the same benchmarks, and all metrics together."""
    own = contrast.plus[0]
    table = papers[own.table]
    named = {ref.column for ref in contrast.plus}
    benchmarks = {column.benchmark for column in table.columns if column.id in named}
    metrics = dict.fromkeys(column.metric for column in table.columns if column.benchmark in benchmarks)
    for chosen in (*((metric,) for metric in metrics), tuple(metrics)):
        columns = [column for column in table.columns if column.benchmark in benchmarks and column.metric in chosen]
        if {column.id for column in columns} != named:
            refs = tuple(CellRef(table=own.table, row=own.row, column=column.id) for column in columns)
            yield f"the mean of {' and '.join(chosen)} over the same benchmarks", Contrast(plus=refs)


def _gives(value: Interval, stated: Decimal) -> bool:
    return abs(value.value - stated) <= value.error + rounding_error(stated)


def _name_side(refs: Sequence[CellRef], papers: Papers) -> str:
    rows = {(ref.table, ref.row): papers[ref.table].row(ref.row) for ref in refs}
    labels = ", ".join(row.label for row in rows.values())
    block = next(iter(rows.values())).block
    return " ".join(part for part in (block, f"mean({labels})" if len(rows) > 1 else labels) if part)


def _rows(claim: Claim) -> Iterator[str]:
    return (ref.row for contrast in claim.contrasts for ref in (*contrast.plus, *contrast.minus))


def _columns(claim: Claim) -> Iterator[str]:
    return (ref.column for contrast in claim.contrasts for ref in contrast.plus)
