"""Is arm A better than arm B? Differences on the same questions, with errors, tests and what could have been seen.

An arm is one or more runs (training seeds) of the same recipe, each a `per_problem` of the same benchmark.
Shapes: R resamples, S seeds, N questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from eval.errors import DataError
from eval.stats import PerProblem, question_rates, standard_error_of_mean, t_quantile

Arm = Sequence[PerProblem]
"""One `per_problem` a training seed."""

FEWEST_SEEDS = 3
"""Below this, nothing can be said about the variation between training runs."""
EXACT_FLIPS = 14
"""Up to this many questions that differ, all sign flips are enumerated."""
RANDOM_FLIPS = 20_000
BOOTSTRAP_RESAMPLES = 2_000
POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A − B on one benchmark, or averaged over several. Fractions, not percent."""

    delta: float
    """Mean over questions of x_q(A) − x_q(B), seeds averaged."""
    standard_error: float
    """sqrt(Σ(d_q − d̄)² / (n(n−1))) over questions; over seeds, questions and samples where `has_seeds`."""
    p_t: float | None
    """Two-sided, Student's t of d_q; None where no question differs."""
    p_permutation: float | None
    """Two-sided, signs of d_q flipped; None for a macro average, and where it was not asked for."""
    minimum_detectable: float
    """Smallest true difference that this n, K and variation would show (5 % two-sided) with 80 % power."""
    degrees: float
    """Degrees of freedom of `standard_error`."""
    num_problems: int
    num_samples: int
    """Fewest samples of a question."""
    num_seeds: tuple[int, int]
    has_seeds: bool
    """Whether `standard_error` covers the variation between training runs; else it is sampling noise only."""


def compare_arms(first: Arm, second: Arm, *, seed: int = 0, with_permutation: bool = True) -> Difference:
    """Return first − second on one benchmark, paired by question.

    Args:
        first: runs of one arm, one a training seed.
        second: runs of the other.
        seed: of the random sign flips and the bootstrap.
        with_permutation: also run the permutation test, which takes longer than all the rest.

    Raises:
        DataError: the runs do not answer the same questions, or fewer than two questions.

    Source: docs/evaluation.md#statistics; Miller, arXiv 2411.00640, section 4.
    """
    ids = _common_ids([*first, *second])
    differences = _mean_rates(first, ids) - _mean_rates(second, ids)
    has_seeds = min(len(first), len(second)) >= FEWEST_SEEDS
    error = standard_error_of_mean([float(difference) for difference in differences])
    if has_seeds:
        error = max(error, _hierarchical_error(first, second, ids, seed))
    degrees = _degrees_of_freedom(len(ids), len(first), len(second), has_seeds)
    delta = float(differences.mean())
    return Difference(
        delta=delta,
        standard_error=error,
        p_t=_p_of_t(delta, error, degrees),
        p_permutation=_p_of_flips(differences, seed) if with_permutation else None,
        minimum_detectable=minimum_detectable(error, degrees),
        degrees=degrees,
        num_problems=len(ids),
        num_samples=min(len(run[problem]) for run in (*first, *second) for problem in ids),
        num_seeds=(len(first), len(second)),
        has_seeds=has_seeds,
    )


def macro_average(differences: Sequence[Difference]) -> Difference:
    """Return the plain mean over benchmarks; its error is sqrt(Σ SE²) / B.

    Raises:
        ValueError: no benchmark.
    """
    if not differences:
        raise ValueError("a macro average needs at least one benchmark")
    count = len(differences)
    variances = [difference.standard_error**2 for difference in differences]
    error = math.sqrt(sum(variances)) / count
    # Welch and Satterthwaite: few questions in one benchmark must not pass for many.
    spread = sum(v**2 / (d.num_problems - 1) for v, d in zip(variances, differences, strict=True))
    degrees = sum(variances) ** 2 / spread if spread > 0 else math.inf
    delta = fmean(difference.delta for difference in differences)
    return Difference(
        delta=delta,
        standard_error=error,
        p_t=_p_of_t(delta, error, degrees),
        p_permutation=None,
        minimum_detectable=minimum_detectable(error, degrees),
        degrees=degrees,
        num_problems=sum(difference.num_problems for difference in differences),
        num_samples=min(difference.num_samples for difference in differences),
        num_seeds=differences[0].num_seeds,
        has_seeds=all(difference.has_seeds for difference in differences),
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
    capped = int(min(degrees, 1_000_000))
    return (t_quantile(capped, 0.95) + t_quantile(capped, 2 * POWER - 1)) * standard_error


def _common_ids(runs: Sequence[PerProblem]) -> list[str]:
    if not runs:
        raise DataError("there is nothing to compare")
    ids = list(runs[0])
    for run in runs[1:]:
        if set(run) != set(ids):
            missing = len(set(ids) ^ set(run))
            raise DataError(
                f"the runs do not answer the same questions: {missing} are in one and not in the other",
                mend="evaluate both with the same benchmark version and --limit",
            )
    if len(ids) < 2:
        raise DataError("a comparison needs at least two questions")
    return ids


def _mean_rates(arm: Arm, ids: Sequence[str]) -> NDArray[np.float64]:
    rates = np.array([question_rates({problem: run[problem] for problem in ids}) for run in arm], dtype=np.float64)
    return np.asarray(rates.mean(axis=0))


def _degrees_of_freedom(num_problems: int, num_first: int, num_second: int, has_seeds: bool) -> float:
    return min(num_problems - 1, num_first + num_second - 2) if has_seeds else num_problems - 1


def _p_of_t(delta: float, error: float, degrees: float) -> float | None:
    if math.isnan(error) or degrees < 1:
        return None
    if error == 0:
        return None if delta == 0 else 0.0
    from scipy.stats import t

    return float(2 * t.sf(abs(delta) / error, min(degrees, 1e9)))


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


def _hierarchical_error(first: Arm, second: Arm, ids: Sequence[str], seed: int) -> float:
    """Standard error of the difference when seeds, then questions, then samples are drawn again.

    Seeds and questions are drawn; the variance that drawing samples would add is known, binomial, and added exactly.
    """
    generator = np.random.default_rng(seed)
    count = len(ids)
    questions_RN = generator.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAP_RESAMPLES) / count
    means_R = np.zeros(BOOTSTRAP_RESAMPLES)
    variances_R = np.zeros(BOOTSTRAP_RESAMPLES)
    for arm, sign in ((first, 1), (second, -1)):
        rates_SN, variances_SN = _rates_and_variances(arm, ids)
        seeds_RS = generator.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), size=BOOTSTRAP_RESAMPLES) / len(arm)
        means_R += sign * (seeds_RS * (questions_RN @ rates_SN.T)).sum(axis=1)
        variances_R += (seeds_RS * (questions_RN @ variances_SN.T)).sum(axis=1) / (count * len(arm))
    return float(np.sqrt(means_R.var(ddof=1) + variances_R.mean()))


def _rates_and_variances(arm: Arm, ids: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x_sq and the variance x_sq(1 − x_sq)/K of a redrawn one, both (seeds, questions)."""
    counts_SN = np.array([[len(run[problem]) for problem in ids] for run in arm])
    rates_SN = np.array([[sum(run[problem]) for problem in ids] for run in arm]) / counts_SN
    return rates_SN, rates_SN * (1 - rates_SN) / counts_SN
