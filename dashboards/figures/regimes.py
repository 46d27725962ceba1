"""Confident and doubtful tokens among those that each selector picks, of every trial that was diagnosed.

Source: ICT section 4.3.2 and Figure 4; H is p_y > C, L is p_y < C.
"""

from __future__ import annotations

import math

from dashboards.figures.drawing import Drawing, Series
from dashboards.figures.printed import draw_printed_high_to_low
from dashboards.figures.selectors import high_to_low
from dashboards.figures.swept import Swept

MOST_TRIALS = 8


def draw_high_to_low_of_trials(swept: Swept, *, counterpart: str) -> Drawing | None:
    """Bars of H/L by selector, one series a diagnosed trial; None where `orch diagnose` was run for none.

    Args:
        swept: the experiment.
        counterpart: the experiment at the paper's size, whose printed ratio stands beside.
    """
    import pandas as pd

    series = []
    for colour, (trial_id, file) in enumerate([*swept.diagnosed.items()][:MOST_TRIALS]):
        tokens = pd.read_parquet(file)
        ratios = {name: ratio for name, ratio in high_to_low(tokens).items() if math.isfinite(ratio)}
        label = next(one.label for one in swept.plan.entries if one.trial.id == trial_id)
        series.append(
            Series(
                name=label,
                x=tuple("all tokens" if name == "all" else name for name in ratios),
                y=tuple(ratios.values()),
                hover=tuple(f"{len(tokens)} tokens of {tokens['uid'].nunique()} responses" for _ in ratios),
                mark="bars",
                colour=colour,
            )
        )
    if not series:
        return None
    return Drawing(
        id="high_to_low",
        title=f"{swept.name}: tokens with p > C over tokens with p < C",
        caption=f"Of the {len(series)} final policies that `orch diagnose` looked at, one training seed each; "
        "“all tokens” is the base rate without which 1 says nothing.",
        x_label="selected by",
        y_label="H/L",
        series=tuple(series),
        beside=draw_printed_high_to_low(counterpart),
    )
