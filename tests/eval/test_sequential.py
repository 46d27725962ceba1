"""The group-sequential design against published boundaries, against simulation, and what it says of looks."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import ttest_1samp

from eval.sequential.boundaries import boundaries, crossing, futility, shrinkage, spent, upper_bounds
from eval.sequential.design import Design
from eval.sequential.judge import Seen, judge

sys.path.insert(0, str(Path(__file__).parent / "fakes"))

from simulated_arms import World, looks

DESIGN = Design(at_least=3, at_most=10, alpha=0.05, effect=0.01)


def even(num_looks: int) -> tuple[float, ...]:
    return tuple((place + 1) / num_looks for place in range(num_looks))


@pytest.mark.parametrize(
    ("num_looks", "pocock", "obrien_fleming"),
    [(2, 2.178, 1.977), (3, 2.289, 2.004), (4, 2.361, 2.024), (5, 2.413, 2.040), (10, 2.555, 2.087)],
)
def test_published_constants_cross_in_five_percent(num_looks: int, pocock: float, obrien_fleming: float) -> None:
    """Jennison and Turnbull (2000), tables 2.1 and 2.3, two-sided alpha .05, equal steps."""
    times = even(num_looks)
    assert 2 * sum(crossing([pocock] * num_looks, times)) == pytest.approx(0.05, abs=1e-4)
    falling = [obrien_fleming / math.sqrt(time) for time in times]
    assert 2 * sum(crossing(falling, times)) == pytest.approx(0.05, abs=1e-4)


def test_boundaries_are_those_of_lan_and_demets() -> None:
    """Five equal looks, two-sided .05: O'Brien-Fleming type; Pocock type α ln(1 + (e − 1)t). ldbounds, PASS, EaSt."""
    assert boundaries(0.05, even(5)) == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4)

    def pocock(level: float, time: float) -> float:
        return level * math.log(1 + (math.e - 1) * time)

    assert boundaries(0.05, even(5), pocock) == pytest.approx((2.438, 2.427, 2.410, 2.397, 2.386), abs=1e-3)


@given(at_least=st.integers(2, 9), more=st.integers(0, 12), alpha=st.floats(0.001, 0.2), drift=st.floats(0.0, 8.0))
@settings(max_examples=25, deadline=None)
def test_every_design_spends_its_alpha_and_no_more(at_least: int, more: int, alpha: float, drift: float) -> None:
    design = Design(at_least=at_least, at_most=at_least + more, alpha=alpha, effect=0.01)
    upper = boundaries(alpha, design.times)
    assert 2 * sum(crossing(upper, design.times)) == pytest.approx(alpha, rel=1e-4)
    assert min(upper) >= NormalDist().inv_cdf(1 - alpha / 2) - 1e-6  # never easier than a single look
    inner = futility(drift, design.times, upper)
    assert all(0 <= a <= c for a, c in zip(inner, upper, strict=True))
    assert spent(alpha / 2, 1.0) == pytest.approx(alpha / 2)


def paths(drift: float, times: tuple[float, ...], repetitions: int) -> np.ndarray:
    steps = np.diff([0.0, *times])
    drawn = np.random.default_rng(0).normal(drift * steps, np.sqrt(steps), size=(repetitions, len(times)))
    return drawn.cumsum(axis=1) / np.sqrt(times)


def test_futility_gives_up_a_true_effect_no_more_often_than_it_may() -> None:
    drift, upper = 3.2, upper_bounds(DESIGN)
    inner = futility(drift, DESIGN.times, upper)
    moves = np.abs(paths(drift, DESIGN.times, 20_000))
    first_out = np.where((moves >= upper).any(1), (moves >= upper).argmax(1), 99)
    first_in = np.where((moves <= inner).any(1), (moves <= inner).argmax(1), 99)
    assert (first_in < first_out).mean() <= 0.21
    nothing = np.abs(paths(0.0, DESIGN.times, 20_000))
    assert ((nothing <= inner).argmax(1) < len(upper) - 1).mean() > 0.5  # and spares what has no effect


@pytest.mark.parametrize("drift", [0.0, 1.5, 3.0])
def test_the_adjusted_estimate_is_as_often_too_high_as_too_low(drift: float) -> None:
    times = even(4)
    upper = boundaries(0.05, times)
    above = []
    for row in paths(drift, times, 400):
        out = np.flatnonzero(np.abs(row) >= upper)
        stop = int(out[0]) if len(out) else len(times) - 1
        naive = row[stop] / math.sqrt(times[stop])
        above.append(naive * shrinkage(row[stop], times[: stop + 1], upper) > drift)
    assert np.mean(above) == pytest.approx(0.5, abs=0.06)


def test_an_early_success_is_taken_down_and_a_first_look_is_not() -> None:
    upper = upper_bounds(DESIGN)
    assert shrinkage(5.0, DESIGN.times[:1], upper) == 1.0
    assert 0.5 < shrinkage(3.0, DESIGN.times[:5], upper) < 1.0
    assert shrinkage(0.0, DESIGN.times[:5], upper) == 1.0


def seen(value: float, error: float, p_value: float | None) -> Seen:
    return Seen(value=value, minimum_detectable=2.9 * error, p_value=p_value)


@pytest.mark.parametrize(
    ("looks", "verdict", "look"),
    [
        ([], "open", 0),
        ([seen(0.03, 0.01, 0.004)], "open", 1),  # not yet: the first look spends next to nothing
        ([seen(0.05, 0.01, 1e-6)], "benefit", 1),
        ([seen(-0.05, 0.01, 1e-6)], "harm", 1),
        ([seen(0.005, 0.01, 0.6), seen(0.05, 0.01, 1e-7), seen(0.0, 0.01, 1.0)], "benefit", 2),  # later looks: unseen
        ([seen(0.0, 0.001, 1.0)], "futile", 1),  # a hundredth is ten errors away
        ([seen(0.01, 0.05, 0.84)], "open", 1),  # it is a fifth of an error: nothing is known yet
        ([seen(0.0, 0.0, None)] * 8, "undecided", 8),
        ([seen(0.02, 0.012, 0.1)] * 8, "undecided", 8),
    ],
)
def test_looks_are_judged_in_order(looks: list[Seen], verdict: str, look: int) -> None:
    found = judge(looks, DESIGN)
    assert (found.verdict, found.look) == (verdict, look)


@pytest.mark.parametrize(("at_least", "at_most", "alpha"), [(2, 10, 0.05), (3, 10, 0.05), (3, 10, 0.01), (5, 6, 0.05)])
def test_estimated_variances_reject_no_more_than_alpha(at_least: int, at_most: int, alpha: float) -> None:
    """Student's t by scipy after every seed, drawn apart from what the boundaries were calibrated with."""
    design = Design(at_least=at_least, at_most=at_most, alpha=alpha, effect=0.01)
    drawn = np.random.default_rng(5).normal(size=(20_000, at_most))
    looked = [ttest_1samp(drawn[:, :count], 0, axis=1).pvalue for count in range(at_least, at_most + 1)]
    deviates = np.abs(ndtri(np.array(looked).T / 2))
    rejected = (deviates >= upper_bounds(design)).any(axis=1).mean()
    assert rejected == pytest.approx(alpha, abs=4 * math.sqrt(alpha / 20_000))


def test_contrasts_share_alpha() -> None:
    assert DESIGN.shared_by(4).alpha == pytest.approx(0.0125)
    assert judge([seen(0.04, 0.01, 4e-5)], DESIGN).verdict == "benefit"
    assert judge([seen(0.04, 0.01, 4e-5)], DESIGN.shared_by(10)).verdict == "open"


@pytest.mark.parametrize("is_shared", [False, True])
def test_simulated_sweeps_are_seldom_wrong_and_spare_seeds(*, is_shared: bool) -> None:
    """Of two arms that do not differ; `benchmarks/bench_until_decided.py` has the full tables."""
    world = World(num_questions=30, num_samples=16, seed_sd=0.25, is_shared=is_shared)
    design = replace(DESIGN, effect=0.04 if is_shared else 0.08)
    drawn = world.draw(np.random.default_rng(7), num_seeds=design.at_most, repetitions=150)
    found = [judge(one, design) for one in looks(*drawn, design)]
    wrong = np.mean([one.verdict in ("benefit", "harm") for one in found])
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)
    assert np.mean([one.verdict == "futile" for one in found]) > 0.75
    assert np.mean([design.at_least - 1 + one.look for one in found]) < 0.8 * design.at_most
