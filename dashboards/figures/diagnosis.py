"""All figures of one diagnosis, written into a folder beside the tables they were drawn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dashboards.figures.gradients import draw_distribution, draw_entropy_against, draw_entropy_changes
from dashboards.figures.selectors import draw_elbow, draw_high_to_low, draw_overlap, draw_positions, draw_signs
from dashboards.figures.token_pages import clouds_page, highlights_page
from trainers.lite.diagnose import Diagnosis


def write_figures(diagnosis: Diagnosis, folder: Path, *, title: str) -> list[Path]:
    """Write tables (parquet), figures (png) and pages (html), and return the files in the order to look at them.

    Args:
        diagnosis: the tables.
        folder: created if need be; files of the same names are replaced.
        title: stands over every figure: which trial and which policy.
    """
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    tokens = pd.DataFrame(diagnosis.tokens)
    gradients = pd.DataFrame(diagnosis.gradients)
    changes = pd.DataFrame(diagnosis.changes)
    ratio = diagnosis.ratio
    logp_gradient = gradients["logp_gradient"]
    true_gradient = gradients["omega"].abs() * logp_gradient
    score = gradients["entropy"] * gradients["omega"].abs()
    heading = f"{title}; ρ = {ratio:g}, scope {diagnosis.scope}"
    one: dict[str, tuple[str, Callable[[Any], None]]] = {
        "overlap": (heading, lambda axes: draw_overlap(tokens, axes, ratio=ratio)),
        "positions": (heading, lambda axes: draw_positions(tokens, axes)),
        "advantage_signs": (heading, lambda axes: draw_signs(tokens, axes)),
        "high_to_low": (heading, lambda axes: draw_high_to_low(tokens, axes)),
        "js_elbow": (heading, lambda axes: draw_elbow(tokens, axes, ratio=ratio)),
        "entropy_change": (
            f"{title}; one update of {diagnosis.method}, fresh AdamW",
            lambda axes: draw_entropy_changes(changes, axes),
        ),
    }
    files = [_figure(folder / f"{name}.png", [draw], heading) for name, (heading, draw) in one.items()]
    files.append(
        _figure(
            folder / "entropy_and_gradient.png",
            [
                lambda axes: draw_entropy_against(gradients, logp_gradient, axes, label="‖∂ log π/∂θ‖₂"),
                lambda axes: draw_entropy_against(gradients, true_gradient, axes, label="|ω|·‖∂ log π/∂θ‖₂"),
                lambda axes: draw_distribution(gradients, true_gradient, axes, label="|ω|·‖∂ log π/∂θ‖₂"),
            ],
            f"{title}; as GMTS Fig. 2",
        )
    )
    files.append(
        _figure(
            folder / "entropy_and_score.png",
            [
                lambda axes: draw_entropy_against(gradients, score, axes, label="GMTS score |H·ω|"),
                lambda axes: draw_distribution(gradients, score, axes, label="GMTS score |H·ω|"),
            ],
            f"{title}; as GMTS Fig. 6",
        )
    )
    pages = {
        "highlights.html": highlights_page(tokens, gradients["uid"].unique().tolist()),
        "clouds.html": clouds_page(tokens),
    }
    for name, page in pages.items():
        (folder / name).write_text(page)
    for name, table in (("tokens", tokens), ("gradients", gradients), ("entropy_changes", changes)):
        table.to_parquet(folder / f"{name}.parquet", index=False)
    return files + [folder / name for name in pages]


def _figure(file: Path, draws: list[Callable[[Any], None]], title: str) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(draws) if len(draws) > 1 else 7.0, 4.8), layout="constrained")
    panels = figure.subplots(1, len(draws), squeeze=False)[0]
    for axes, draw in zip(panels, draws, strict=True):
        draw(axes)
    figure.suptitle(title, fontsize="medium")
    figure.savefig(file, dpi=120)
    return file
