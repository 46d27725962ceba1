"""What a referee would say first of an experiment: the reasons not to read its table as a finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from dashboards.figures.curves_drawn import mean_over_seeds
from dashboards.figures.swept import Curve, Swept, label_of
from eval.seed_model import FEWEST_SEEDS

REWARD = "reward/mean"
CUT_OFF = 0.2
"""Share of completions at the length limit from which a score is one of the limit, too."""
NO_BOX = 0.99
"""Share of completions without an answer from which it is the prompt that fails."""
FEWEST_STEPS = 15
"""Of a curve whose end can be judged."""
SURE_SLOPE = 3.0
"""Standard errors of a slope above 0; more than two, as steps that follow one another are alike."""


def headlines(swept: Swept) -> tuple[str, ...]:
    """One sentence a reason, the gravest first; none where there is nothing to say."""
    return (*_of_scores(swept), *_of_benchmarks(swept.frame), *_of_training(swept))


def is_rising(curve: Curve) -> bool:
    """Whether the last third of a curve has a slope that its scatter does not explain."""
    if len(curve) < FEWEST_STEPS:
        return False
    step, value = np.array(curve[-(len(curve) // 3) :]).T
    step = step - step.mean()
    slope = step @ value / (step @ step)
    rest = value - value.mean() - slope * step
    error = np.sqrt(rest @ rest / (len(value) - 2) / (step @ step))
    return bool(slope > SURE_SLOPE * error)


def _of_scores(swept: Swept) -> Iterator[str]:
    rows = [row for row in swept.table.rows if row.kind == "train" and row.average.avg is not None]
    below = [row for row in rows if row.average.delta_base is not None and row.average.delta_base.delta < 0]
    if rows and len(below) == len(rows):
        yield (
            "Every arm is below the model that it began from." if len(rows) > 1 else "The arm is below its base model."
        )
    if rows and max(row.average.num_seeds for row in rows) < FEWEST_SEEDS:
        yield "One seed: no verdict on any method."


def _of_benchmarks(frame: pd.DataFrame) -> Iterator[str]:
    for name, part in frame[frame["state"] == "scored"].groupby("benchmark", sort=False):
        if part["no_box_rate"].min() >= NO_BOX:
            yield f"No sample of {name} has a box: look at the template ({part['template'].iloc[0]})."
        cut_off = float(part["clip_rate"].mean())
        if cut_off >= CUT_OFF:
            limit = int(part["max_new_tokens"].iloc[0])
            yield f"{100 * cut_off:.0f} % of {name} is cut off at {limit} tokens: raise max_new_tokens."


def _of_training(swept: Swept) -> Iterator[str]:
    curves = {label_of(row): _reward(swept, row.arm) for row in swept.table.rows if row.kind == "train"}
    curves = {label: curve for label, curve in curves.items() if curve}
    zero = [label for label, curve in curves.items() if all(value == 0 for _, value in curve)]
    rising = [label for label, curve in curves.items() if is_rising(curve)]
    if zero:
        yield f"The reward was zero throughout: {_named(zero, curves)}."
    if rising:
        yield f"The reward was still rising at the last step: {_named(rising, curves)}."


def _reward(swept: Swept, arm: str) -> Curve:
    curves = [swept.curves.get(one.trial.id, {}).get(REWARD, ()) for one in swept.seeds_of(arm)]
    return tuple((step, sum(values) / len(values)) for step, values in mean_over_seeds([one for one in curves if one]))


def _named(labels: Sequence[str], every: dict[str, Curve]) -> str:
    return "every arm" if len(labels) == len(every) > 1 else "; ".join(labels)
