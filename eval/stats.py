"""Averages over samples of questions, with errors that respect that samples of one question belong together.

Inputs are `per_problem`: problem id → 0/1 for each of its K samples, as a `Score` keeps them. Fractions, not percent.
Standard library at import; scipy is loaded where a t distribution is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

FURTHER = 0.1
"""Of a question that was not asked, in an interval: less covers below 94 % at averages of 2 %, more covers 99 %."""

PerProblem = Mapping[str, Sequence[float]]
"""Verdicts are 0 or 1; where an average of something else is asked for, such as of pass@4, one number a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """avg@K with its errors."""

    mean: float
    """x̄: mean over questions of the mean over samples."""
    standard_error: float
    """Clustered by question: sqrt(Σ(x_q − x̄)² / (n(n−1))); NaN for one question."""
    generation_error: float | None
    """From sampling alone, for fixed questions: (1/n) sqrt(Σ x_q(1−x_q)/(K−1)); None for K = 1."""
    num_problems: int
    num_samples: int
    """Fewest samples of a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided interval and how it was made."""

    low: float
    high: float
    method: str


def avg_at_k(per_problem: PerProblem) -> Average:
    """Return the mean over questions with its clustered and its generation-only standard error.

    Raises:
        ValueError: no question, or a question without samples.

    Source: docs/evaluation.md#statistics; Miller, arXiv 2411.00640, eq. 3.
    """
    rates = question_rates(per_problem)
    mean = fmean(rates)
    smallest = min(len(samples) for samples in per_problem.values())
    return Average(
        mean=mean,
        standard_error=standard_error_of_mean(rates),
        generation_error=_generation_error(per_problem, rates) if smallest > 1 else None,
        num_problems=len(rates),
        num_samples=smallest,
    )


def question_rates(per_problem: PerProblem) -> list[float]:
    """Return x_q, the share of right samples of each question, in the mapping's order."""
    if not per_problem or not all(per_problem.values()):
        raise ValueError("an average needs at least one question, and at least one sample of each")
    return [sum(samples) / len(samples) for samples in per_problem.values()]


def standard_error_of_mean(values: Sequence[float]) -> float:
    """Return sqrt(Σ(v − v̄)² / (n(n−1))); NaN for a single value."""
    count = len(values)
    if count < 2:
        return math.nan
    mean = fmean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (count * (count - 1)))


def pass_at_k(per_problem: PerProblem, k: int) -> tuple[float, float]:
    """Return the mean over questions of 1 − C(N−c, k)/C(N, k), and its clustered standard error.

    Raises:
        ValueError: a question has fewer than k samples.

    Source: Chen et al., arXiv 2107.03374, eq. 1.
    """
    if k < 1 or any(len(samples) < k for samples in per_problem.values()):
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples of every question")
    chances = [_pass_chance(len(samples), int(sum(samples)), k) for samples in per_problem.values()]
    return fmean(chances), standard_error_of_mean(chances)


def interval(per_problem: PerProblem, *, level: float = 0.95) -> Interval:
    """Return a confidence interval of avg@K over questions.

    Where every sample is wrong (or right) no spread is known: the exact binomial bound on the share of questions with
    a right (wrong) sample, which the average is below. Otherwise, at either end, the wider of two bounds:

    - Student's t with n − 1 degrees of freedom on the log-odds scale, which stays within [0, 1].
    - The Bayesian bootstrap of the questions and a tenth of a further one, which is all right for the upper end and all
      wrong for the lower: where nearly all questions are hopeless, a sample of 30 may lack the few that are not. As
      a Beta distribution with its mean and variance, the latter widened as Student's t widens a normal.

    Raises:
        ValueError: fewer than two questions.

    Source: delta method, SE(log m/(1−m)) = SE(m)/(m(1−m)); Clopper, Pearson (1934) for no success in n; Rubin, "The
    Bayesian bootstrap" (1981); docs/evaluation.md#how-good-the-errors-are for its coverage.
    """
    rates = question_rates(per_problem)
    if len(rates) < 2:
        raise ValueError("an interval needs at least two questions")
    mean = fmean(rates)
    if mean in (0.0, 1.0):
        bound = 1 - ((1 - level) / 2) ** (1 / len(rates))
        low, high = (0.0, bound) if mean == 0 else (1 - bound, 1.0)
        return Interval(low=low, high=high, method="exact")
    low, high = _log_odds_bounds(rates, mean, level)
    return Interval(
        low=min(low, _bootstrap_bound(rates, extreme=0.0, level=level)),
        high=max(high, _bootstrap_bound(rates, extreme=1.0, level=level)),
        method="wider of t of the log-odds and the Bayesian bootstrap",
    )


def t_quantile(degrees: float, level: float) -> float:
    """Return the two-sided Student t quantile."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))


def _log_odds_bounds(rates: Sequence[float], mean: float, level: float) -> tuple[float, float]:
    half = t_quantile(len(rates) - 1, level) * standard_error_of_mean(rates) / (mean * (1 - mean))
    odds = mean / (1 - mean)
    low, high = (scaled / (1 + scaled) for scaled in (odds * math.exp(-half), odds * math.exp(half)))
    return low, high


def _bootstrap_bound(rates: Sequence[float], *, extreme: float, level: float) -> float:
    """Quantile of Σ D_q x_q, D ~ Dirichlet(1, …, 1, FURTHER), the last x being `extreme`."""
    from scipy.special import betaincinv, ndtri

    weight = len(rates) + FURTHER
    mean = (sum(rates) + FURTHER * extreme) / weight
    spread = sum((rate - mean) ** 2 for rate in rates) + FURTHER * (extreme - mean) ** 2
    upper = 0.5 + level / 2
    widened = (t_quantile(len(rates) - 1, level) / float(ndtri(upper))) ** 2
    variance = widened * spread / (weight * (weight + 1))
    if not 0 < variance < mean * (1 - mean):
        return extreme
    size = mean * (1 - mean) / variance - 1
    return float(betaincinv(mean * size, (1 - mean) * size, upper if extreme == 1 else 1 - upper))


def _pass_chance(total: int, correct: int, k: int) -> float:
    return 1.0 - math.comb(total - correct, k) / math.comb(total, k)


def _generation_error(per_problem: PerProblem, rates: Sequence[float]) -> float:
    variance = sum(
        rate * (1 - rate) / (len(samples) - 1) for rate, samples in zip(rates, per_problem.values(), strict=True)
    )
    return math.sqrt(variance) / len(rates)
