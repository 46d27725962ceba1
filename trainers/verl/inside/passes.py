"""How a worker's share is cut into scoring passes where groups are averaged: in its own order, at any row.

A group that does not fit one pass goes on in the next: the head keeps its hidden states until the last member has run
(`head.py`). In the order of rows at most one group is open at a time, so that no more than its hidden states are kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def cut_by_tokens(lengths: Sequence[int], most_tokens: int) -> list[range]:
    """Return the rows of each pass: as many neighbours as hold `most_tokens`, or one row that has more."""
    passes: list[range] = []
    first = tokens = 0
    for row, length in enumerate(lengths):
        if row > first and tokens + length > most_tokens:
            passes.append(range(first, row))
            first, tokens = row, 0
        tokens += length
    return [*passes, range(first, len(lengths))]


def cut_into(lengths: Sequence[int], num_passes: int) -> list[range]:
    """Return the rows of `num_passes` passes of neighbours; the one with the most tokens has as few as can be.

    Args:
        lengths: tokens of each row.
        num_passes: of the worker that needs the most: FSDP gathers weights pass by pass, on all workers at once. At
            most one a row.
    """
    fewest = max(lengths)
    limits = range(fewest, sum(lengths) + 1)
    place = bisect_left(limits, True, key=lambda limit: len(cut_by_tokens(lengths, limit)) <= num_passes)
    passes = cut_by_tokens(lengths, limits[place])
    while len(passes) < num_passes:
        index = max(range(len(passes)), key=lambda index: len(passes[index]))
        rows = passes[index]
        middle = (rows.start + rows.stop) // 2
        passes[index : index + 1] = [range(rows.start, middle), range(middle, rows.stop)]
    return passes


def ends_here(groups: Sequence[Sequence[str]]) -> list[list[bool]]:
    """Return whether a row's pass has its group's last member, from the group of every row of every pass."""
    last = {group: number for number, rows in enumerate(groups) for group in rows}
    return [[last[group] == number for group in rows] for number, rows in enumerate(groups)]
