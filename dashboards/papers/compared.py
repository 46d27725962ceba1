"""A published table with our numbers in its cells: the values that every format, figure and page prints.

`comparison_table.py` fills them. Numbers are percent, as the papers print them; NaN never occurs, absence is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dashboards.names import index_of
from dashboards.papers.claims import Measured, Verdict
from dashboards.papers.published import ClaimKind, Emphasis, Role

CellState = Literal["ok", "partial", "other_grader", "mixed", "failed", "stopped", "running", "missing", "not_run"]
"""ok: all planned seeds. partial: fewer. other_grader: all, but graded by another version than most of the table.
mixed: seeds that must not be averaged: two graders, or different questions; no number. failed, stopped, running,
missing: no seed has a number, and why. not_run: the experiment has no such arm or does not run the benchmark."""
HAS_NUMBER: tuple[CellState, ...] = ("ok", "partial", "other_grader")
ClaimVerdict = Verdict | Literal["not measured", "one seed: no verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCell:
    """One arm in one column."""

    row: str
    column: str
    state: CellState
    note: str
    """Empty for `ok`; else what stands in the cell's place, such as `3 of 5 seeds` or `failed: out of memory`."""
    ours: float | None
    standard_error: float | None
    """Over questions, and over seeds from two on; None where one question or none stands behind it."""
    num_problems: int
    num_samples: int
    """K of one seed."""
    num_seeds: int
    """Seeds that are in the number; the fewest, where it is a mean over benchmarks."""
    num_seeds_planned: int
    published: str | None
    """As printed; None where nothing is."""
    published_emphasis: Emphasis
    delta: float | None
    """Ours − published; None where either is absent."""
    is_best: bool
    """Of ours in its block and column, by the rule that the paper's bold follows."""
    is_second: bool
    p_dense: float | None
    """Two-sided p that the method differs from the block's arm on all tokens; Holm over the column. None below two
    seeds of either."""
    is_significant: bool
    """p_dense < .05."""
    trial_ids: tuple[str, ...]
    """All planned seeds of the arm, with or without a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedColumn:
    """One column: as printed, or a benchmark that only the experiment runs."""

    id: str
    label: str
    metric: str
    """`avg@16`, `pass@4`, `mean`."""
    benchmarks: tuple[str, ...]
    """Whose scores are in it."""
    is_published: bool
    is_run: bool
    """Whether the experiment evaluates all of its benchmarks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One row: as printed."""

    id: str
    label: str
    role: Role
    block: str | None
    printed_in: str
    """Id of the published table: the first that the experiment names, or another that has the row instead."""
    is_run: bool
    """Whether the experiment trains this arm."""
    cells: tuple[ComparedCell, ...]
    """One a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedClaim:
    """A sentence of the paper under our numbers."""

    id: str
    quote: str
    place: str
    kind: ClaimKind
    rule: str
    """In words: what must hold, on which benchmarks, and how it is decided."""
    stated: str | None
    verdict: ClaimVerdict
    note: str
    """Why it is not measured, or what the Holm correction changed; empty otherwise."""
    contrasts: tuple[str, ...]
    """In words, one a measured contrast."""
    measured: tuple[Measured, ...]
    """Percent; one a contrast, empty if not measured. With seeds, and with the power to find the stated size."""
    p_value: float | None
    """Of the verdict, Holm-adjusted over the distinct tests of the table; None below two seeds."""
    is_stated_inside: bool | None
    """Whether the stated number lies in our 95 % interval; None where that cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTable:
    """A published table beside an experiment."""

    experiment: str
    published: str
    """Id of the published table."""
    place: str
    caption: str
    columns: tuple[ComparedColumn, ...]
    rows: tuple[ComparedRow, ...]
    claims: tuple[JudgedClaim, ...]
    facts: tuple[str, ...]
    """What holds for the whole table: sizes, settings, how errors and marks were made, what stands for what."""
    warnings: tuple[str, ...]
    """What must not be overlooked: an experiment that changed, several graders, arms that stand in no row."""
    doubts: tuple[str, ...]
    """Known doubts about the printed numbers."""

    def cell(self, row_id: str, column_id: str) -> ComparedCell:
        """Return the cell at a row and column, named by id or label.

        Raises:
            OrchError: there is no such row or column; the nearest name is offered.
        """
        rows = [(row.id, row.label) for row in self.rows]
        columns = [(column.id, column.label) for column in self.columns]
        row = self.rows[index_of(rows, row_id, noun="row", where=self.experiment)]
        return row.cells[index_of(columns, column_id, noun="column", where=self.experiment)]
