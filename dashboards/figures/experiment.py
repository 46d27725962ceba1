"""All figures that an experiment's records give. What it did not run is not drawn."""

from __future__ import annotations

from dataclasses import replace

from dashboards.figures.curves_drawn import DRAWN, draw_accuracy_curve, draw_curve
from dashboards.figures.drawing import Drawing
from dashboards.figures.scores_drawn import draw_accuracy_against_hours, draw_gains_by_model, draw_ratios, draw_scores
from dashboards.figures.swept import Swept

TWINS = ("_tiny", "_small")
"""Endings of the experiments that run a paper's arms at another size."""
COUNTERPARTS = {
    ("gmts_table3", "scores"): "GMTS Figure 1",
    ("gmts_figure3", "accuracy"): "GMTS Figure 3 (a)",
    ("gmts_figure3", "tokens_entropy"): "GMTS Figure 3 (b)",
    ("gmts_table5", "scores"): "GMTS Figure 4",
    ("gmts_table4", "keep_ratio"): "GMTS Figure 5, left and middle",
    ("ratio_ablation", "keep_ratio"): "GMTS Figure 5, left and middle",
    ("ict_table2", "reward_mean"): "ICT Figure 4, curves",
    ("ict_figure5", "reward_mean"): "ICT Figure 5",
}
"""(experiment, drawing) → the figure of a paper that shows the same."""


def experiment_drawings(swept: Swept) -> tuple[Drawing, ...]:
    """Draw what there is, final scores first."""
    found = (
        draw_scores(swept),
        draw_ratios(swept),
        draw_gains_by_model([swept]),
        draw_accuracy_curve(swept),
        *(draw_curve(swept, metric) for metric in DRAWN),
        draw_accuracy_against_hours(swept),
    )
    return tuple(_named(drawing, swept.name) for drawing in found if drawing is not None)


def _named(drawing: Drawing, experiment: str) -> Drawing:
    """Say which figure of a paper a drawing stands beside, and whether at the paper's size."""
    twin = next((ending for ending in TWINS if experiment.endswith(ending)), "")
    counterpart = COUNTERPARTS.get((experiment.removesuffix(twin), drawing.id))
    if counterpart is None:
        return drawing
    size = f", {twin.removeprefix('_')} twin: arms compare, numbers do not" if twin else ""
    return replace(drawing, title=f"{drawing.title} (as {counterpart}{size})")
