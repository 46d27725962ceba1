"""The model of seeds and questions: against slow references, against simulated worlds, and in what it must never do."""

import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.comparison import minimum_detectable
from eval.seed_model import Term, components, seed_form

sys.path.append(str(Path(__file__).parent / "fakes"))
from simulated_arms import World, difference, p_values


def term(rates, *, weight=1.0, seeds=None, benchmark="one", is_trained=True) -> Term:
    rates = np.asarray(rates, dtype=np.float64)
    seeds = tuple(range(rates.shape[-2])) if seeds is None else seeds
    return Term(weight=weight, rates=rates, seeds=seeds, benchmark=benchmark, is_trained=is_trained)


def rates_of(generator, num_seeds=3, num_questions=8, shape=()):
    return generator.random((*shape, num_seeds, num_questions))


def test_with_shared_seeds_the_variance_is_that_of_the_two_way_table_of_differences():
    generator = np.random.default_rng(0)
    first, second = rates_of(generator, 4), rates_of(generator, 4)
    found = components([term(first), term(second, weight=-1)])
    table = first - second
    S, N = table.shape
    mean, of_seed, of_question = table.mean(), table.mean(axis=1), table.mean(axis=0)
    ms_seed = N * ((of_seed - mean) ** 2).sum() / (S - 1)
    ms_question = S * ((of_question - mean) ** 2).sum() / (N - 1)
    rest = table - of_seed[:, None] - of_question + mean
    ms_residual = (rest**2).sum() / ((S - 1) * (N - 1))
    parts = (found.seed, found.question, found.residual)
    assert parts == pytest.approx([ms / (S * N) for ms in (ms_seed, ms_question, ms_residual)])
    assert found.variance == pytest.approx((ms_seed + max(ms_question - ms_residual, 0)) / (S * N))
    assert found.seed_degrees == pytest.approx(S - 1)


def test_without_shared_seeds_the_seeds_part_and_its_degrees_are_welchs():
    generator = np.random.default_rng(1)
    first, second = rates_of(generator, 3), rates_of(generator, 5)
    found = components([term(first, seeds=(0, 1, 2)), term(second, weight=-1, seeds=(3, 4, 5, 6, 7))])
    reference = stats.ttest_ind(first.mean(axis=1), second.mean(axis=1), equal_var=False)
    assert found.seed == pytest.approx((found.value / reference.statistic) ** 2)
    assert found.seed_degrees == pytest.approx(reference.df)


def test_the_form_of_the_seeds_is_unbiased_whatever_seeds_the_arms_share():
    """E[yᵀQy] = tr(QΣ) equals Var(Σ w ȳ) for any variances and covariances of equal seeds."""
    generator = np.random.default_rng(2)
    for seeds in (((0, 1, 2), (0, 1, 2)), ((0, 1, 2, 3), (2, 3, 4)), ((0, 1), (0, 1, 2, 3, 4)), ((0, 1), (2, 3))):
        root = generator.normal(size=(2, 2))
        covariance = root @ root.T
        weights = np.repeat([1.0, -1.0], [len(one) for one in seeds])
        places = [(arm, seed) for arm, own in enumerate(seeds) for seed in own]
        sigma = np.array([[covariance[a, b] * (s == t) for b, t in places] for a, s in places])
        means = weights / np.array([len(seeds[arm]) for arm, _ in places])
        form = seed_form(
            [term(np.zeros((len(own), 2)), weight=w, seeds=own) for own, w in zip(seeds, (1, -1), strict=True)]
        )
        assert np.trace(form @ sigma) == pytest.approx(means @ sigma @ means)


def test_one_shared_seed_is_not_a_pair():
    generator = np.random.default_rng(3)
    first, second = rates_of(generator, 2), rates_of(generator, 2)
    one = components([term(first, seeds=(0, 1)), term(second, weight=-1, seeds=(1, 2))])
    none = components([term(first, seeds=(0, 1)), term(second, weight=-1, seeds=(2, 3))])
    assert one.variance == none.variance


def test_below_two_seeds_of_a_trained_arm_nothing_is_said_of_seeds():
    generator = np.random.default_rng(4)
    several, one = rates_of(generator, 3), rates_of(generator, 1)
    assert components([term(several), term(one, weight=-1)]).seed is None
    assert components([term(one, is_trained=False)]).seed is None
    beside_base = components([term(several), term(one, weight=-1, is_trained=False)])
    assert beside_base.seed == pytest.approx(several.mean(axis=1).var(ddof=1) / 3)
    assert beside_base.seed_degrees == pytest.approx(2)


def test_a_seed_is_one_run_on_all_benchmarks():
    """A run that is better on both benchmarks by the same amount moves their mean by that amount, not by 1/√2 of it."""
    generator = np.random.default_rng(5)
    shift = np.array([0.0, 0.1, 0.3])[:, None]
    both = [term(generator.random((1, 6)) + shift, weight=0.5, benchmark=name) for name in ("one", "two")]
    assert components(both).seed == pytest.approx(shift.var(ddof=1) / 3)


def test_seeds_missing_on_one_side_still_count():
    generator = np.random.default_rng(6)
    first, second = rates_of(generator, 5, 40), rates_of(generator, 4, 40)
    found = components([term(first, seeds=(0, 1, 2, 3, 4)), term(second, weight=-1, seeds=(0, 2, 3, 7))])
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert 2 < found.seed_degrees < 7


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    num_seeds=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    offset=st.integers(0, 4),
    num_questions=st.integers(2, 12),
)
def test_the_parts_are_never_negative_and_the_degrees_lie_between_those_of_seeds_and_questions(
    seed, num_seeds, offset, num_questions
):
    generator = np.random.default_rng(seed)
    first, second = (generator.integers(0, 3, size=(count, num_questions)) / 2 for count in num_seeds)
    seeds = tuple(range(offset, offset + num_seeds[1]))
    found = components([term(first), term(second, weight=-1, seeds=seeds)])
    assert min(found.seed, found.residual, found.question, found.variance) >= 0
    bounds = sorted((float(found.seed_degrees), float(found.question_degrees)))
    assert bounds[0] * (1 - 1e-6) <= found.degrees <= bounds[1] * (1 + 1e-6)
    swapped = components([term(second, seeds=seeds), term(first, weight=-1)])
    assert swapped.value == pytest.approx(-found.value)
    assert swapped.variance == pytest.approx(found.variance, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), now=st.integers(2, 5), num_questions=st.integers(5, 60))
def test_what_is_to_be_detected_never_rises_with_a_seed_more(seed, now, num_questions):
    """From five questions on: fewer leave Student's t so few degrees that they outweigh what seeds add."""
    generator = np.random.default_rng(seed)
    rates = [generator.binomial(4, generator.random((1, num_questions)), size=(now, num_questions)) / 4 for _ in "ab"]
    found = difference(*rates)
    expected = [found.with_seeds(count, now=now) for count in range(now, now + 8)]
    sizes = [minimum_detectable(float(np.sqrt(one.variance)), float(one.degrees)) for one in expected]
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(sizes))


WORLDS = {
    "no seed effect": {},
    "a seed effect": {"seed_sd": 0.25},
    "a shared seed effect": {"seed_sd": 0.25, "is_shared": True},
    "a seed effect, questions of their own": {"seed_sd": 0.25, "question_sd": 0.5},
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("num_samples", [1, 16])
def test_under_no_difference_few_are_called_different(world, num_samples):
    """2.5 to 6.5 %, give or take three standard errors of 1,000 repetitions (2.2 points)."""
    generator = np.random.default_rng(7)
    for num_seeds in (2, 5):
        drawn = World(num_questions=30, num_samples=num_samples, **world).draw(
            generator, num_seeds=num_seeds, repetitions=1000
        )
        assert 0.005 <= (p_values(difference(*drawn)) < 0.05).mean() <= 0.085


def test_power_never_falls_with_a_seed_more_and_is_near_that_of_known_variances_from_five_on():
    generator = np.random.default_rng(8)
    world = World(num_questions=30, num_samples=16, effect=0.36)
    power, known = [], []
    for num_seeds in (2, 3, 5, 10):
        found = difference(*world.draw(generator, num_seeds=num_seeds, repetitions=1000))
        power.append((p_values(found) < 0.05).mean())
        known.append((np.abs(found.value) > 1.96 * found.value.std()).mean())
    assert power == sorted(power)
    assert power[2] >= known[2] - 0.05
    assert power[3] >= known[3] - 0.05


def test_half_of_all_designs_detect_less_with_fewer_seeds():
    """Medians over simulated experiments: of a single one, whose seeds scatter more than before, it may rise."""
    from scipy.special import stdtrit

    generator = np.random.default_rng(11)
    for world in WORLDS.values():
        medians = []
        for num_seeds in (2, 3, 4, 5, 10):
            drawn = World(num_questions=30, num_samples=4, **world).draw(
                generator, num_seeds=num_seeds, repetitions=400
            )
            found = difference(*drawn)
            quantiles = stdtrit(found.degrees, 0.975) + stdtrit(found.degrees, 0.8)
            medians.append(np.median(quantiles * np.sqrt(found.variance)))
        assert medians == sorted(medians, reverse=True)


def test_pairing_finds_what_a_shared_seed_effect_hides():
    generator = np.random.default_rng(9)
    world = World(num_questions=100, num_samples=16, seed_sd=0.4, is_shared=True, effect=0.45)
    first, second = world.draw(generator, num_seeds=5, repetitions=300)
    paired = (p_values(difference(first, second)) < 0.05).mean()
    seeds = tuple(range(5, 10))
    unpaired = components([term(first), term(second, weight=-1, seeds=seeds)])
    assert paired > 0.4 + (p_values(unpaired) < 0.05).mean()


def test_95_percent_intervals_cover_the_true_difference():
    from scipy.special import stdtrit

    generator = np.random.default_rng(10)
    for world, num_seeds in product(WORLDS.values(), (2, 3)):
        drawn = World(num_questions=30, num_samples=4, effect=0.5, **world)
        found = difference(*drawn.draw(generator, num_seeds=num_seeds, repetitions=1000))
        margin = stdtrit(found.degrees, 0.975) * np.sqrt(found.variance)
        covered = (np.abs(found.value - found.value.mean()) <= margin).mean()
        assert 0.925 <= covered <= 0.99
