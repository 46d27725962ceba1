"""Table → text for terminals, markdown, csv, LaTeX, html, json; percent, one decimal, unless numbers.

csv and json carry full precision as fractions; what is absent is empty or null there, never 0.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, TypeVar

from dashboards.cells import Cell
from dashboards.columns import common_values
from dashboards.grid import TEXT_WIDTH, Grid, latex, markdown, text, web
from dashboards.more_seeds import MoreSeeds
from dashboards.table import DASH, SIGNIFICANT, Row, Table
from eval.comparison import MOST_SEEDS, Difference

Format = Literal["text", "md", "csv", "latex", "html", "json"]
T = TypeVar("T")

CHECKPOINTS = "these checkpoints\ndiffer: p"
"""Heads a column that is not about methods."""
SELECTORS_FACT = (
    "Each selector minus ETS, then minus random tokens, at the same share of tokens; average of the benchmarks. "
    "* after Holm's correction over this block."
)
_NOTE_WIDTH = 24


def render(table: Table, format: Format, *, width: int = TEXT_WIDTH) -> str:  # noqa: A002  # the option's name
    """Print a table; the result ends in a newline. `width` matters to `text` only."""
    grids = [*_selector_grids(table), _text_grid(table) if format == "text" else _grid(table)]
    return printed(table, format, grids=grids, as_csv=_csv, width=width)


def files(table: Table) -> dict[str, str]:
    """The artifacts of a sweep's MLflow run: file name → text."""
    return artifacts("table", _grid(table), partial(render, table))


def printed(
    table: T,
    format: Format,  # noqa: A002  # the option's name
    *,
    grids: Sequence[Grid],
    as_csv: Callable[[T], str],
    width: int,
) -> str:
    """Print a table: csv and json hold its values, the other formats its grids."""
    if format == "text":
        return text(grids, width=width)
    if format == "csv":
        return as_csv(table)
    if format == "json":
        return to_json(table)
    return {"md": markdown, "latex": latex, "html": web}[format](grids)


def artifacts(name: str, grid: Grid, render_as: Callable[[Format], str]) -> dict[str, str]:
    """The files of a table by name: in every format, and its grid as `mlflow.load_table` reads it."""
    columns = [header.replace("\n", " ").replace(".", " ") for header in grid.headers]  # a dot is a path to MLflow
    return {
        f"{name}.md": render_as("md"),
        f"{name}.json": json.dumps({"columns": columns, "data": grid.rows}, ensure_ascii=False) + "\n",
        f"{name}.csv": render_as("csv"),
        f"{name}.tex": render_as("latex"),
        f"{name}.html": render_as("html"),
        f"{name}_full.json": render_as("json"),
    }


def to_json(value: Any) -> str:
    """Print a dataclass with full precision; NaN and infinities as null."""
    return json.dumps(_finite(asdict(value)), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def shown_cell(cell: Cell) -> str:
    """One cell in words: the number with its error, or why there is none."""
    if cell.avg is None:
        return shortened(cell.note, _NOTE_WIDTH)
    return with_error(cell.avg, cell.standard_error) + (f" ({cell.note})" if cell.note else "")


def with_error(value: float | None, error: float | None, *, signed: bool = False) -> str:
    """`56.5 ± 2.8`, from fractions."""
    if value is None:
        return DASH
    shown = f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    return shown if error is None or math.isnan(error) else f"{shown} ± {100 * error:.1f}"


def shortened(note: str, width: int) -> str:
    """A reason that fits a cell: a longer one ends at its first colon or comma; the foot has it whole."""
    return note if len(note) <= width else re.split("[:,]", note)[0][:width]


def has_checkpoints(table: Table) -> bool:
    """Whether a contrast is of one seed, so that only two checkpoints can be compared."""
    deltas = [delta for row in table.rows for delta in (row.average.delta_base, row.average.delta_dense)]
    return any(delta is not None and not delta.covers_seeds for delta in deltas)


def p_cell(delta: Difference | None, adjusted: float | None, more: MoreSeeds | None) -> str:
    """`0.012*`, `0.210, +4 seeds (3.1 GPU-h)`, `one seed`: what is known of a method, and what would decide it."""
    if delta is None:
        return DASH
    if not delta.covers_seeds:
        return "one seed"
    if delta.p_method is None:
        return DASH
    if adjusted is not None and adjusted < SIGNIFICANT:
        return p_text(delta.p_method) + "*"
    return f"{p_text(delta.p_method)}, {f'>{MOST_SEEDS} seeds' if more is None else more_text(more)}"


def more_text(more: MoreSeeds) -> str:
    """`+4 seeds (3.1 GPU-h)`."""
    hours = (
        "" if more.device_hours is None else f" ({more.device_hours:.2g} {'GPU' if more.device == 'gpu' else 'core'}-h)"
    )
    return f"+{more.count} seed{'' if more.count == 1 else 's'}{hours}"


def p_text(value: float | None) -> str:
    """A p value with three decimals."""
    if value is None:
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _grid(table: Table) -> Grid:
    columns = [*table.benchmarks, *([] if table.is_single else ["Avg"])]
    contrasts = ["Δ base", "p base", "Δ dense", "p dense"]
    if has_checkpoints(table):
        contrasts = [*contrasts[:2], f"{CHECKPOINTS} base", *contrasts[2:], f"{CHECKPOINTS} dense"]
    headers = [*table.label_columns, *columns, *contrasts, "tokens", "clipped", "no box"]
    num_base_rows = sum(row.kind == "base" for row in table.rows)
    return Grid(
        title=table.experiment,
        headers=tuple(headers),
        rows=tuple(_grid_row(row, table) for row in table.rows),
        num_labels=len(table.label_columns),
        rules_after=frozenset({num_base_rows} - {0}),
        notes=(
            *(f"Warning: {warning}" for warning in table.warnings),
            *table.facts,
            *(note for row in table.rows for note in row.notes),
        ),
    )


def _selector_grids(table: Table) -> list[Grid]:
    """The contrasts between selectors; none where the experiment has no two on as many tokens."""
    if not table.selectors:
        return []
    has_one_seed = any(not one.found.covers_seeds for one in table.selectors)
    headers = [*table.label_columns, "minus", "Δ", "p", *([CHECKPOINTS] if has_one_seed else [])]
    return [
        Grid(
            title=f"{table.experiment}: selectors on as many tokens",
            headers=tuple(headers),
            rows=tuple(
                (
                    *one.labels,
                    one.reference,
                    difference_text(one.found),
                    one.looks or p_cell(one.found, one.p_adjusted, one.more),
                    *([p_text(one.found.p_checkpoints)] if has_one_seed else []),
                )
                for one in table.selectors
            ),
            num_labels=len(table.label_columns) + 1,
            notes=(SELECTORS_FACT,),
        )
    ]


def _text_grid(table: Table) -> Grid:
    """The grid of a terminal: an axis on which all arms stand alike is told once, not in a column."""
    grid = _grid(table)
    arms = [dict(zip(table.label_columns, row.labels, strict=True)) for row in table.rows if row.kind != "base"]
    common = {name: str(value) for name, value in common_values(arms).items()}
    varying = [name for name in table.label_columns if name not in common] or [table.label_columns[0]]
    kept = [table.label_columns.index(name) for name in varying]
    rows = []
    for row, cells in zip(table.rows, grid.rows, strict=True):
        labels = [row.labels[place] for place in kept]
        if row.kind == "base":  # its name stands in the first column, whichever that is
            labels[0] = row.labels[0]
        rows.append((*labels, *cells[grid.num_labels :]))
    return replace(
        grid,
        headers=(*varying, *grid.headers[grid.num_labels :]),
        rows=tuple(rows),
        num_labels=len(varying),
        common={name: value for name, value in common.items() if name not in varying},
    )


def _grid_row(row: Row, table: Table) -> tuple[str, ...]:
    cells = [*row.cells, *([] if table.is_single else [row.average])]
    contrasts: list[str] = []
    for delta, adjusted, more in (
        (row.average.delta_base, row.p_base, row.more_base),
        (row.average.delta_dense, row.p_dense, row.more_dense),
    ):
        contrasts += [difference_text(delta), p_cell(delta, adjusted, more)]
        if has_checkpoints(table):
            contrasts.append(DASH if delta is None else p_text(delta.p_checkpoints))
    return (
        *row.labels,
        *(shown_cell(cell) for cell in cells),
        *contrasts,
        *(_plain(row.mean_tokens, "{:.0f}"), _plain(row.clip_rate, "{:.1%}"), _plain(row.no_box_rate, "{:.1%}")),
    )


def difference_text(delta: Difference | None) -> str:
    """`+2.0 ± 2.5`, in percentage points; a dash where there is nothing to compare with."""
    return DASH if delta is None else with_error(delta.delta, delta.standard_error, signed=True)


def _plain(value: float | None, pattern: str) -> str:
    return DASH if value is None else pattern.format(value)


def _csv(table: Table) -> str:
    output = io.StringIO()
    records = [_flat(row, table) for row in table.rows]
    writer = csv.DictWriter(output, fieldnames=list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return output.getvalue()


_DELTA_FIELDS = ("delta", "standard_error", "degrees", "p_method", "p_checkpoints", "seeds_to_decide")


def _flat(row: Row, table: Table) -> dict[str, Any]:
    flat: dict[str, Any] = {"kind": row.kind, **dict(zip(table.label_columns, row.labels, strict=True))}
    flat = {key: "" if value == DASH else value for key, value in flat.items()}
    flat["seeds_planned"] = row.num_seeds_planned
    cells = dict(zip(table.benchmarks, row.cells, strict=True)) | ({} if table.is_single else {"macro": row.average})
    for name, cell in cells.items():
        for key, value in asdict(cell).items():
            if key in ("delta_base", "delta_dense"):
                flat |= {f"{name}/{key}/{part}": _finite((value or {}).get(part)) for part in _DELTA_FIELDS}
            else:
                flat[f"{name}/{key}"] = _finite(value)
    shares = ("p_base", "p_dense", "mean_tokens", "clip_rate", "no_box_rate")
    return flat | {key: _finite(getattr(row, key)) for key in shares} | {"notes": "; ".join(row.notes)}


def _finite(value: Any) -> Any:
    """NaN and infinities as None, all the way down."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
