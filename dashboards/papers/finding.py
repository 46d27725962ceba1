"""What an audit finds: one thing, where it stands, and how much it matters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from dashboards.papers.published import Column, PublishedTable, Row

Check = Literal[
    "average", "claim", "restated", "omitted", "driven", "duplicate", "conflict", "control", "denominator", "seeds",
    "outlier", "emphasis", "noise",
]  # fmt: skip
Severity = Literal["doubt", "note"]
"""`doubt`: a number or a sentence is wrong, or two of them cannot both hold. `note`: a reader should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found."""

    check: Check
    severity: Severity
    table: str
    """Id of the published table."""
    place: str
    """Paper, table, section, row, column, in words."""
    message: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def finding(
    check: Check,
    table: PublishedTable,
    message: str,
    *,
    severity: Severity = "doubt",
    place: str = "",
    rows: Iterable[str] = (),
    columns: Iterable[str] = (),
) -> Finding:
    """Make a finding of a table, at a place in it or as a whole; each row and column is named once."""
    return Finding(
        check=check,
        severity=severity,
        table=table.id,
        place=place or table.place(),
        message=message,
        rows=tuple(dict.fromkeys(rows)),
        columns=tuple(dict.fromkeys(columns)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCell:
    """A printed score with everything that says what it is."""

    table: PublishedTable
    row: Row
    column: Column
    text: str
    value: Decimal

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return self.table.place(self.row, self.column)


def score_cells(tables: Sequence[PublishedTable]) -> list[ScoreCell]:
    """List every printed score on a benchmark; averages, gains and other quantities are left out."""
    return [
        ScoreCell(table=table, row=row, column=column, text=cell.text, value=cell.value)
        for table in tables
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell is not None and column.benchmark is not None and row.role != "gain"
    ]
