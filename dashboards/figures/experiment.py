"""All figures that an experiment's records give. What it did not run is not drawn."""

from __future__ import annotations

from dataclasses import replace

from dashboards.figures.curves_drawn import DRAWN, draw_accuracy_curve, draw_curve
from dashboards.figures.drawing import Drawing
from dashboards.figures.printed import draw_printed_ratios, draw_printed_scores
from dashboards.figures.regimes import draw_high_to_low_of_trials
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
    ("ict_table2", "high_to_low"): "ICT Figure 4, right",
    ("ict_figure5", "reward_mean"): "ICT Figure 5",
}
"""(experiment, drawing) → the figure of a paper that shows the same."""


def experiment_drawings(swept: Swept) -> tuple[Drawing, ...]:
    """Draw what there is, final scores first, with the published numbers beside those that have any."""
    scores, ratios = draw_scores(swept), draw_ratios(swept)
    found = (
        scores and replace(scores, beside=draw_printed_scores(swept.plan)),
        ratios and replace(ratios, beside=draw_printed_ratios(swept.plan)),
        draw_gains_by_model([swept]),
        draw_accuracy_curve(swept),
        *(draw_curve(swept, metric) for metric in DRAWN),
        draw_high_to_low_of_trials(swept, counterpart=full_size(swept.name)),
        draw_accuracy_against_hours(swept),
    )
    return tuple(_named(drawing, swept.name) for drawing in found if drawing is not None)


def full_size(experiment: str) -> str:
    """The experiment that a twin takes its arms from; of any other its own name."""
    return experiment.removesuffix(_twin(experiment))


def _twin(experiment: str) -> str:
    return next((ending for ending in TWINS if experiment.endswith(ending)), "")


def _named(drawing: Drawing, experiment: str) -> Drawing:
    """Say which figure of a paper a drawing stands beside, and whether at the paper's size."""
    counterpart = COUNTERPARTS.get((full_size(experiment), drawing.id))
    if counterpart is None:
        return drawing
    twin = _twin(experiment)
    size = f", {twin.removeprefix('_')} twin: arms compare, numbers do not" if twin else ""
    return replace(drawing, title=f"{drawing.title} (as {counterpart}{size})")
