"""Do tables agree with each other, and does any number stand apart from its column?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import combinations
from statistics import median

from dashboards.papers.finding import Finding, ScoreCell, finding, score_cells
from dashboards.papers.published import Arm, Papers, PublishedTable, Row

TableRow = tuple[PublishedTable, Row]
Score = tuple[str, str]
"""(benchmark, metric): what makes columns of different tables comparable."""

MIN_SHARED = 3
"""Equal numbers in at least this many columns make a duplicate."""
MIN_OUTLIER_ROWS = 8
OUTLIER_SCORE = 6.0
"""|x − median| / (1.4826 · median absolute deviation) from which a number is told."""


def find_duplicated_rows(papers: Papers) -> list[Finding]:
    """Find rows of different experiments with the same numbers."""
    findings = []
    for (table, row), (other_table, other) in combinations(_rows(papers), 2):
        ours, theirs = _scores(table, row), _scores(other_table, other)
        shared = [score for score in ours if score in theirs]
        if _arm(row) == _arm(other) or len(shared) < MIN_SHARED:
            continue
        if all(ours[score].text == theirs[score].text for score in shared) and any(ours[s].value for s in shared):
            message = (
                f"all {len(shared)} scores equal those of {other_table.place(other)}, "
                f"which is another experiment ({_difference(row.arm, other.arm)})"
            )
            rows, columns = (row.id, other.id), (ours[score].column.id for score in shared)
            findings.append(finding("duplicate", table, message, place=table.place(row), rows=rows, columns=columns))
    return findings


def find_conflicting_rows(papers: Papers) -> list[Finding]:
    """Find one experiment that is printed twice with different numbers."""
    findings = []
    for (table, row), (other_table, other) in combinations(_rows(papers), 2):
        ours, theirs = _scores(table, row), _scores(other_table, other)
        differing = [score for score in ours if score in theirs and ours[score].text != theirs[score].text]
        if _arm(row) != _arm(other) or table.paper != other_table.paper or not differing:
            continue
        pairs = ", ".join(f"{ours[s].column.label} {ours[s].text} and {theirs[s].text}" for s in differing)
        message = f"the same experiment stands in {other_table.place(other)} with other numbers: {pairs}"
        rows, columns = (row.id, other.id), (ours[score].column.id for score in differing)
        findings.append(finding("conflict", table, message, place=table.place(row), rows=rows, columns=columns))
    return findings


def find_strong_controls(papers: Papers) -> list[Finding]:
    """Find arms meant to be worse (random or bottom tokens) that are better than what they are held against."""
    findings = []
    for table, control in _rows(papers):
        if control.role != "control":
            continue
        beaten = {True: list[str](), False: list[str]()}
        for other_table, other in _rows(papers):
            if other.role == "control" or not _are_rivals(control, other) or other_table.paper != table.paper:
                continue
            ours, theirs = _scores(table, control), _scores(other_table, other)
            shared = [score for score in ours if score in theirs]
            better = [score for score in shared if ours[score].value > theirs[score].value]
            if 2 * len(better) >= max(1, len(shared)):
                numbers = "/".join(theirs[score].text for score in shared)
                beaten[better == shared].append(f"{other.label} {numbers} ({other_table.number})")
        if beaten[True]:
            numbers = "/".join(cell.text for cell in _scores(table, control).values())
            message = f"this control, {numbers}, is better in every shared column than " + ", ".join(beaten[True])
            if beaten[False]:
                message += "; in half of them or more than " + ", ".join(beaten[False])
            findings.append(finding("control", table, message, place=table.place(control), rows=[control.id]))
    return findings


def find_outliers(papers: Papers) -> list[Finding]:
    """Find scores far from those of all other trained arms of the same model, by median and absolute deviation."""
    columns: dict[tuple[str | None, Score], dict[tuple[Arm, str], ScoreCell]] = defaultdict(dict)
    for cell in score_cells(list(papers.values())):
        if cell.row.role not in ("base", "control") and cell.row.arm.algorithm is not None:
            columns[cell.row.arm.model, _score(cell)].setdefault((cell.row.arm, cell.text), cell)
    findings = []
    for pooled in columns.values():
        values = [float(cell.value) for cell in pooled.values()]
        centre = median(values)
        spread = 1.4826 * median(abs(value - centre) for value in values)
        for cell in pooled.values():
            distance = float(cell.value) - centre
            if len(values) < MIN_OUTLIER_ROWS or abs(distance) <= OUTLIER_SCORE * spread or spread == 0:
                continue
            message = (
                f"{cell.text} is {distance:+.2f} points from the median {centre:.2f} of {len(values)} trained arms of "
                f"{cell.row.arm.model}, {abs(distance) / spread:.0f} robust standard deviations"
            )
            named = finding(
                "outlier", cell.table, message, place=cell.place, rows=[cell.row.id], columns=[cell.column.id]
            )
            findings.append(named)
    return findings


def find_wrong_emphasis(papers: Papers) -> list[Finding]:
    """Find bold that is not the best of its block, and underlines that are not second."""
    findings = []
    for table, row in _rows(papers):
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell is None or cell.emphasis == "none":
                continue
            rivals = [other for other in table.rows if other.block == row.block and other.role != "base"]
            values = [rival.value for other in rivals if (rival := table.cell(other.id, column.id)) is not None]
            rank = len({value for value in values if value > cell.value}) + 1
            wanted = {"bold": 1, "underline": 2}[cell.emphasis]
            if rank != wanted:
                message = f"{cell.text} is marked {cell.emphasis}, and is number {rank} of its block"
                findings.append(
                    finding(
                        "emphasis",
                        table,
                        message,
                        severity="note",
                        place=table.place(row, column),
                        rows=[row.id],
                        columns=[column.id],
                    )
                )
    return findings


def _rows(papers: Papers) -> Iterator[TableRow]:
    return ((table, row) for table in papers.values() for row in table.rows if row.role != "gain")


def _scores(table: PublishedTable, row: Row) -> dict[Score, ScoreCell]:
    return {_score(cell): cell for cell in score_cells([replace(table, rows=(row,))])}


def _score(cell: ScoreCell) -> Score:
    return cell.column.benchmark or "", cell.column.metric


def _arm(row: Row) -> Arm:
    """The experiment; nothing of a training belongs to an untrained model."""
    if row.arm.algorithm is None:
        return Arm(model=row.arm.model)
    return row.arm


def _are_rivals(control: Row, other: Row) -> bool:
    return other.arm.algorithm is not None and (control.arm.model, control.arm.algorithm) == (
        other.arm.model,
        other.arm.algorithm,
    )


def _difference(ours: Arm, theirs: Arm) -> str:
    return ", ".join(
        f"{field.name} {getattr(ours, field.name)} and {getattr(theirs, field.name)}"
        for field in fields(Arm)
        if getattr(ours, field.name) != getattr(theirs, field.name)
    )
