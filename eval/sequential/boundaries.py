"""Looking after every seed without fooling oneself: a group-sequential design for one difference of two arms.

After S seeds an arm, from `at_least` to `at_most`, the difference is looked at. Look k has the time t_k = S_k / at_most
and a statistic Z_k: the normal deviate with the p value that `eval.seed_model` gives, and the sign of the difference.
Where the arms differ by θ (in units in which Z at t = 1 has variance 1),

    Z_k ~ N(θ√t_k, 1),   Cov(Z_j, Z_k) = √(t_j / t_k)   for t_j ≤ t_k

Benefit (Z_k ≥ c_k) and harm (Z_k ≤ −c_k) spend α as O'Brien and Fleming do, little at first, half on each side:

    f(t) = 2 − 2Φ(z_{α/4} / √t)                            spent on one side until t; f(1) = α/2
    P₀(|Z_j| < c_j for j < k, Z_k ≥ c_k) = f(t_k) − f(t_{k−1})

Futility (|Z_k| ≤ a_k) spends β = 1 − power in the same way where the true difference is `effect`:

    g(t) = 2 − 2Φ(z_{β/2} / √t),   θ_k = (z_{.975} + z_{.8}) · effect / (D_k √t_k)
    P_θ(a_j < |Z_j| < c_j for j < k, |Z_k| ≤ a_k) = g(t_k) − g(t_{k−1})

The variance is estimated anew at each look, which makes the Z_k of few seeds less alike than that. So f is taken at the
level at which Student's t after `at_least` to `at_most` seeds, with these c, rejects in α (`calibrated`, simulated).

c does not know of a, so to go on in spite of futility costs nothing (non-binding), and it depends on no data: the
questions, which all looks share, only make the Z_k more alike, which rejects less. D_k is what the seeds of look k
would show with 80 % power (`minimum_detectable`): its error is not below what sampling alone gives, as seeds that came
out alike by chance are no reason to stop.

An estimate at the look that stopped is too far from 0. The median-unbiased one is the θ at which half of all outcomes
are above the one seen, earlier stops counting as further out:

    Σ_{j<k} P_θ(|Z_i| < c_i for i < j, Z_j ≥ c_j) + P_θ(|Z_i| < c_i for i < k, Z_k ≥ z_k) = 1/2

All P are integrals over B_k = Z_k√t_k, whose increments are independent: Gauss-Legendre from look to look.

Source: Lan and DeMets, "Discrete sequential boundaries for clinical trials" (1983); O'Brien and Fleming (1979);
Armitage, McPherson and Rowe (1969) for the integration; Jennison and Turnbull, "Group Sequential Methods" (2000), 11.3
for p values as deviates; Pampallona and Tsiatis (1994) for futility; docs/evaluation.md#seeds-until-decided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from eval.sequential.design import Design

Numbers = NDArray[np.float64]

POWER = 0.8
SHOWN = 1.959964 + 0.841621
"""z_{.975} + z_{.8}: a difference of so many errors is shown with 80 % power."""
FURTHEST = 8.0
"""Boundaries beyond this are never reached: 1e-15."""
MOST_DRIFT = 40.0
"""θ where futility and estimates are looked for: beyond it everything is decided at the first look."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_REPETITIONS, _HALVINGS = 100_000, 12
"""Of the simulated t tests; the level is found to a four-thousandth of itself."""


def spent(level: float, time: float) -> float:
    """f: what of a one-sided level is spent until a time, O'Brien-Fleming type."""
    from scipy.special import ndtr, ndtri

    return float(2 * ndtr(ndtri(level / 2) / math.sqrt(time)))


def upper_bounds(design: Design) -> tuple[float, ...]:
    """C of a design, one a look."""
    return boundaries(calibrated(design.alpha, design.at_least, design.at_most), design.times)


@lru_cache(maxsize=256)
def calibrated(alpha: float, at_least: int, at_most: int) -> float:
    """The level whose boundaries Student's t crosses with chance `alpha`, where seeds alone vary."""
    from scipy.special import ndtr

    p_values_RK = _p_values_of_nothing(at_least, at_most)
    times = tuple(count / at_most for count in range(at_least, at_most + 1))

    def crossed(level: float) -> float:
        return float((p_values_RK < 2 * ndtr(-np.array(boundaries(level, times)))).any(axis=1).mean())

    low, high = alpha / 4, alpha
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if crossed(middle) > alpha else (middle, high)
    return low


@lru_cache(maxsize=4)
def _p_values_of_nothing(at_least: int, at_most: int) -> Numbers:
    """(repetitions, looks) of Student's t, where there is no difference."""
    from scipy.special import stdtr

    drawn = np.random.default_rng(0).normal(size=(_REPETITIONS, at_most))
    counts = np.arange(1, at_most + 1)
    sums, squares = drawn.cumsum(axis=1), (drawn**2).cumsum(axis=1)
    looked_at = slice(at_least - 1, None)
    count, total = counts[looked_at], sums[:, looked_at]
    variance = (squares[:, looked_at] - total**2 / count) / (count - 1)
    return np.asarray(2 * stdtr(count - 1, -np.abs(total) / np.sqrt(variance * count)))


@lru_cache(maxsize=256)
def boundaries(
    alpha: float, times: tuple[float, ...], spending: Callable[[float, float], float] = spent
) -> tuple[float, ...]:
    """c: one a look."""
    found: list[float] = []
    path, before = _START, 0.0
    for time in times:
        now = spending(alpha / 2, time)
        bound = _solve(partial(_above, path, time), now - before, low=0.0, high=FURTHEST)
        found.append(bound)
        path, before = _between(path, time, (0.0, bound), 0.0), now
    return tuple(found)


@lru_cache(maxsize=2**14)
def futility(drift: float, times: tuple[float, ...], upper: tuple[float, ...]) -> tuple[float, ...]:
    """a: one a look; 0 where nothing may be given up yet, at most c."""
    found: list[float] = []
    path, before = _START, 0.0
    for time, outer in zip(times, upper, strict=False):
        now = spent(1 - POWER, time)
        chance = partial(_inside, path, time, drift=drift)
        bound = min(_solve(chance, now - before, low=0.0, high=FURTHEST), outer)
        found.append(bound)
        path, before = _between(path, time, (bound, outer), drift), now
    return tuple(found)


def crossing(upper: Sequence[float], times: Sequence[float], drift: float = 0.0) -> tuple[float, ...]:
    """Chance that Z first leaves (−c, c) upwards, look by look."""
    chances = []
    path = _START
    for time, bound in zip(times, upper, strict=True):
        chances.append(_above(path, time, bound, drift))
        path = _between(path, time, (0.0, bound), drift)
    return tuple(chances)


def shrinkage(deviate: float, times: Sequence[float], upper: Sequence[float]) -> float:
    """Median-unbiased over naive estimate, of a path that came to `deviate` at the last of the times."""
    if len(times) < 2 or abs(deviate) < 1e-9:
        return 1.0
    ends = (*upper[: len(times) - 1], abs(deviate))
    drift = _solve(lambda theta: sum(crossing(ends, times, theta)), 0.5, low=-MOST_DRIFT, high=MOST_DRIFT)
    return drift * math.sqrt(times[-1]) / abs(deviate)


@dataclass(frozen=True, slots=True)
class _Path:
    """What still goes on after a look: probability mass at values of B."""

    time: float
    scores: Numbers
    masses: Numbers


_START = _Path(0.0, np.zeros(1), np.ones(1))


def _step(path: _Path, time: float, drift: float) -> tuple[Numbers, float]:
    """Mean of the next B, one a mass, and its deviation."""
    return path.scores + drift * (time - path.time), math.sqrt(time - path.time)


def _above(path: _Path, time: float, bound: float, drift: float = 0.0) -> float:
    from scipy.special import ndtr

    centre, spread = _step(path, time, drift)
    return float(path.masses @ ndtr((centre - bound * math.sqrt(time)) / spread))


def _inside(path: _Path, time: float, bound: float, drift: float) -> float:
    from scipy.special import ndtr

    centre, spread = _step(path, time, drift)
    edge = bound * math.sqrt(time)
    return float(path.masses @ (ndtr((edge - centre) / spread) - ndtr((-edge - centre) / spread)))


def _between(path: _Path, time: float, bounds: tuple[float, float], drift: float) -> _Path:
    """Those that have inner < |Z| < outer at a time."""
    inner, outer = (bound * math.sqrt(time) for bound in bounds)
    half = (outer - inner) / 2
    positive = inner + half * (1 + _NODES)
    scores = np.concatenate([-positive[::-1], positive])
    weights = half * np.concatenate([_WEIGHTS[::-1], _WEIGHTS])
    centre, spread = _step(path, time, drift)
    density = np.exp(-(((scores[:, None] - centre) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
    return _Path(time, scores, weights * (density @ path.masses))


def _solve(function: Callable[[float], float], wanted: float, *, low: float, high: float) -> float:
    """Where a monotone function has a value; the nearer end where it has it nowhere."""
    from scipy.optimize import brentq

    ends = function(low) - wanted, function(high) - wanted
    if ends[0] * ends[1] >= 0:
        return low if abs(ends[0]) <= abs(ends[1]) else high
    return float(brentq(lambda x: function(x) - wanted, low, high, xtol=1e-9))
