"""ComparedTable → text, markdown, csv, LaTeX, html, json: the table as printed with ours beside it, then its claims.

A cell reads `ours ± SE | published | Δ`; a column that the experiment does not run holds the published number alone.
csv has one line a cell, json everything, both with full precision.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from functools import partial

from dashboards.grid import TEXT_WIDTH, Emphasis, Grid
from dashboards.papers.compared import ComparedCell, ComparedColumn, ComparedRow, ComparedTable, JudgedClaim
from dashboards.render import Format, artifacts, p_text, printed, shortened
from dashboards.table import DASH

_NOTE_WIDTH = 40


def render_compared(table: ComparedTable, format: Format, *, width: int = TEXT_WIDTH) -> str:  # noqa: A002  # the option's name
    """Print a compared table; the result ends in a newline. `width` matters to `text` only."""
    return printed(table, format, grids=grids(table), as_csv=_csv, width=width)


def compared_files(table: ComparedTable) -> dict[str, str]:
    """The artifacts of a sweep's MLflow run: file name → text."""
    return artifacts("published", grids(table)[0], partial(render_compared, table))


def grids(table: ComparedTable) -> tuple[Grid, ...]:
    """The table, and its claims where it makes any."""
    return (_table(table), _claims(table)) if table.claims else (_table(table),)


def cell_text(cell: ComparedCell, column: ComparedColumn) -> str:
    """One cell in words: ours, published, Δ, as far as there are any."""
    if not column.is_run:
        return cell.published or ""
    shown = [_ours(cell)]
    if column.is_published:
        shown += [cell.published or DASH, DASH if cell.delta is None else _signed(cell.delta)]
    return " | ".join(shown)


def _table(table: ComparedTable) -> Grid:
    rows = [_row(row, table) for row in table.rows]
    ends = {
        number
        for number, row in enumerate(table.rows, start=1)
        if number < len(rows) and _group(table.rows[number]) != _group(row)
    }
    return Grid(
        title=f"{table.experiment} beside {table.place}",
        headers=("", *(_header(column) for column in table.columns)),
        rows=tuple(rows),
        num_labels=1,
        rules_after=frozenset(ends),
        emphasis=_emphasis(table),
        notes=(
            *(f"Warning: {warning}" for warning in table.warnings),
            *table.facts,
            *(f"Doubt about the published numbers: {doubt}" for doubt in table.doubts),
        ),
    )


def _group(row: ComparedRow) -> tuple[str | None, bool]:
    return row.block, row.role == "base"


def _row(row: ComparedRow, table: ComparedTable) -> tuple[str, ...]:
    label = row.label if row.printed_in == table.published else f"{row.label} [{row.printed_in}]"
    return label, *(cell_text(cell, column) for cell, column in zip(row.cells, table.columns, strict=True))


def _header(column: ComparedColumn) -> str:
    if not column.is_run:
        return f"{column.label}\npublished, not run"
    return f"{column.label}\n" + ("ours | published | Δ" if column.is_published else "ours, not in the paper")


def _emphasis(table: ComparedTable) -> dict[tuple[int, int], Emphasis]:
    marks: dict[tuple[int, int], Emphasis] = {}
    for number, row in enumerate(table.rows):
        for place, cell in enumerate(row.cells, start=1):
            if cell.is_best or cell.is_second:
                marks[number, place] = "bold" if cell.is_best else "underline"
    return marks


def _ours(cell: ComparedCell) -> str:
    note = shortened(cell.note, _NOTE_WIDTH)
    if cell.ours is None:
        return note
    error = "" if cell.standard_error is None else f" ± {cell.standard_error:.1f}"
    return f"{cell.ours:.1f}{error}{'*' if cell.is_significant else ''}" + (f" ({note})" if note else "")


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def _claims(table: ComparedTable) -> Grid:
    rules = dict.fromkeys(claim.rule for claim in table.claims)
    return Grid(
        title=f"{table.place}: its claims under {table.experiment}",
        headers=("claim", "stated", "measured", "95 %", "seeds", "power", "p", "verdict"),
        rows=tuple(_claim(claim) for claim in table.claims),
        num_labels=1,
        notes=tuple(
            [f"{', '.join(claim.id for claim in table.claims if claim.rule == rule)}: {rule}" for rule in rules]
            + [f"{claim.id}: {claim.note}" for claim in table.claims if claim.note]
        ),
    )


def _claim(claim: JudgedClaim) -> tuple[str, ...]:
    inside = {True: " (inside)", False: " (outside)", None: ""}[claim.is_stated_inside]
    stated = DASH if claim.stated is None else claim.stated + inside
    return claim.id, stated, _measured(claim), *_surety(claim), p_text(claim.p_value), claim.verdict


def _measured(claim: JudgedClaim) -> str:
    if not claim.measured:
        return DASH
    if len(claim.measured) == 1:
        (one,) = claim.measured
        return f"{_signed(one.difference)} ± {one.standard_error:.1f}"
    values = [one.difference for one in claim.measured]
    return f"{_signed(min(values))} … {_signed(max(values))} ({len(values)} differences)"


def _surety(claim: JudgedClaim) -> tuple[str, str, str]:
    """Interval, seeds, power to find the stated size; of several differences the fewest seeds and the least power."""
    if not claim.measured:
        return DASH, DASH, DASH
    seeds = [one.num_seeds for one in claim.measured]
    powers = [one.power for one in claim.measured if one.power is not None and one.power == one.power]
    (one,) = claim.measured if len(claim.measured) == 1 else (None,)
    span = DASH
    if one is not None and one.margin == one.margin:
        span = f"{_signed(one.difference - one.margin)} to {_signed(one.difference + one.margin)}"
    return span, str(min(seeds)), f"{100 * min(powers):.0f}%" if powers else DASH


def _csv(table: ComparedTable) -> str:
    output = io.StringIO()
    columns = {column.id: column for column in table.columns}
    writer = None
    for row in table.rows:
        for cell in row.cells:
            line = {
                "published_table": row.printed_in,
                "label": row.label,
                "block": row.block,
                "metric": columns[cell.column].metric,
                **asdict(cell),
                "trial_ids": " ".join(cell.trial_ids),
            }
            if writer is None:
                writer = csv.DictWriter(output, fieldnames=list(line), lineterminator="\n")
                writer.writeheader()
            writer.writerow(line)
    return output.getvalue()
