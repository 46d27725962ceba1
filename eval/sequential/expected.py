"""How many seeds a design will ask for, before anything is trained: simulated sweeps in which seeds alone vary."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.sequential.boundaries import SHOWN, Numbers, futility, upper_bounds
from eval.sequential.design import Design


def expected_seeds(
    design: Design, pairs: Sequence[tuple[int, int]], *, has_effect: bool, repetitions: int = 1000
) -> Numbers:
    """Mean number of seeds of each arm, drawn with one generator; where seeds alone vary.

    Args:
        design: of one contrast.
        pairs: first and second arm of each contrast.
        has_effect: whether each contrast has a difference that `at_most` seeds would show with 80 % power in one look,
            or none.
        repetitions: simulated sweeps.
    """
    num_arms, most = 1 + max(arm for pair in pairs for arm in pair), design.at_most
    drawn = np.random.default_rng(0).normal(0, math.sqrt(0.5), size=(repetitions, num_arms, most))
    counts = np.arange(design.at_least, most + 1)
    upper = np.array(upper_bounds(design))
    inner = np.array(futility(SHOWN, design.times, tuple(upper)))
    needed = np.zeros((repetitions, num_arms))
    for first, second in pairs:
        differences = drawn[:, first] - drawn[:, second] + has_effect * SHOWN / math.sqrt(most)
        deviates = np.abs(differences.cumsum(axis=1)[:, counts - 1] / np.sqrt(counts))
        is_over = (deviates >= upper) | (deviates <= inner)
        is_over[:, -1] = True
        stops = counts[is_over.argmax(axis=1)]
        for arm in (first, second):
            needed[:, arm] = np.maximum(needed[:, arm], stops)
    return np.asarray(needed.mean(axis=0))
