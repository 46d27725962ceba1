"""Is arm A better than arm B? Combinations of averages with errors, tests and what could have been seen.

An arm is the runs of one recipe, one a training seed, on one benchmark. All errors are those of `eval.seed_model`. With
fewer than two seeds of a trained arm nothing is said of the method: what is tested then is that two checkpoints differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.errors import DataError
from eval.seed_model import Components, Term, components
from eval.stats import PerProblem, question_rates, t_quantile

EXACT_FLIPS = 14
"""Up to this many questions that differ, all sign flips are enumerated."""
RANDOM_FLIPS = 20_000
POWER = 0.8
MOST_SEEDS = 30
"""What more seeds than this would decide is better decided by more questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The runs of one recipe on one benchmark."""

    runs: Mapping[int, PerProblem]
    """Training seed → answers. Arms are paired on the seeds that both have."""
    is_trained: bool = True
    """False for a model that no seed stands behind, such as the base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An arm on a benchmark, with its weight in a combination."""

    weight: float
    benchmark: str
    arm: Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A combination of averages with its error. Fractions, not percent."""

    value: float
    standard_error: float
    """Over seeds and questions where `covers_seeds`; over questions alone otherwise. NaN for one question."""
    degrees: float
    """Degrees of freedom of `standard_error`."""
    covers_seeds: bool
    """Whether the error is that of training again: every trained arm has two seeds or more, and one is trained."""
    num_problems: int
    num_samples: int
    """Fewest samples of a question."""
    p_value: float | None
    """Two-sided, of 0; None where nothing varies."""
    minimum_detectable: float
    """Smallest true value that this design and variation would show (5 % two-sided) with 80 % power."""
    seeds_to_decide: int | None
    """Seeds an arm after which the value seen would be found with 80 % power; None where that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A − B on one benchmark, or averaged over several. Fractions, not percent."""

    delta: float
    """Mean over questions of x_q(A) − x_q(B), seeds averaged."""
    standard_error: float
    """Of training and evaluating again where `covers_seeds`; else over questions, of these two checkpoints."""
    degrees: float
    """Degrees of freedom of `standard_error`."""
    covers_seeds: bool
    p_method: float | None
    """Two-sided p that the methods differ; None below two seeds of a trained arm, and where nothing varies."""
    p_checkpoints: float | None
    """Two-sided p that these two checkpoints differ on such questions; only where there is no `p_method` to be had."""
    p_permutation: float | None
    """Two-sided, signs of the questions' differences flipped; None where it was not asked for, or tests a method."""
    minimum_detectable: float
    """Smallest true difference that this n, K, S and variation would show (5 % two-sided) with 80 % power."""
    seeds_to_decide: int | None
    """Seeds an arm after which a true difference of this size would be found with 80 % power; None: cannot be told."""
    num_problems: int
    num_samples: int
    """Fewest samples of a question."""
    num_seeds: tuple[int, int]

    @property
    def margin(self) -> float:
        """Half the 95 % interval."""
        return margin_of(self.standard_error, self.degrees)


def estimate(parts: Sequence[Part]) -> Estimate:
    """Return Σ w x̄ over arms and benchmarks, with its error under the model of seeds, questions and samples.

    Raises:
        DataError: arms on one benchmark do not answer the same questions.
    """
    found = components(_terms(parts))
    error, degrees = math.sqrt(float(found.variance)), float(found.degrees)
    value = float(found.value)
    trained = [len(part.arm.runs) for part in parts if part.arm.is_trained]
    runs = {part.benchmark: next(iter(part.arm.runs.values())) for part in parts}
    return Estimate(
        value=value,
        standard_error=error,
        degrees=degrees,
        covers_seeds=found.seed is not None,
        num_problems=sum(len(run) for run in runs.values()),
        num_samples=min(len(samples) for part in parts for run in part.arm.runs.values() for samples in run.values()),
        p_value=p_beyond(value, error, degrees),
        minimum_detectable=_detectable(found),
        seeds_to_decide=None if found.seed is None else _seeds_to_decide(found, now=min(trained)),
    )


def compare_arms(first: Arm, second: Arm, *, seed: int = 0, with_permutation: bool = True) -> Difference:
    """Return first − second on one benchmark, paired by question and by seed.

    Args:
        first: runs of one recipe, or a model as it is.
        second: the other.
        seed: of the random sign flips.
        with_permutation: also run the permutation test of two checkpoints, which takes longer than all the rest.

    Raises:
        DataError: the runs do not answer the same questions, or fewer than two questions.

    Source: docs/evaluation.md#statistics; Miller, arXiv 2411.00640, section 4.
    """
    found = compare_on_all([first], [second])
    if not with_permutation or found.covers_seeds:
        return found
    first_rates, second_rates = (_rates(arm, _common_ids([first, second])).mean(axis=0) for arm in (first, second))
    return replace(found, p_permutation=_p_of_flips(first_rates - second_rates, seed))


def compare_on_all(first: Sequence[Arm], second: Sequence[Arm]) -> Difference:
    """Return the plain mean over benchmarks of first − second, one arm a benchmark on either side.

    A seed is one run on all benchmarks, so its effect on their mean is taken as it is, not as if they were independent.

    Raises:
        DataError: two arms do not answer the same questions of a benchmark, or fewer than two.
        ValueError: no benchmark.
    """
    if not first:
        raise ValueError("a comparison needs at least one benchmark")
    share = 1 / len(first)
    parts = [
        Part(weight=sign * share, benchmark=str(place), arm=arm)
        for place, pair in enumerate(zip(first, second, strict=True))
        for sign, arm in zip((1, -1), pair, strict=True)
    ]
    for pair in zip(first, second, strict=True):
        _common_ids(pair)
    found = estimate(parts)
    return Difference(
        delta=found.value,
        standard_error=found.standard_error,
        degrees=found.degrees,
        covers_seeds=found.covers_seeds,
        p_method=found.p_value if found.covers_seeds else None,
        p_checkpoints=None if found.covers_seeds else found.p_value,
        p_permutation=None,
        minimum_detectable=found.minimum_detectable,
        seeds_to_decide=found.seeds_to_decide,
        num_problems=found.num_problems,
        num_samples=found.num_samples,
        num_seeds=(min(len(arm.runs) for arm in first), min(len(arm.runs) for arm in second)),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm-adjusted p values in the given order; None stays None and is not counted.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = highest
    return adjusted


def minimum_detectable(standard_error: float, degrees: float) -> float:
    """Return (t₀.₉₇₅ + t₀.₈) · SE: the smallest true difference found significant with 80 % power."""
    if not degrees >= 1 or math.isnan(standard_error):
        return math.nan
    return (t_quantile(degrees, 0.95) + t_quantile(degrees, 2 * POWER - 1)) * standard_error


def power_of(effect: float, standard_error: float, degrees: float) -> float:
    """Return the chance to find a true difference of that size at 5 % two-sided; NaN where there is no error."""
    from scipy.special import stdtr

    if math.isnan(standard_error) or standard_error == 0:
        return math.nan
    return float(stdtr(degrees, abs(effect) / standard_error - t_quantile(degrees, 0.95)))


def margin_of(standard_error: float, degrees: float) -> float:
    """Return half the 95 % interval; NaN where there is no error."""
    return math.nan if math.isnan(standard_error) else t_quantile(degrees, 0.95) * standard_error


def p_beyond(distance: float, standard_error: float, degrees: float) -> float | None:
    """Return the two-sided p of a distance from 0; None where no spread was seen, which is not certainty."""
    if math.isnan(standard_error) or standard_error == 0 or degrees < 1:
        return None
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(distance) / standard_error))


def _detectable(found: Components) -> float:
    """With V_s not below what sampling alone gives: seeds that came out alike by chance promise nothing."""
    if found.seed is not None:
        found = replace(found, seed=np.maximum(found.seed, found.residual))
    return minimum_detectable(math.sqrt(float(found.variance)), float(found.degrees))


def _seeds_to_decide(found: Components, *, now: int) -> int | None:
    for num_seeds in range(now, MOST_SEEDS + 1):
        expected = found.with_seeds(num_seeds, now=now)
        error, degrees = math.sqrt(float(expected.variance)), float(expected.degrees)
        if abs(float(found.value)) >= minimum_detectable(error, degrees) > 0:
            return num_seeds
    return None


def _terms(parts: Sequence[Part]) -> list[Term]:
    ids = {
        part.benchmark: _common_ids([other.arm for other in parts if other.benchmark == part.benchmark], fewest=1)
        for part in parts
    }
    return [
        Term(
            weight=part.weight,
            rates=_rates(part.arm, ids[part.benchmark]),
            seeds=tuple(part.arm.runs),
            benchmark=part.benchmark,
            is_trained=part.arm.is_trained,
        )
        for part in parts
    ]


def _common_ids(arms: Sequence[Arm], *, fewest: int = 2) -> list[str]:
    runs = [run for arm in arms for run in arm.runs.values()]
    if not all(arm.runs for arm in arms):
        raise DataError("there is nothing to compare")
    ids = list(runs[0])
    for run in runs[1:]:
        if run.keys() != runs[0].keys():
            missing = len(set(ids) ^ set(run))
            raise DataError(
                f"the runs do not answer the same questions: {missing} are in one and not in the other",
                fix="evaluate both with the same benchmark version and --limit",
            )
    if len(ids) < fewest:
        raise DataError("a comparison needs at least two questions")
    return ids


def _rates(arm: Arm, ids: Sequence[str]) -> NDArray[np.float64]:
    """(seeds, questions)."""
    return np.array([question_rates({problem: run[problem] for problem in ids}) for run in arm.runs.values()])


def _p_of_flips(differences: NDArray[np.float64], seed: int) -> float | None:
    moved = differences[differences != 0]
    if not len(moved):
        return None
    observed = abs(moved.sum())
    if len(moved) <= EXACT_FLIPS:
        bits = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        sums = np.abs((1 - 2 * bits) @ moved)
        return float((sums >= observed - 1e-12).mean())
    generator = np.random.default_rng(seed)
    reached = 0
    for _ in range(RANDOM_FLIPS // 1000):
        signs = generator.integers(0, 2, size=(1000, len(moved))) * 2 - 1
        reached += int((np.abs(signs @ moved) >= observed - 1e-12).sum())
    return (reached + 1) / (RANDOM_FLIPS + 1)
