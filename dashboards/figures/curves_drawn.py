"""Figures of training: reward, accuracy, entropy and H2 over the steps, one curve an arm, seeds averaged.

Source: GMTS Figure 3 (accuracy and entropy under a sliding window), ICT Figures 4 and 5 (reward).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

from dashboards.figures.drawing import DASHES, Drawing, Series
from dashboards.figures.swept import CURVES, Curve, Swept, label_of
from orchestrator.store.scores import shown_scores
from trainers.recipe import Recipe

MOST_CURVES = 24
DRAWN = ("reward/mean", "tokens/entropy", "tokens/renyi2")
WINDOW_SHARE = 0.1
"""The sliding window, as a share of the steps; GMTS Figure 3 takes 20 steps."""
LONGEST_WINDOW = 20


def draw_curve(swept: Swept, metric: str) -> Drawing | None:
    """One training metric over the steps, smoothed; None where no arm, or too many, recorded it."""
    arms = {
        row.arm: (
            label_of(row),
            [swept.curves.get(one.trial.id, {}).get(metric, ()) for one in swept.seeds_of(row.arm)],
        )
        for row in swept.table.rows
        if row.kind == "train"
    }
    present = {label: [one for one in curves if one] for label, curves in arms.values()}
    present = {label: curves for label, curves in present.items() if curves}
    if not present or len(present) > MOST_CURVES:
        return None
    num_steps = max(curve[-1][0] for curves in present.values() for curve in curves)
    window = window_of(num_steps)
    series = tuple(
        _series(label, curves, window=window, place=place) for place, (label, curves) in enumerate(present.items())
    )
    planned = {label: len(curves) for label, curves in arms.values()}
    sizes = _distinct(f"{one.prompts_per_step} prompts × {one.group_size}" for one in _recipes(swept))
    return Drawing(
        id=metric.replace("/", "_"),
        title=f"{swept.name}: {CURVES[metric]}",
        caption=f"Mean over {sizes} responses a step, over the last {window} steps and over seeds: "
        f"{_seeds(present, planned)}.",
        x_label="training step",
        y_label=metric,
        series=series,
    )


def draw_accuracy_curve(swept: Swept) -> Drawing | None:
    """Accuracy over the checkpoints that were evaluated; None where only the last one was."""
    curves: dict[str, list[Curve]] = {}
    sizes: dict[str, None] = {}
    for row in swept.table.rows:
        for planned in swept.seeds_of(row.arm) if row.kind == "train" else ():
            scores = shown_scores(swept.records.get(planned.trial.id), planned.evaluation)
            steps: dict[int, list[float]] = {}
            for (_, step), entry in sorted(scores.items()):
                steps.setdefault(step, []).append(100 * entry.avg)
                sizes[f"n = {entry.num_problems} questions × K = {entry.num_samples} samples of {entry.benchmark}"] = (
                    None
                )
            whole = {step: fmean(found) for step, found in steps.items() if len(found) == len(swept.table.benchmarks)}
            if len(whole) > 1:
                curves.setdefault(label_of(row), []).append(tuple(sorted(whole.items())))
    if not curves or len(curves) > MOST_CURVES:
        return None
    series = tuple(_series(label, found, window=1, place=n) for n, (label, found) in enumerate(curves.items()))
    return Drawing(
        id="accuracy",
        title=f"{swept.name}: accuracy during training",
        caption=f"avg@K, {'; '.join(sizes)}; mean over training seeds: {_seeds(curves, {})}.",
        x_label="training step",
        y_label="mean over benchmarks, %",
        series=series,
    )


def window_of(num_steps: int) -> int:
    """Steps that a point of a smoothed curve is the mean of."""
    return max(1, min(LONGEST_WINDOW, round(WINDOW_SHARE * num_steps)))


def smoothed(curve: Curve, window: int) -> Curve:
    """Each value as the mean of the last `window` ones, fewer at the beginning."""
    values = [value for _, value in curve]
    return tuple((step, fmean(values[max(0, n + 1 - window) : n + 1])) for n, (step, _) in enumerate(curve))


def mean_over_seeds(curves: Sequence[Curve]) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """(step, the seeds' values), for every step that any of them has."""
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            by_step.setdefault(step, []).append(value)
    return tuple((step, tuple(by_step[step])) for step in sorted(by_step))


def _series(label: str, curves: Sequence[Curve], *, window: int, place: int) -> Series:
    points = mean_over_seeds([smoothed(curve, window) for curve in curves])
    return Series(
        name=label,
        x=tuple(float(step) for step, _ in points),
        y=tuple(fmean(values) for _, values in points),
        hover=tuple(_hover(values) for _, values in points),
        colour=place,
        dash=place // 8 % len(DASHES),
    )


def _recipes(swept: Swept) -> Iterator[Recipe]:
    for planned in swept.plan.entries:
        if planned.trial.recipe is not None:
            yield planned.trial.recipe


def _distinct(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))


def _hover(values: Sequence[float]) -> str:
    if len(values) == 1:
        return "1 seed"
    return f"{len(values)} seeds, {min(values):.4g} to {max(values):.4g}"


def _seeds(present: Mapping[str, Sequence[Curve]], planned: Mapping[str, int]) -> str:
    counts = sorted({len(curves) for curves in present.values()})
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    partial = [
        f"{label}: {len(found)} of {planned[label]}"
        for label, found in present.items()
        if planned.get(label, len(found)) != len(found)
    ]
    return f"{span} an arm" + (f" ({'; '.join(partial)})" if partial else "")
