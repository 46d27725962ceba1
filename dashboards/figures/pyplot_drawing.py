"""Drawings for paper: matplotlib, pdf and png, with the caption that says n and seeds under the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from dashboards.figures.drawing import COLOURS, Drawing, Series

FORMATS = ("pdf", "png")
DPI = 150
_LABEL_ROOM = 50
"""Letters that fit side by side under the axis; more of them are turned."""
_PANEL_INCHES, _SIDE_LEGEND_INCHES = 7.0, 9.0
"""Width of a panel, and of one whose legend stands beside its axes."""
_LEGEND_ROOM = 6
"""Series whose legend fits inside; that of more stands beside the axes."""
_TITLE_LETTERS = 72
_CAPTION_LETTERS = 110
_LINE_STYLES = ("-", "--", ":", "-.")


def write_drawing(drawing: Drawing, folder: Path) -> list[Path]:
    """Write `<id>.pdf` and `<id>.png` into a folder, which is created if need be."""
    from matplotlib.figure import Figure

    panels = [drawing, *([drawing.beside] if drawing.beside else [])]
    widths = [_SIDE_LEGEND_INCHES if len(one.series) > _LEGEND_ROOM else _PANEL_INCHES for one in panels]
    figure = Figure(figsize=(sum(widths), 4.8), layout="constrained")
    parts = figure.subfigures(1, len(panels), width_ratios=widths, squeeze=False)[0]
    for panel, part in zip(panels, parts, strict=True):
        _draw_panel(panel, part, is_side_legend=len(panel.series) > _LEGEND_ROOM)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{drawing.id}.{suffix}" for suffix in FORMATS]
    for file in files:
        # No time in the file: the same numbers give the same bytes.
        figure.savefig(file, dpi=DPI, metadata={"CreationDate": None} if file.suffix == ".pdf" else None)
    return files


def _draw_panel(drawing: Drawing, part: Any, *, is_side_legend: bool) -> None:
    axes = part.subplots()
    _draw(drawing, axes)
    if is_side_legend:
        part.legend(fontsize="x-small", loc="outside right upper")
    elif len(drawing.series) > 1:
        axes.legend(fontsize="small")
    part.supxlabel(fill(drawing.caption, _CAPTION_LETTERS), fontsize="x-small", color="dimgrey")


def _draw(drawing: Drawing, axes: Any) -> None:
    bars = [one for one in drawing.series if one.mark == "bars"]
    categories = list(dict.fromkeys(place for one in drawing.series for place in one.x if isinstance(place, str)))
    for one in drawing.series:
        if one.mark == "bars":
            _draw_bars(one, axes, categories=categories, place=bars.index(one), num_bars=len(bars))
        elif one.mark == "level":
            axes.axhline(one.y[0], label=one.name, **_style(one))
        else:
            places = [categories.index(place) if isinstance(place, str) else place for place in one.x]
            axes.errorbar(places, _numbers(one.y), yerr=_errors(one), **_marked(one))
    if categories:
        is_wide = sum(map(len, categories)) > _LABEL_ROOM
        axes.set_xticks(
            range(len(categories)), categories, rotation=60 if is_wide else 0, ha="right" if is_wide else "center"
        )
    if drawing.is_x_logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(drawing.x_label)
    axes.set_ylabel(drawing.y_label)
    axes.set_title(fill(drawing.title, _TITLE_LETTERS), fontsize="medium")
    axes.grid(axis="y", alpha=0.3)


def _draw_bars(one: Series, axes: Any, *, categories: Sequence[str], place: int, num_bars: int) -> None:
    width = 0.8 / num_bars
    places = [categories.index(str(at)) + (place - (num_bars - 1) / 2) * width for at in one.x]
    colour = COLOURS[one.colour % len(COLOURS)]
    axes.bar(places, _numbers(one.y), width=width, yerr=_errors(one), label=one.name, color=colour, capsize=2)


def _style(one: Series) -> dict[str, Any]:
    return {"color": COLOURS[one.colour % len(COLOURS)], "linestyle": _LINE_STYLES[one.dash % len(_LINE_STYLES)]}


def _marked(one: Series) -> dict[str, Any]:
    is_curve = one.mark == "line" and len(one.x) > 12
    style = _style(one) | {"marker": "" if is_curve else "o", "capsize": 2, "label": one.name}
    return style | ({"linestyle": "none"} if one.mark == "points" else {})


def _numbers(values: Sequence[float | None]) -> list[float]:
    """Gaps as NaN, which matplotlib leaves empty."""
    return [math.nan if value is None else value for value in values]


def _errors(one: Series) -> list[float] | None:
    return _numbers(one.error) if one.error else None
