"""Columns on standard output: as wide as the terminal, and one line a row where a file or a pipe takes them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from orchestrator.codec import encode

if TYPE_CHECKING:
    from dashboards.columns import Column

NARROWEST = 40
"""Columns below which nothing is laid out: a trial's id and a number."""
ENDLESS = 100_000
"""Width of what is no terminal, for lists that are searched line by line."""

SMALL_FOLDER = 1_000_000_000
"""Bytes that are read in about a second."""


def terminal_width(*, elsewhere: int = ENDLESS) -> int:
    """Columns of the terminal (COLUMNS goes first, as everywhere); `elsewhere` where there is none."""
    return max(NARROWEST, shutil.get_terminal_size(fallback=(elsewhere, 40)).columns)


def print_json(payload: object) -> None:
    """Print a value for scripts: dataclasses as objects, NaN and infinities, for which JSON has no word, as text."""
    typer.echo(json.dumps(encode(payload), ensure_ascii=False, indent=1, allow_nan=False))


def print_columns(columns: Sequence[Column], *, above: Sequence[str] = (), colours: Sequence[str | None] = ()) -> None:
    """Print columns that fit, in blocks where they do not fit beside each other.

    Args:
        columns: what to print.
        above: lines that come first.
        colours: one a row, by typer's names; none at all for plain rows.
    """
    from dashboards.columns import lay_out

    for line in above:
        typer.echo(line)
    for number, block in enumerate(lay_out(columns, width=terminal_width())):
        heading = [typer.style(line, bold=True) for line in block.heading]
        lines = [typer.style(line, fg=colours[row]) if colours else line for row, line in block.rows]
        typer.echo("\n".join([*([""] if number else []), *heading, *lines]))


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[str]], *, above: Sequence[str]) -> None:
    """Print rows of results, each known by its first cell."""
    from dashboards.columns import Column

    columns = [
        Column(header=header, role="result" if number else "key", cells=cells)
        for number, (header, cells) in enumerate(zip(headers, zip(*rows, strict=True), strict=True))
    ]
    print_columns(columns, above=above)


def reading(path: str, done: int, total: int) -> None:
    """Say how far a model folder was read that is identified for the first time; small ones need no word."""
    if total < SMALL_FOLDER:
        return
    share = f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"
    if sys.stderr.isatty():
        typer.echo(f"\rreading {path} to identify it: {share}", err=True, nl=done == total)
    elif done == total:
        typer.echo(f"read {path} to identify it: {share}; not again while its files stay as they are", err=True)


def above_columns(common: Mapping[str, object]) -> list[str]:
    """Lines on the axes on which all trials stand alike."""
    from dashboards.columns import common_lines

    return common_lines(common, of="all trials", width=terminal_width())
