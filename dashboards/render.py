"""Table → text for terminals, markdown, csv, LaTeX (booktabs), html, json; percent, one decimal, unless numbers.

csv and json carry full precision as fractions; what is absent is empty or null there, never 0.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from dashboards.cells import Cell
from dashboards.table import DASH, SIGNIFICANT, Row, Table
from eval.comparison import Difference

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Format = Literal["text", "md", "csv", "latex", "html", "json"]

_NOTE_WIDTH = 24
"""A longer reason is cut at its colon in a cell; the foot has it whole."""
_TEXT_WIDTH = 160
_NUM_SIDE_COLUMNS = 3
"""Tokens, clipped, no box: left out of `text` where the terminal is too narrow for them."""
_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
    "<": r"$<$",
    ">": r"$>$",
    "≤": r"$\leq$",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """A table as strings: what text, markdown, LaTeX and html have in common."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int
    """Leading columns that name the row; the others are numbers."""
    num_base_rows: int
    notes: tuple[str, ...]


def render(table: Table, format: Format, *, width: int = _TEXT_WIDTH) -> str:  # noqa: A002  # the option's name
    """Print a table; the result ends in a newline. `width` matters to `text` only."""
    if format == "text":
        return _text(table, width)
    printers: Mapping[str, Callable[[Table], str]] = {
        "md": _markdown,
        "csv": _csv,
        "latex": _latex,
        "html": _html,
        "json": _json,
    }
    return printers[format](table)


def files(table: Table) -> dict[str, str]:
    """The artifacts of a sweep's MLflow run: file name → text. `table.json` is as `mlflow.load_table` reads it."""
    grid = _grid(table)
    columns = [header.replace(".", " ") for header in grid.headers]  # MLflow's viewer takes a dot for a path
    return {
        "table.md": _markdown(table),
        "table.json": json.dumps({"columns": columns, "data": grid.rows}, ensure_ascii=False) + "\n",
        "table.csv": _csv(table),
        "table.tex": _latex(table),
        "table.html": _html(table),
        "table_full.json": _json(table),
    }


def _grid(table: Table) -> _Grid:
    columns = [*table.benchmarks, *([] if table.is_single else ["Avg"])]
    headers = [*table.label_columns, *columns, "Δ base", "p base", "Δ dense", "p dense", "tokens", "clipped", "no box"]
    return _Grid(
        headers=tuple(headers),
        rows=tuple(_grid_row(row, is_single=table.is_single) for row in table.rows),
        num_labels=len(table.label_columns),
        num_base_rows=sum(row.kind == "base" for row in table.rows),
        notes=(*table.facts, *(note for row in table.rows for note in row.notes)),
    )


def _grid_row(row: Row, *, is_single: bool) -> tuple[str, ...]:
    cells = [*row.cells, *([] if is_single else [row.average])]
    base, dense = row.average.delta_base, row.average.delta_dense
    return (
        *row.labels,
        *(_cell(cell) for cell in cells),
        *(_delta(base), _p_value(base, row.p_base), _delta(dense), _p_value(dense, row.p_dense)),
        *(_plain(row.mean_tokens, "{:.0f}"), _plain(row.clip_rate, "{:.1%}"), _plain(row.no_box_rate, "{:.1%}")),
    )


def _cell(cell: Cell) -> str:
    if cell.avg is None:
        return cell.note if len(cell.note) <= _NOTE_WIDTH else cell.note.partition(":")[0][:_NOTE_WIDTH]
    error = cell.standard_error
    shown = f"{100 * cell.avg:.1f}" + ("" if error is None or math.isnan(error) else f" ± {100 * error:.1f}")
    return f"{shown} ({cell.note})" if cell.note else shown


def _delta(delta: Difference | None) -> str:
    if delta is None:
        return DASH
    error = "" if math.isnan(delta.standard_error) else f" ± {100 * delta.standard_error:.1f}"
    return f"{100 * delta.delta:+.1f}{error}"


def _p_value(delta: Difference | None, adjusted: float | None) -> str:
    if delta is None or delta.p_t is None:
        return DASH
    mark = "*" if adjusted is not None and adjusted < SIGNIFICANT else ""
    return ("<0.001" if delta.p_t < 0.001 else f"{delta.p_t:.3f}") + mark


def _plain(value: float | None, pattern: str) -> str:
    return DASH if value is None else pattern.format(value)


def _text(table: Table, width: int) -> str:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    grid = _grid(table)
    output = io.StringIO()
    console = Console(file=output, width=width, color_system=None, highlight=False)
    shown = _rich_table(table.experiment, grid, len(grid.headers))
    if console.measure(shown).maximum > width:
        shown = _rich_table(table.experiment, grid, len(grid.headers) - _NUM_SIDE_COLUMNS)
    console.print(shown)
    for note in grid.notes:
        console.print(Padding(Text(note), (0, 0, 0, 2)))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def _rich_table(title: str, grid: _Grid, num_columns: int) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(grid.headers[:num_columns]):
        is_label = number < grid.num_labels
        shown.add_column(Text(header), justify="left" if is_label else "right", overflow="fold", no_wrap=is_label)
    for number, row in enumerate(grid.rows, start=1):
        shown.add_row(*(Text(cell) for cell in row[:num_columns]), end_section=number == grid.num_base_rows)
    return shown


def _markdown(table: Table) -> str:
    grid = _grid(table)
    rule = [":--" if number < grid.num_labels else "--:" for number in range(len(grid.headers))]
    lines = [f"### {table.experiment}", ""]
    lines += [
        "| " + " | ".join(_markdown_text(cell) for cell in row) + " |" for row in (grid.headers, rule, *grid.rows)
    ]
    lines += ["", *(f"- {_markdown_text(note)}" for note in grid.notes)]
    return "\n".join(lines) + "\n"


def _markdown_text(text: str) -> str:
    return text.strip().replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _latex(table: Table) -> str:
    grid = _grid(table)
    columns = "l" * grid.num_labels + "r" * (len(grid.headers) - grid.num_labels)
    rows = [" & ".join(_latex_text(cell.strip()) for cell in row) + r" \\" for row in grid.rows]
    if 0 < grid.num_base_rows < len(rows):
        rows.insert(grid.num_base_rows, r"\midrule")
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_text(table.experiment)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_latex_text(header.strip()) for header in grid.headers) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize\raggedright",
        *(_latex_text(note) + r"\par" for note in grid.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }
main { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; font-size: 1.2em; padding-bottom: .5em; }
th, td { padding: .3em .8em; text-align: right; white-space: nowrap; }
th.label { text-align: left; font-weight: 500; }
thead th, thead th.label { font-weight: 600; border-top: 2px solid; border-bottom: 1px solid; }
tr.base > * { border-bottom: 1px solid; }
tbody tr:last-child > * { border-bottom: 2px solid; }
tbody tr:hover { background: color-mix(in srgb, currentColor 8%, transparent); }
ul { font-size: .9em; max-width: 75ch; }
"""


def _html(table: Table) -> str:
    grid = _grid(table)
    head = "".join(_html_cell(header, number, grid, scope="col") for number, header in enumerate(grid.headers))
    body = []
    for number, row in enumerate(grid.rows, start=1):
        cells = "".join(_html_cell(cell, column, grid, scope="row") for column, cell in enumerate(row))
        is_last_base = number == grid.num_base_rows
        body.append(f"<tr{_class('base', is_last_base)}>{cells}</tr>")
    title = html.escape(table.experiment)
    lines = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><main>",
        f"<table><caption>{title}</caption>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *body,
        "</tbody></table></main>",
        "<ul>",
        *(f"<li>{html.escape(note)}</li>" for note in grid.notes),
        "</ul></body></html>",
    ]
    return "\n".join(lines) + "\n"


def _html_cell(text: str, column: int, grid: _Grid, *, scope: str) -> str:
    content = html.escape(text.strip())
    is_label = column < grid.num_labels
    if is_label or scope == "col":
        return f'<th scope="{scope}"{_class("label", is_label)}>{content}</th>'
    return f"<td>{content}</td>"


def _class(name: str, is_set: bool) -> str:
    return f' class="{name}"' if is_set else ""


def _csv(table: Table) -> str:
    output = io.StringIO()
    records = [_flat(row, table) for row in table.rows]
    writer = csv.DictWriter(output, fieldnames=list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return output.getvalue()


_DELTA_FIELDS = ("delta", "standard_error", "p_t")


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


def _json(table: Table) -> str:
    return json.dumps(_finite(asdict(table)), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """NaN and infinities as None, all the way down."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
