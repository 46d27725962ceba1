"""A published table as data: columns, arms, numbers as printed, and the claims made about them.

Numbers keep their printed form, because "50.60" and "50.6" say different things about rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from orchestrator.errors import OrchError

TableKind = Literal["table", "figure", "text"]
Role = Literal["base", "baseline", "method", "control", "gain"]
"""Untrained model; what the method is compared with; the paper's own method; an arm expected to be worse
(bottom or random tokens); a row of printed differences."""
Emphasis = Literal["none", "bold", "underline"]
ClaimKind = Literal["equals", "mean", "maximum", "greater", "within", "rising"]


class PaperError(OrchError):
    """A file of published numbers is malformed, or a name in it refers to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the numbers stand."""

    file: str
    """Text of the paper, a file of the papers folder."""
    anchor: str
    """Unique beginning (tables) or part (prose) of the line where they stand."""
    header_lines: int = 1
    """Lines of the table above its first row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How many completions stand behind one number."""

    num_samples: int
    """K completions a question."""
    seeds: int
    """Trainings averaged over."""
    stated_in: str
    """Where the paper says so, or that it does not."""

    @property
    def text(self) -> str:
        """`16 samples a question, 3 seeds`."""
        return f"{self.num_samples} samples a question, {self.seeds} seed{'' if self.seeds == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmphasisRule:
    """What bold and underlined cells mean."""

    rule: str
    stated: bool
    """Whether the paper states it."""
    complete: bool
    """Whether the source text keeps all marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One printed column."""

    id: str
    label: str
    metric: str
    """`avg@16`, `pass@1`, `pass@4`, `mean`, `ratio`, `percent` or `nats`."""
    benchmark: str | None = None
    """A name of `eval.benchmarks`; None for averages and quantities that are not scores."""
    mean_of: tuple[str, ...] = ()
    """The columns it is the mean of."""
    training_data: tuple[str, ...] = ()
    """Of arms that differ in their training data alone, the one behind this column; named where there are several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The experiment behind a row, as far as it is stated. Equal arms should have equal numbers."""

    model: str | None = None
    training_data: str | None = None
    algorithm: str | None = None
    """None for the untrained model."""
    method: str | None = None
    """A selection method; `full` trains on all tokens."""
    ratio: float | None = None
    end: Literal["top", "bottom"] = "top"
    max_response_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One printed number."""

    text: str
    """Without marks, for example `14.10` or `(+2.37)`."""
    emphasis: Emphasis = "none"

    @property
    def value(self) -> Decimal:
        """The number itself."""
        return Decimal(self.text.strip("()"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One printed row."""

    id: str
    label: str
    role: Role
    arm: Arm
    """The table's arm completed by the row's own keys."""
    cells: tuple[Cell | None, ...]
    """One a column; None where nothing is printed."""
    block: str | None = None
    """Rows of one block are compared with each other: same model or same algorithm."""
    quote: str | None = None
    """For prose: the words of the source in which every number of the row stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRef:
    """Which cell a claim speaks of."""

    table: str
    row: str
    column: str

    def __str__(self) -> str:
        """As written in the YAML."""
        return f"{self.table}/{self.row}.{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """mean(plus) − mean(minus); without `minus` just the mean."""

    plus: tuple[CellRef, ...]
    minus: tuple[CellRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something the paper says about its numbers; the rules for each kind are in `claims.py`."""

    id: str
    quote: str
    """Words of the source, exactly as they stand there."""
    place: str
    kind: ClaimKind
    contrasts: tuple[Contrast, ...]
    stated: str | None = None
    """The number as printed, for example `+1.55`."""
    bounds: tuple[float, float] | None = None
    """For `within`: lowest and highest value the words allow."""
    file: str | None = None
    """Source text, where it is not the table's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """One table, figure or passage of a paper."""

    id: str
    paper: str
    kind: TableKind
    number: str
    """As the paper calls it: `Table 4`."""
    section: str
    caption: str
    source: Source
    arm: Arm
    """What all rows share."""
    sampling: Sampling | None
    emphasis: EmphasisRule
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    doubts: tuple[str, ...]
    """Known doubts, to be shown beside reproduced numbers."""
    claims: tuple[Claim, ...]
    shows: tuple[str, ...] = ()
    """Tables whose numbers a figure draws."""
    experiments: tuple[str, ...] = ()
    """Files of `experiments/`, without `.yaml`, that run its arms."""

    def row(self, row_id: str) -> Row:
        """Return a row by its id.

        Raises:
            PaperError: there is none.
        """
        for row in self.rows:
            if row.id == row_id:
                return row
        raise PaperError(f"no row {row_id!r}", where=self.id, fix="rows: " + ", ".join(row.id for row in self.rows))

    def cell(self, row_id: str, column_id: str) -> Cell | None:
        """Return the number at a row and column, None where nothing is printed.

        Raises:
            PaperError: there is no such row or column.
        """
        place = self.columns.index(self.column(column_id))
        return self.row(row_id).cells[place]

    def column(self, column_id: str) -> Column:
        """Return a column by its id.

        Raises:
            PaperError: there is none.
        """
        for column in self.columns:
            if column.id == column_id:
                return column
        ids = ", ".join(column.id for column in self.columns)
        raise PaperError(f"no column {column_id!r}", where=self.id, fix=f"columns: {ids}")

    def place(self, row: Row | None = None, column: Column | None = None) -> str:
        """Say where something stands, for a reader of the paper."""
        parts = [f"{self.paper.upper()} {self.number} (section {self.section})"]
        if row is not None:
            parts.append(" ".join(part for part in (row.block, row.label) if part))
        if column is not None:
            parts.append(column.label)
        return " · ".join(parts)


Papers = Mapping[str, PublishedTable]
"""Id → table."""
