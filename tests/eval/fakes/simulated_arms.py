"""Two arms of an invented world: questions of all difficulties, seeds that train better or worse, 0/1 samples.

Arm a under seed s is right on question q with the chance 1/(1 + exp(−(ease_q + own_aq + seed_as ± effect/2))).
Shapes: R repetitions, S seeds, N questions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.comparison import minimum_detectable
from eval.seed_model import Components, Term, components
from eval.sequential.design import Design
from eval.sequential.judge import Seen

DIFFICULTY = (1.0, 1.5)
"""Beta distribution of the questions' chances."""
SHARED = 0.8
"""Of the variance between seeds, where equal seeds of both arms have most of it in common."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What is true. Standard deviations and the effect are in logits."""

    num_questions: int
    num_samples: int
    seed_sd: float = 0.0
    is_shared: bool = False
    question_sd: float = 0.0
    """Of how much harder one arm finds a question than the other."""
    effect: float = 0.0

    def draw(self, generator: np.random.Generator, *, num_seeds: int, repetitions: int) -> list[NDArray[np.float64]]:
        """Rates (R, S, N) of two arms."""
        chance = generator.beta(*DIFFICULTY, size=(repetitions, 1, self.num_questions)).clip(1e-6, 1 - 1e-6)
        ease = np.log(chance / (1 - chance))
        common = generator.normal(0, self.seed_sd, size=(repetitions, num_seeds, 1))
        arms = []
        for sign in (1, -1):
            own = generator.normal(0, self.seed_sd, size=common.shape)
            seed = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own if self.is_shared else own
            question = generator.normal(0, self.question_sd, size=ease.shape)
            logit = ease + question + seed + sign * self.effect / 2
            arms.append(generator.binomial(self.num_samples, 1 / (1 + np.exp(-logit))) / self.num_samples)
        return arms


def difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Components:
    """First − second, all seeds shared."""
    seeds = tuple(range(first.shape[-2]))
    return components(
        [
            Term(weight=sign, rates=rates, seeds=seeds, benchmark="simulated")
            for sign, rates in ((1.0, first), (-1.0, second))
        ]
    )


def p_values(found: Components) -> NDArray[np.float64]:
    """Two-sided; 1 where nothing varies."""
    from scipy.special import stdtr

    error = np.sqrt(np.where(found.variance > 0, found.variance, np.inf))
    return np.asarray(2 * stdtr(found.degrees, -np.abs(found.value) / error))


def looks(first: NDArray[np.float64], second: NDArray[np.float64], design: Design) -> Iterator[tuple[Seen, ...]]:
    """Of each repetition what a sweep would see, look by look."""
    counts = range(design.at_least, design.at_most + 1)
    yield from zip(*(_seen(first[:, :count], second[:, :count]) for count in counts), strict=True)


def _seen(first: NDArray[np.float64], second: NDArray[np.float64]) -> Iterator[Seen]:
    found = difference(first, second)
    assert found.seed is not None
    floored = replace(found, seed=np.maximum(found.seed, found.residual))
    errors, degrees, p = np.sqrt(floored.variance), floored.degrees, p_values(found)
    for place, value in enumerate(found.value):
        detectable = minimum_detectable(float(errors[place]), float(degrees[place]))
        yield Seen(value=float(value), minimum_detectable=detectable, p_value=float(p[place]))
