"""How sure is a combination of averages? One model of training seeds, questions and samples for all that is printed.

A score is x_asq: arm a, training seed s, question q, the share of its K samples that are right. Seeds and questions are
random and crossed, as readers and cases are in multi-reader multi-case studies:

    x_asq = μ_a + seed_as + question_aq + rest_asq        rest: interaction of seed and question, and sampling

A combination is Δ = Σ_a w_a x̄_a: one arm (w = 1), a difference (1, −1), a mean over benchmarks (±1/B), a claim of a
paper. Its variance is that of drawing seeds and questions anew, with what both draws share counted once:

    V = V_s + max(V_q − V_r, 0)
    V_s = ȳᵀQȳ                               from the seeds' means ȳ
    V_r = Σ_q z_qᵀQz_q / (n(n−1))            from what is left of them question by question, z_q = x_q − ȳ
    V_q = Σ_q (D_q − D̄)² / (n(n−1))          from the questions, D_q = Σ_a w_a x̄_aq

Q is the quadratic form that estimates Var(Σ_a w_a ȳ_a) from seeds: within an arm w²/(S(S−1)) times centring, between
arms their covariance over the seeds that both have. Seeds that both sides have are thereby paired, always: which data
were drawn when, and from which noise, is the same for them. With equal seeds on both sides V is (MS_seed + MS_question
− MS_residual)/(S n) of the differences.

Degrees of freedom ν: V_s has those of the seeds (S − 1 where all arms share S seeds, Welch's where none), the rest of
V those of the questions. The 95 % quantile of V is the mean of Student's two, weighted by their shares in V, and ν is
where Student's t has that quantile (Cochran and Cox). Satterthwaite's V²/Σ(V_i²/ν_i), from which Hillis's degrees come,
takes a V_s that came out small by chance at its word: with two seeds it rejects up to 14 % where 5 % is right.

Source: Obuchowski and Rockette, "Hypothesis testing of diagnostic accuracy for multiple readers" (1995); Dorfman,
Berbaum and Metz (1992); Hillis (2007, 2014); Cochran and Cox, "Experimental Designs" (1957);
docs/evaluation.md#statistics. Standard library and numpy at import.

Shapes: S seeds of an arm, Y all (arm, seed) pairs of a combination, N questions; leading ones (…) are simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

FEWEST_SEEDS = 2
"""Below this an arm says nothing of the variation between training runs."""
UPPER = 0.975
"""Where the upper end of a two-sided 95 % interval lies."""
BISECTIONS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One arm on one benchmark, with its weight in a combination."""

    weight: float
    rates: Numbers
    """(…, S, N) shares of right samples."""
    seeds: tuple[int, ...]
    """What pairs rows of one term with those of another."""
    benchmark: str
    """Terms of one benchmark answer the same questions, in the same order."""
    is_trained: bool = True
    """False for a model that is what it is: no other seed would give another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """A combination and the parts of its variance; arrays where the rates have leading dimensions."""

    value: Numbers
    seed: Numbers | None
    """V_s; None where a trained arm has fewer than two seeds, or none is trained: V is that of the questions alone."""
    residual: Numbers
    """V_r; 0 where `seed` is None."""
    question: Numbers
    """V_q."""
    seed_degrees: Numbers
    question_degrees: Numbers

    @property
    def variance(self) -> Numbers:
        """V."""
        if self.seed is None:
            return self.question
        return self.seed + np.maximum(self.question - self.residual, 0.0)

    @property
    def degrees(self) -> Numbers:
        """ν: Student's t with it has the 95 % quantile of V's two parts, weighted by their shares."""
        if self.seed is None:
            return self.question_degrees
        with np.errstate(invalid="ignore", divide="ignore"):
            seed_share = np.where(self.variance > 0, self.seed / self.variance, 1.0)
        return _degrees_of_mean(seed_share, self.seed_degrees, self.question_degrees)

    def with_seeds(self, num_seeds: int, *, now: int) -> Components:
        """What is to be expected of `num_seeds` seeds an arm, all shared, from what `now` of them show.

        Two seeds that came out alike by chance promise nothing: V_s is not taken below what sampling alone gives.
        """
        if self.seed is None:
            raise ValueError("one seed does not tell what more would do")
        ratio = now / num_seeds
        rest = np.maximum(self.question - self.residual, 0.0)
        return Components(
            value=self.value,
            seed=np.maximum(self.seed, self.residual) * ratio,
            residual=self.residual * ratio,
            question=rest + self.residual * ratio,
            seed_degrees=np.full_like(self.seed_degrees, num_seeds - 1.0),
            question_degrees=self.question_degrees,
        )


def components(terms: Sequence[Term]) -> Components:
    """Return Σ w x̄ over the terms with the parts of its variance."""
    value = np.asarray(sum(term.weight * term.rates.mean(axis=(-1, -2)) for term in terms))
    question, question_degrees = _question_part(terms)
    trained = [term for term in terms if term.is_trained]
    if any(len(term.seeds) < FEWEST_SEEDS for term in trained) or not trained:
        return Components(
            value=value,
            seed=None,
            residual=np.zeros_like(value),
            question=question,
            seed_degrees=np.full_like(value, np.inf),
            question_degrees=question_degrees,
        )
    form_YY = seed_form(trained)
    means_Y = np.concatenate([term.rates.mean(axis=-1) for term in trained], axis=-1)
    return Components(
        value=value,
        seed=np.maximum(_applied(form_YY, means_Y), 0.0),
        residual=np.maximum(_residual_part(trained, form_YY), 0.0),
        question=question,
        seed_degrees=_seed_degrees(trained, form_YY),
        question_degrees=question_degrees,
    )


def seed_form(terms: Sequence[Term]) -> Numbers:
    """Return Q (Y, Y): yᵀQy is an unbiased estimate of Var(Σ w ȳ) under any seed variances and covariances.

    The covariance of two arms is Σ_C u_a u_b / (c k), over the c seeds C that both have, of deviations u from each
    arm's own mean; k = 1 − 1/S_a − 1/S_b + c/(S_a S_b) makes it unbiased. It is taken as 0 where c < 2.
    """
    blocks = [[_form_block(first, second) for second in terms] for first in terms]
    return np.block(blocks)


def _form_block(first: Term, second: Term) -> Numbers:
    shared_SS = np.equal.outer(np.array(first.seeds), np.array(second.seeds)).astype(np.float64)
    num_shared = shared_SS.sum()
    sizes = len(first.seeds), len(second.seeds)
    if num_shared < FEWEST_SEEDS:
        return np.zeros(sizes)
    unbiased = 1 - 1 / sizes[0] - 1 / sizes[1] + num_shared / (sizes[0] * sizes[1])
    factor = first.weight * second.weight / (sizes[0] * sizes[1] * unbiased)
    return np.asarray(factor * _centring(sizes[0]) @ shared_SS @ _centring(sizes[1]))


def _centring(size: int) -> Numbers:
    return np.eye(size) - 1 / size


def _applied(form_YY: Numbers, values_Y: Numbers) -> Numbers:
    return np.asarray(np.einsum("...y,yz,...z->...", values_Y, form_YY, values_Y))


def _residual_part(terms: Sequence[Term], form_YY: Numbers) -> Numbers:
    """V_r: the form of the seeds, question by question; no question is shared between benchmarks."""
    owners = [term.benchmark for term in terms for _ in term.seeds]
    total: Numbers = np.zeros(terms[0].rates.shape[:-2])
    for benchmark in dict.fromkeys(owners):
        places = np.flatnonzero([owner == benchmark for owner in owners])
        own_YN = np.concatenate([term.rates for term in terms if term.benchmark == benchmark], axis=-2)
        count = own_YN.shape[-1]
        if count < 2:
            return np.full_like(total, np.nan)
        left_YN = own_YN - own_YN.mean(axis=-1, keepdims=True)
        own_form = form_YY[np.ix_(places, places)]
        total = total + (left_YN * (own_form @ left_YN)).sum(axis=(-1, -2)) / (count * (count - 1))
    return total


def _question_part(terms: Sequence[Term]) -> tuple[Numbers, Numbers]:
    """V_q and its degrees, summed over benchmarks."""
    variances, counts = [], []
    for benchmark in dict.fromkeys(term.benchmark for term in terms):
        weighted_N = sum(term.weight * term.rates.mean(axis=-2) for term in terms if term.benchmark == benchmark)
        count = np.asarray(weighted_N).shape[-1]
        if count < 2:
            nothing = np.full(np.asarray(weighted_N).shape[:-1], np.nan)
            return nothing, nothing
        variances.append(np.asarray(weighted_N).var(axis=-1, ddof=1) / count)
        counts.append(count - 1)
    total = np.asarray(sum(variances))
    spread = np.asarray(sum(variance**2 / count for variance, count in zip(variances, counts, strict=True)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return total, np.where(spread > 0, total**2 / spread, float(sum(counts)))


def _seed_degrees(terms: Sequence[Term], form_YY: Numbers) -> Numbers:
    """tr(QΣ)² / tr((QΣ)²), Σ of the seeds' observed variances: S − 1 where all share S seeds, Welch's where none."""
    spread_Y = np.concatenate(
        [np.repeat(term.rates.mean(axis=-1).var(axis=-1, ddof=1)[..., None], len(term.seeds), -1) for term in terms],
        axis=-1,
    )
    spread_Y = np.where((spread_Y > 0).any(axis=-1, keepdims=True), spread_Y, 1.0)
    traced = (np.diagonal(form_YY) * spread_Y).sum(axis=-1)
    squared = np.einsum("...y,yz,...z->...", spread_Y, form_YY**2, spread_Y)
    return np.asarray(np.maximum(traced**2 / squared, 1.0))


def _degrees_of_mean(share: Numbers, first_degrees: Numbers, second_degrees: Numbers) -> Numbers:
    """ν of Student's t whose 95 % quantile is the weighted mean of two; by bisection on a logarithmic scale."""
    from scipy.special import stdtrit

    def quantile(degrees: Numbers) -> Numbers:
        return np.asarray(stdtrit(degrees, UPPER))

    wanted = share * quantile(first_degrees) + (1 - share) * quantile(second_degrees)
    low = np.log(np.minimum(first_degrees, second_degrees))
    high = np.log(np.maximum(first_degrees, second_degrees))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        is_below = quantile(np.exp(middle)) > wanted
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.asarray(np.exp((low + high) / 2))
