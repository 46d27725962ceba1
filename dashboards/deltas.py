"""Differences between arms, question by question, and seeds merged for it.

Source: EVAL.md "Statistics".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from eval.stats import question_rates, standard_error_of_mean

PerProblem = Mapping[str, Sequence[int]]
"""Problem id → 0/1 for each sample, those of all seeds one after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """How far one arm is above another."""

    value: float | None
    """Mean over questions of the difference of their rates; None where `note` says why there is none."""
    standard_error: float | None
    p_value: float | None
    """Two-sided t test over questions; None where all differences are equal."""
    note: str = ""


def paired_delta(arm: PerProblem | None, other: PerProblem | None) -> Delta | None:
    """`arm` minus `other` over the same questions; None where either is absent."""
    if arm is None or other is None:
        return None
    if arm.keys() != other.keys():
        return Delta(value=None, standard_error=None, p_value=None, note="other questions")
    rates = dict(zip(other, question_rates(other), strict=True))
    differences = [rate - rates[problem] for problem, rate in zip(arm, question_rates(arm), strict=True)]
    value, error = fmean(differences), standard_error_of_mean(differences)
    return Delta(value=value, standard_error=error, p_value=_p_value(value, error, degrees=len(differences) - 1))


def macro_delta(deltas: Sequence[Delta | None]) -> Delta | None:
    """Mean over benchmarks with sqrt(Σ SE²) / B; p from the normal distribution. None where any is missing."""
    present = [delta for delta in deltas if delta is not None and delta.value is not None]
    if len(present) < len(deltas):
        return None
    value = fmean(delta.value or 0.0 for delta in present)
    error = math.sqrt(sum((delta.standard_error or 0.0) ** 2 for delta in present)) / len(present)
    return Delta(value=value, standard_error=error, p_value=_p_value(value, error, degrees=None))


def merged_seeds(tables: Sequence[PerProblem]) -> dict[str, tuple[int, ...]] | None:
    """Samples of several seeds of one arm as one table; None where their questions differ."""
    if not tables or any(one.keys() != tables[0].keys() for one in tables):
        return None
    return {problem: tuple(sample for one in tables for sample in one[problem]) for problem in tables[0]}


def _p_value(value: float, error: float, *, degrees: int | None) -> float | None:
    if not error > 0:
        return None
    from scipy.stats import norm, t

    size = abs(value / error)
    return float(2 * (norm.sf(size) if degrees is None else t.sf(size, degrees)))
