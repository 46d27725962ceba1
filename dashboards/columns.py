"""Columns of text, laid out for a terminal: every value is printed whole, whatever the width.

What does not fit on one line goes on in further blocks below the first, each of which begins with what tells its rows
apart: a key such as a trial's id, their names, or a number. The first block has results in it, beside the names if
these leave room, otherwise without: then the names come last.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rich.cells import cell_len

Role = Literal["key", "name", "result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A header, which may hold line breaks, and a text for each row."""

    header: str
    cells: tuple[str, ...]
    role: Role = "result"
    """`key`: short, tells rows apart, begins every block; `name`: what a row stands for; `result`: what it came to."""
    is_number: bool = False
    """Whether its cells end at the right edge of the column."""
    short_header: str | None = None
    """Printed in place of the header where not everything fits on one line."""

    width: int = field(init=False)
    """Terminal cells of its widest line."""

    def __post_init__(self) -> None:
        """Measure once: layouts ask again and again."""
        object.__setattr__(self, "width", max(map(cell_len, [*self.header.split("\n"), *self.cells])))

    def padded(self, content: str) -> str:
        """One line of this column at its full width."""
        gap = " " * (self.width - cell_len(content))
        return gap + content if self.is_number else content + gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Columns that stand side by side."""

    heading: tuple[str, ...]
    rows: tuple[tuple[int, str], ...]
    """Number of the row, from 0, and its line; only the first block also has rows that say nothing in it."""
    width: int


def lay_out(columns: Sequence[Column], *, width: int, gap: int = 2) -> tuple[Block, ...]:
    """Blocks that hold every column; one block where all of them fit.

    Otherwise names stay beside the results, if that costs one block more at most than to put them last.

    No line is wider than `width` unless a single value is, which then stands alone beside its key: the terminal
    breaks the line, and the value can still be searched for and copied.
    """
    short = [replace(column, header=column.short_header or column.header) for column in columns]
    for whole in (columns, short):
        if _width(whole, gap) <= width:
            return (_block(whole, gap),)
    keys = [column for column in short if column.role == "key"]
    names = [column for column in short if column.role == "name"]
    results = [column for column in short if column.role == "result"]
    numbered = keys or [_row_numbers(short)]
    below = _parts(numbered, numbered, [results, names], width=width, gap=gap)
    beside = below
    if names and _width([*keys, *names], gap) <= width:
        beside = _parts([*keys, *names], keys or names, [results], width=width, gap=gap)

    def cost(parts: list[list[Column]]) -> tuple[int, bool, int]:
        num_overflowing = sum(_width(part, gap) > width for part in parts)
        return num_overflowing, all(column.role != "result" for column in parts[0]), len(parts) + (parts is below)

    best = min(beside, below, key=cost)
    num_fixed = len(numbered if best is below else keys or names)
    first, *others = (_block(part, gap) for part in best)
    spoken = (part[num_fixed:] for part in best[1:])
    return first, *(_without_silent_rows(block, part) for block, part in zip(others, spoken, strict=True))


def common_values(rows: Iterable[Mapping[str, Hashable]]) -> dict[str, Hashable]:
    """The entries that all of some mappings share; none for no mappings."""
    first, *others = [*rows] or [{}]
    return {name: value for name, value in first.items() if all(name in row and row[name] == value for row in others)}


def common_lines(common: Mapping[str, object], *, of: str, width: int) -> list[str]:
    """Say what holds for every row, in lines that break between entries only; no line where nothing does."""
    lines: list[str] = []
    for number, (name, value) in enumerate(common.items()):
        entry = f"{name} {value}"
        if number == 0:
            lines.append(f"{of}: {entry}")
        elif cell_len(lines[-1]) + 3 + cell_len(entry) <= width:
            lines[-1] += f" · {entry}"
        else:
            lines.append(f"  {entry}")
    return lines


def short_names(names: Sequence[str], *, others: Collection[str] = ()) -> list[str]:
    """Each dotted name by its last parts: as few as tell it from the rest and from the `others`.

    `recipe.learning_rate` becomes `learning_rate`; what is cut off is the part that says the least.
    """
    shortened = []
    for name in names:
        parts = name.split(".")
        endings = [".".join(parts[start:]) for start in range(len(parts) - 1, 0, -1)]
        rivals = [*others, *(other for other in names if other != name)]
        shortened.append(next((end for end in endings if not any(_ends_in(rival, end) for rival in rivals)), name))
    return shortened


def _parts(
    first: Sequence[Column], later: Sequence[Column], groups: Sequence[Sequence[Column]], *, width: int, gap: int
) -> list[list[Column]]:
    """Spread columns over parts of at most `width`; a group stays together if it can.

    Args:
        first: columns with which the first part begins.
        later: columns with which every other part begins, and any that holds one column too wide for the terminal.
        groups: the columns to spread.
        width: cells of a line.
        gap: cells between columns.
    """
    parts = [[*first]]
    alone: list[list[Column]] = []
    for number, group in enumerate(groups):
        fits = [column for column in group if _width([*later, column], gap) <= width]
        alone += [[*later, column] for column in group if column not in fits]
        if number and len(parts[-1]) > len(later) and _width([*parts[-1], *fits], gap) > width:
            parts.append([*later])
        for column in fits:
            if _width([*parts[-1], column], gap) > width:
                parts.append([*later])
            parts[-1].append(column)
    return [part for part in (*parts, *alone) if len(part) > len(later)] or [[*first]]


def _width(columns: Sequence[Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _row_numbers(columns: Sequence[Column]) -> Column:
    """A key for rows that have none."""
    numbers = tuple(str(number) for number in range(1, len(columns[0].cells) + 1))
    return Column(header="row", cells=numbers, role="key", is_number=True)


def _block(columns: Sequence[Column], gap: int) -> Block:
    headers = [column.header.split("\n") for column in columns]
    height = max(map(len, headers))
    heading = [[lines[number] if number < len(lines) else "" for lines in headers] for number in range(height)]
    rows = zip(*(column.cells for column in columns), strict=True)
    return Block(
        heading=tuple(_line(columns, cells, gap) for cells in heading),
        rows=tuple((number, _line(columns, cells, gap)) for number, cells in enumerate(rows)),
        width=_width(columns, gap),
    )


def _line(columns: Sequence[Column], cells: Sequence[str], gap: int) -> str:
    padded = (column.padded(cell) for column, cell in zip(columns, cells, strict=True))
    return (" " * gap).join(padded).rstrip()


def _without_silent_rows(block: Block, spoken: Sequence[Column]) -> Block:
    return replace(block, rows=tuple(row for row in block.rows if any(column.cells[row[0]] for column in spoken)))


def _ends_in(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
