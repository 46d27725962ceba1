"""Drawings for a page: the JSON that plotly.js draws. Nothing of plotly is imported; colours of text are the page's."""

from __future__ import annotations

from typing import Any

from dashboards.figures.drawing import COLOURS, DASHES, Drawing, Place, Series


def plotly_figure(drawing: Drawing) -> dict[str, Any]:
    """Return {data, layout} for `Plotly.newPlot`."""
    categories = list(dict.fromkeys(place for one in drawing.series for place in one.x if isinstance(place, str)))
    x_axis: dict[str, Any] = {"title": {"text": drawing.x_label}, "automargin": True}
    if categories:
        x_axis |= {"type": "category", "categoryarray": categories}
    elif drawing.is_x_logarithmic:
        x_axis["type"] = "log"
    return {
        "data": [_trace(one, drawing) for one in drawing.series],
        "layout": {
            "xaxis": x_axis,
            "yaxis": {"title": {"text": drawing.y_label}, "automargin": True},
            "barmode": "group",
            "hovermode": "closest",
            "showlegend": len(drawing.series) > 1,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            "margin": {"t": 10, "r": 10},
        },
    }


def _trace(one: Series, drawing: Drawing) -> dict[str, Any]:
    colour = COLOURS[one.colour % len(COLOURS)]
    x, y = list(one.x), list(one.y)
    if one.mark == "level":
        x = _places(drawing)
        y = [one.y[0]] * len(x)
    trace: dict[str, Any] = {"name": one.name, "x": x, "y": y}
    if one.mark == "bars":
        trace |= {"type": "bar", "marker": {"color": colour}}
    else:
        is_curve = one.mark == "level" or len(one.x) > 12
        mode = "markers" if one.mark == "points" else "lines" if is_curve else "lines+markers"
        line = {"color": colour, "dash": DASHES[one.dash % len(DASHES)]}
        trace |= {"type": "scatter", "mode": mode, "line": line, "marker": {"color": colour, "size": 8}}
    if one.error:
        trace["error_y"] = {"type": "data", "array": list(one.error), "color": colour, "thickness": 1.2, "width": 3}
    if one.hover and one.mark != "level":
        trace |= {"text": list(one.hover), "hovertemplate": "%{x}: %{y:.4g}<br>%{text}<extra>%{fullData.name}</extra>"}
        trace["textposition"] = "none" if one.mark == "bars" else "top center"
    return trace


def _places(drawing: Drawing) -> list[Place]:
    """Where the other series have points: numbers in order, categories as they come."""
    places = list(dict.fromkeys(place for one in drawing.series if one.mark != "level" for place in one.x))
    numbers = sorted(place for place in places if not isinstance(place, str))
    return [*numbers] if numbers else places
