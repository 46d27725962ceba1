"""How pages write numbers: percent with one decimal as tables do, durations, and values that sort."""

from __future__ import annotations

import math

from dashboards.cells import Cell
from dashboards.render import with_error
from dashboards.table import DASH, SIGNIFICANT


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent; a dash where there is none."""
    return DASH if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def cell_text(cell: Cell) -> str:
    """A table's cell: the number with its error and what is missing from it, or why there is none."""
    if cell.avg is None:
        return cell.note
    return with_error(cell.avg, cell.standard_error) + (f" ({cell.note})" if cell.note else "")


def is_significant(adjusted: float | None) -> bool:
    """Whether a p that was adjusted for the number of comparisons is below 5 %."""
    return adjusted is not None and adjusted < SIGNIFICANT


def duration(seconds: float | None) -> str:
    """`48 s`, `3 min 05 s`, `2 h 10 min`, `3.4 d`."""
    if seconds is None:
        return DASH
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds / 86400:.1f} d"


def sort_key(value: float | None) -> str:
    """What a column sorts by; empty sorts last."""
    return "" if value is None or not math.isfinite(value) else f"{value:.10g}"


def plain(value: object) -> str:
    """A configuration value as a YAML file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)
