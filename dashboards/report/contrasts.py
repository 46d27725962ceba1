"""Every difference that the tables test: selectors from one another, each arm from its dense arm and from base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dashboards.cells import Cell
from dashboards.figures.swept import label_of
from dashboards.table import Row, Table
from eval.comparison import Difference, holm


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One arm minus another on one benchmark."""

    label: str
    against: str
    """`base`, `dense`, or the method of as many tokens."""
    benchmark: str
    """`Avg` for the mean over several."""
    found: Difference
    p_adjusted: float | None
    """Holm over the arms, for the same benchmark and the same other side."""


def contrasts(table: Table) -> tuple[Contrast, ...]:
    """Selectors on as many tokens first; then by average and benchmark, arms in the table's order."""
    columns: list[tuple[str, int | None]] = [(name, number) for number, name in enumerate(table.benchmarks)]
    if not table.is_single:
        columns = [("Avg", None), *columns]
    average = "Avg" if not table.is_single else table.benchmarks[0]
    found = [
        Contrast(
            label=label_of(one),
            against=one.reference,
            benchmark=average,
            found=one.found,
            p_adjusted=one.p_adjusted,
        )
        for one in table.selectors
    ]
    for against in ("dense", "base"):
        for name, number in columns:
            pairs = list(_differences(table, against, number))
            adjusted = holm([difference.p_method for _, difference in pairs])
            found += [
                Contrast(label=label_of(row), against=against, benchmark=name, found=difference, p_adjusted=p)
                for (row, difference), p in zip(pairs, adjusted, strict=True)
            ]
    return tuple(found)


def _differences(table: Table, against: str, number: int | None) -> Iterator[tuple[Row, Difference]]:
    for row in table.rows:
        cell: Cell = row.average if number is None else row.cells[number]
        found = cell.delta_base if against == "base" else cell.delta_dense
        if found is not None:
            yield row, found
