"""A figure as data: series with errors and hover texts. `pyplot_drawing` and `plotly_drawing` print the same values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = float | str
"""A point on the horizontal axis: a number, or the name of a category."""
Mark = Literal["line", "points", "bars", "level"]
"""`line`: points joined. `points`: markers alone. `bars`: grouped bars. `level`: a horizontal line, one value."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#8c564b")
"""Okabe and Ito's, told apart by colour-blind readers too; used in turn."""
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One arm, or one curve."""

    name: str
    x: tuple[Place, ...]
    y: tuple[float | None, ...]
    """None leaves a gap: nothing was measured there."""
    error: tuple[float | None, ...] = ()
    """± one standard error a point; empty where there is none."""
    hover: tuple[str, ...] = ()
    """What a point says besides its numbers; empty, or one a point."""
    mark: Mark = "line"
    colour: int = 0
    """Index into `COLOURS`, taken modulo their number."""
    dash: int = 0
    """Index into `DASHES`."""

    def __post_init__(self) -> None:
        """Raise ValueError for values, errors or texts that do not match the points."""
        counts = {"y": len(self.y), "error": len(self.error), "hover": len(self.hover)}
        wrong = [name for name, count in counts.items() if count != len(self.x) and (count or name == "y")]
        if wrong:
            raise ValueError(f"series {self.name}: {len(self.x)} points, but {counts}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One figure with what a reader must know beside it."""

    id: str
    """File name of its pdf and png."""
    title: str
    caption: str
    """What is drawn, over how many questions, samples and seeds."""
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    is_x_logarithmic: bool = False
    beside: Drawing | None = None
    """The paper's numbers of the same figure, as a panel of its own."""
