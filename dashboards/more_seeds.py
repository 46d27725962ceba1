"""How many training seeds more would decide a contrast, and what they would cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.comparison import Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreSeeds:
    """What would show a difference of the size seen with 80 % power."""

    count: int
    """Seeds more of the arm that has fewer."""
    device_hours: float | None
    """Of both arms, as their seeds took until now; None where no time was recorded."""
    device: str
    """gpu or core."""


def more_seeds(part: pd.DataFrame, other: pd.DataFrame, delta: Difference) -> MoreSeeds | None:
    """What would decide the difference of two arms; None where that cannot be told. A base model costs nothing more.

    Args:
        part: rows of the frame of one arm.
        other: of the other.
        delta: their difference.
    """
    if delta.seeds_to_decide is None:
        return None
    arms = [
        (arm, max(delta.seeds_to_decide - count, 1))
        for arm, count in zip((part, other), delta.num_seeds, strict=True)
        if (arm["kind"] == "train").all()
    ]
    hours = sum(lacking * arm.groupby("trial")["device_hours"].first().mean() for arm, lacking in arms)
    return MoreSeeds(
        count=max(lacking for _, lacking in arms),
        device_hours=None if np.isnan(hours) else float(hours),
        device=str(part["device"].iloc[0]),
    )
