"""A table as strings, and how it is printed for terminals, markdown, LaTeX (booktabs) and html.

Every table of the dashboards becomes one of these; csv and json print the values themselves and stand beside them.
A header may hold a line break; emphasis is bold and underline where a format has them, ¹ and ² in plain text.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dashboards.columns import Block, Column, common_lines, lay_out, short_names

Emphasis = Literal["bold", "underline"]
TEXT_WIDTH = 160
_MARGIN = " "
_WIDE_GAP = 3
"""Columns of a terminal between those of a table that has room for them."""

_TEXT_MARKS: Mapping[Emphasis, str] = {"bold": "¹", "underline": "²"}
_MARKDOWN_TAGS: Mapping[Emphasis, tuple[str, str]] = {"bold": ("**", "**"), "underline": ("<u>", "</u>")}
_LATEX_COMMANDS: Mapping[Emphasis, str] = {"bold": r"\textbf", "underline": r"\underline"}
_HTML_TAGS: Mapping[Emphasis, str] = {"bold": "strong", "underline": "u"}
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
    "−": "$-$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "¹": r"\textsuperscript{1}",
    "²": r"\textsuperscript{2}",
    "<": r"$<$",
    ">": r"$>$",
    "≤": r"$\leq$",
    "|": r"\textbar{}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What the formats have in common."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int
    """Leading columns that name the row; the others are numbers."""
    rules_after: frozenset[int] = frozenset()
    """A line is drawn below these rows, counted from 1."""
    emphasis: Mapping[tuple[int, int], Emphasis] = field(default_factory=dict)
    """(row, column), from 0 → how it is set off."""
    notes: tuple[str, ...]
    common: Mapping[str, str] = field(default_factory=dict)
    """Label column → the one value that all arms share: told once above a plain text instead of in every row."""


def text(grids: Sequence[Grid], *, width: int = TEXT_WIDTH) -> str:
    """Print for a terminal of `width` columns."""
    return "\n".join(_text(grid, width) for grid in grids)


def markdown(grids: Sequence[Grid]) -> str:
    """Print as GitHub and MLflow show it."""
    return "\n".join(_markdown(grid) for grid in grids)


def latex(grids: Sequence[Grid]) -> str:
    """Print one booktabs `table` each."""
    tables = "\n".join(_latex(grid) for grid in grids)
    return f"% needs \\usepackage{{booktabs}}\n{tables}"


def web(grids: Sequence[Grid]) -> str:
    """Print one html document without scripts or requests."""
    title = html.escape(grids[0].title)
    lines = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>" + "\n".join(_html(grid) for grid in grids) + "</body></html>",
    ]
    return "\n".join(lines) + "\n"


def _text(grid: Grid, width: int) -> str:
    columns = _columns(grid)
    blocks = lay_out(columns, width=width - len(_MARGIN), gap=_WIDE_GAP)
    if len(blocks) > 1:
        blocks = lay_out(columns, width=width - len(_MARGIN))
    lines = [grid.title, *common_lines(grid.common, of="all arms", width=width)]
    for block in blocks:
        lines += ["", *_block_lines(block, grid.rules_after)]
    lines += ["", *(line for note in grid.notes for line in _note_lines(note, width))]
    return "\n".join(lines) + "\n"


def _columns(grid: Grid) -> list[Column]:
    labels, results = grid.headers[: grid.num_labels], grid.headers[grid.num_labels :]
    short = [*short_names(labels, others=results), *results]
    return [
        Column(
            header=header,
            short_header=short[number],
            role="name" if number < grid.num_labels else "result",
            is_number=number >= grid.num_labels,
            cells=tuple(row[number] + _text_mark(grid.emphasis.get((at, number))) for at, row in enumerate(grid.rows)),
        )
        for number, header in enumerate(grid.headers)
    ]


def _block_lines(block: Block, rules_after: frozenset[int]) -> list[str]:
    lines = [*block.heading, "─" * block.width]
    for place, (number, line) in enumerate(block.rows, start=1):
        lines += [line, *([""] if number + 1 in rules_after and place < len(block.rows) else [])]
    return [(_MARGIN + line).rstrip() for line in lines]


def _note_lines(note: str, width: int) -> list[str]:
    """A note with a margin, broken between words only: what is longer than a line is a path or an id."""
    margin = _MARGIN * 2
    return textwrap.wrap(
        note,
        width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _text_mark(emphasis: Emphasis | None) -> str:
    return _TEXT_MARKS[emphasis] if emphasis else ""


def _markdown(grid: Grid) -> str:
    rule = [":--" if number < grid.num_labels else "--:" for number in range(len(grid.headers))]
    rows = [
        [_markdown_cell(cell, grid.emphasis.get((number, column))) for column, cell in enumerate(row)]
        for number, row in enumerate(grid.rows)
    ]
    headers = [_markdown_text(header).replace("\n", "<br>") for header in grid.headers]
    lines = [f"### {grid.title}", ""]
    lines += ["| " + " | ".join(row) + " |" for row in (headers, rule, *rows)]
    lines += ["", *(f"- {_markdown_text(note)}" for note in grid.notes)]
    return "\n".join(lines) + "\n"


def _markdown_cell(content: str, emphasis: Emphasis | None) -> str:
    before, after = _MARKDOWN_TAGS[emphasis] if emphasis else ("", "")
    return before + _markdown_text(content).replace("\n", " ") + after


def _markdown_text(content: str) -> str:
    return content.strip().replace("|", "\\|").replace("<", "&lt;")


def _latex(grid: Grid) -> str:
    columns = "l" * grid.num_labels + "r" * (len(grid.headers) - grid.num_labels)
    body = []
    for number, row in enumerate(grid.rows):
        cells = (_latex_cell(cell, grid.emphasis.get((number, column))) for column, cell in enumerate(row))
        body.append(" & ".join(cells) + r" \\")
        if number + 1 in grid.rules_after and number + 1 < len(grid.rows):
            body.append(r"\midrule")
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_text(grid.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *_latex_headers(grid),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize\raggedright",
        *(_latex_text(note) + r"\par" for note in grid.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_headers(grid: Grid) -> list[str]:
    """One line of the head for each line of the tallest header."""
    split = [header.strip().split("\n") for header in grid.headers]
    height = max(len(lines) for lines in split)
    return [
        " & ".join(_latex_text(lines[number]) if number < len(lines) else "" for lines in split) + r" \\"
        for number in range(height)
    ]


def _latex_cell(content: str, emphasis: Emphasis | None) -> str:
    shown = _latex_text(content.strip())
    return f"{_LATEX_COMMANDS[emphasis]}{{{shown}}}" if emphasis else shown


def _latex_text(content: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in content)


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


def _html(grid: Grid) -> str:
    head = "".join(_html_label(header, number < grid.num_labels, "col") for number, header in enumerate(grid.headers))
    body = []
    for number, row in enumerate(grid.rows):
        cells = (_html_cell(cell, (number, column), grid) for column, cell in enumerate(row))
        body.append(f"<tr{_class('base', number + 1 in grid.rules_after)}>{''.join(cells)}</tr>")
    lines = [
        "<main>",
        f"<table><caption>{html.escape(grid.title)}</caption>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *body,
        "</tbody></table></main>",
        "<ul>",
        *(f"<li>{html.escape(note)}</li>" for note in grid.notes),
        "</ul>",
    ]
    return "\n".join(lines)


def _html_cell(content: str, place: tuple[int, int], grid: Grid) -> str:
    if place[1] < grid.num_labels:
        return _html_label(content, True, "row")
    shown = html.escape(content.strip())
    emphasis = grid.emphasis.get(place)
    tag = _HTML_TAGS[emphasis] if emphasis else ""
    return f"<td><{tag}>{shown}</{tag}></td>" if tag else f"<td>{shown}</td>"


def _html_label(content: str, is_label: bool, scope: str) -> str:
    shown = html.escape(content.strip()).replace("\n", "<br>")
    return f'<th scope="{scope}"{_class("label", is_label)}>{shown}</th>'


def _class(name: str, is_set: bool) -> str:
    return f' class="{name}"' if is_set else ""
