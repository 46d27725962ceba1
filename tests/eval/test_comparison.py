import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from eval.comparison import compare_arms, holm, macro_average, minimum_detectable
from eval.errors import DataError


def arm(generator, rates, samples=16):
    return {
        f"q{q}": tuple(int(v) for v in generator.random(samples) < rate) for q, rate in enumerate(np.clip(rates, 0, 1))
    }


@pytest.fixture
def two_arms():
    generator = np.random.default_rng(3)
    rates = generator.beta(1, 1.5, size=12)
    return arm(generator, rates + 0.1), arm(generator, rates)


def test_the_difference_is_paired_by_question(two_arms):
    a, b = two_arms
    found = compare_arms([a], [b])
    d = np.array([np.mean(a[q]) - np.mean(b[q]) for q in a])
    reference = stats.ttest_rel([np.mean(a[q]) for q in a], [np.mean(b[q]) for q in a])
    assert found.delta == pytest.approx(d.mean(), abs=1e-15)
    assert found.standard_error == pytest.approx(d.std(ddof=1) / math.sqrt(len(d)), abs=1e-15)
    assert found.p_t == pytest.approx(reference.pvalue, abs=1e-12)
    assert (found.num_problems, found.num_samples, found.has_seeds) == (12, 16, False)


def test_few_questions_get_every_sign_flip(two_arms):
    a, b = two_arms
    d = [np.mean(a[q]) - np.mean(b[q]) for q in a]
    slow = np.mean([abs(np.dot(signs, d)) >= abs(sum(d)) - 1e-12 for signs in product((-1, 1), repeat=len(d))])
    assert compare_arms([a], [b]).p_permutation == pytest.approx(slow, abs=1e-12)


def test_many_questions_get_random_sign_flips_that_agree_with_t():
    generator = np.random.default_rng(0)
    rates = generator.beta(2, 2, size=200)
    found = compare_arms([arm(generator, rates + 0.01)], [arm(generator, rates)])
    assert found.p_permutation == pytest.approx(found.p_t, abs=0.03)


def test_the_order_of_questions_does_not_matter(two_arms):
    a, b = two_arms
    shuffled = dict(reversed(b.items()))
    assert compare_arms([a], [shuffled]).delta == compare_arms([a], [b]).delta


def test_equal_arms_have_no_p_value(two_arms):
    found = compare_arms([two_arms[0]], [two_arms[0]])
    assert (found.delta, found.p_t, found.p_permutation) == (0.0, None, None)


def test_other_questions_are_refused(two_arms):
    a, b = two_arms
    with pytest.raises(DataError, match="not answer the same questions: 1"):
        compare_arms([a], [dict(list(b.items())[:-1])])


def test_several_seeds_widen_the_error_and_cost_degrees_of_freedom():
    generator = np.random.default_rng(1)
    rates = generator.beta(2, 2, size=100)
    first = [arm(generator, rates + shift) for shift in (0.0, 0.1, 0.2)]
    second = [arm(generator, rates + shift) for shift in (-0.1, 0.0, 0.1)]
    several, one = compare_arms(first, second), compare_arms(first[1:2], second[1:2])
    assert several.has_seeds
    assert several.num_seeds == (3, 3)
    assert several.standard_error > 2 * one.standard_error
    # Seeds scatter by 0.1: the error of a difference of two means of three is about 0.1·sqrt(2/3)·sqrt(2/3).
    assert 0.04 < several.standard_error < 0.12
    assert several.p_t > one.p_t
    assert compare_arms(first, second, seed=0) == several


def test_the_macro_average_adds_variances():
    generator = np.random.default_rng(5)
    parts = []
    for _ in range(3):
        rates = generator.beta(1, 1, size=40)
        parts.append(compare_arms([arm(generator, rates + 0.05)], [arm(generator, rates)]))
    macro = macro_average(parts)
    assert macro.delta == pytest.approx(np.mean([p.delta for p in parts]), abs=1e-15)
    assert macro.standard_error == pytest.approx(math.sqrt(sum(p.standard_error**2 for p in parts)) / 3, abs=1e-15)
    assert macro.num_problems == 120
    with pytest.raises(ValueError, match="at least one"):
        macro_average([])


def test_holm_is_the_step_down_rule():
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_true_difference_of_the_minimum_detectable_size_is_found_four_times_in_five():
    generator = np.random.default_rng(0)
    n, sd = 50, 0.3
    effect = minimum_detectable(sd / math.sqrt(n), n - 1)
    draws = generator.normal(effect, sd, size=(4000, n))
    significant = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert significant.mean() == pytest.approx(0.8, abs=0.02)


def test_under_no_difference_one_in_twenty_is_significant():
    generator = np.random.default_rng(7)
    rates = generator.beta(1, 2, size=30)
    found = [compare_arms([arm(generator, rates)], [arm(generator, rates)]) for _ in range(400)]
    assert 0.02 < np.mean([f.p_t < 0.05 for f in found]) < 0.09


def test_the_error_over_seeds_is_that_of_drawing_seeds_questions_and_samples_again():
    generator = np.random.default_rng(2)
    rates = generator.beta(2, 2, size=30)
    first = [arm(generator, np.clip(rates + shift, 0, 1)) for shift in (0.0, 0.1, 0.2)]
    second = [arm(generator, np.clip(rates + shift, 0, 1)) for shift in (-0.1, 0.0, 0.1)]
    tables = [np.array([list(run.values()) for run in runs]) for runs in (first, second)]
    deltas = []
    for _ in range(4000):
        questions = generator.integers(0, 30, size=30)
        means = []
        for table in tables:
            drawn = table[generator.integers(0, 3, size=3)][:, questions]
            means.append(np.take_along_axis(drawn, generator.integers(0, 16, size=drawn.shape), axis=2).mean())
        deltas.append(means[0] - means[1])
    assert compare_arms(first, second).standard_error == pytest.approx(np.std(deltas, ddof=1), rel=0.08)
