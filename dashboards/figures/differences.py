"""Differences between two arms, one row a benchmark: point, 95 % interval, and the zero line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.comparison import Difference

WIDTH_INCHES = 6.0
ROW_INCHES = 0.45
FRAME_INCHES = 1.4


def plot_differences(
    differences: Mapping[str, Difference], macro: Difference | None, file: Path, *, labels: tuple[str, str]
) -> None:
    """Draw Δ = first − second in percentage points with 95 % intervals into a png, pdf or svg file.

    Raises:
        ValueError: a file type that matplotlib does not write.
    """
    from matplotlib.figure import Figure

    rows = [*differences.items(), *([("macro", macro)] if macro is not None else [])]
    figure = Figure(figsize=(WIDTH_INCHES, FRAME_INCHES + ROW_INCHES * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (name, difference) in enumerate(reversed(rows)):
        axes.errorbar(
            100 * difference.delta,
            place,
            xerr=100 * difference.margin,
            fmt="D" if name == "macro" else "o",
            color="black" if name == "macro" else "tab:blue",
            capsize=3,
        )
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("difference in percentage points, 95 % interval")
    axes.set_title(f"{labels[0]} − {labels[1]}", fontsize="medium")
    figure.savefig(file, dpi=150)
