import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from eval.comparison import (
    Arm,
    Part,
    compare_arms,
    compare_on_all,
    estimate,
    holm,
    minimum_detectable,
    p_beyond,
    power_of,
)
from eval.errors import DataError


def runs(*tables, seeds=None) -> Arm:
    """Training seeds 0, 1, …"""
    return Arm(runs=dict(zip(range(len(tables)) if seeds is None else seeds, tables, strict=True)))


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
    found = compare_arms(runs(a), runs(b))
    d = np.array([np.mean(a[q]) - np.mean(b[q]) for q in a])
    reference = stats.ttest_rel([np.mean(a[q]) for q in a], [np.mean(b[q]) for q in a])
    assert found.delta == pytest.approx(d.mean(), abs=1e-15)
    assert found.standard_error == pytest.approx(d.std(ddof=1) / math.sqrt(len(d)), abs=1e-15)
    assert found.p_checkpoints == pytest.approx(reference.pvalue, abs=1e-12)
    assert (found.num_problems, found.num_samples, found.covers_seeds, found.p_method) == (12, 16, False, None)


def test_few_questions_get_every_sign_flip(two_arms):
    a, b = two_arms
    d = [np.mean(a[q]) - np.mean(b[q]) for q in a]
    slow = np.mean([abs(np.dot(signs, d)) >= abs(sum(d)) - 1e-12 for signs in product((-1, 1), repeat=len(d))])
    assert compare_arms(runs(a), runs(b)).p_permutation == pytest.approx(slow, abs=1e-12)


def test_many_questions_get_random_sign_flips_that_agree_with_t():
    generator = np.random.default_rng(0)
    rates = generator.beta(2, 2, size=200)
    found = compare_arms(runs(arm(generator, rates + 0.01)), runs(arm(generator, rates)))
    assert found.p_permutation == pytest.approx(found.p_checkpoints, abs=0.03)


def test_the_order_of_questions_does_not_matter(two_arms):
    a, b = two_arms
    shuffled = dict(reversed(b.items()))
    assert compare_arms(runs(a), runs(shuffled)).delta == compare_arms(runs(a), runs(b)).delta


def test_equal_arms_have_no_p_value(two_arms):
    found = compare_arms(runs(two_arms[0]), runs(two_arms[0]))
    assert (found.delta, found.p_checkpoints, found.p_permutation) == (0.0, None, None)


def test_other_questions_are_refused(two_arms):
    a, b = two_arms
    with pytest.raises(DataError, match="not answer the same questions: 1"):
        compare_arms(runs(a), runs(dict(list(b.items())[:-1])))


def test_from_two_seeds_on_the_p_is_of_methods_and_the_error_covers_seeds():
    generator = np.random.default_rng(1)
    rates = generator.beta(2, 2, size=100)
    first = [arm(generator, rates + shift) for shift in (0.0, 0.1, 0.2)]
    second = [arm(generator, rates + shift) for shift in (-0.1, 0.05, 0.0)]
    several, one = compare_arms(runs(*first), runs(*second)), compare_arms(runs(first[1]), runs(second[1]))
    assert (several.covers_seeds, several.num_seeds, several.p_checkpoints) == (True, (3, 3), None)
    assert several.standard_error > 1.5 * one.standard_error
    assert 2 <= several.degrees < 3
    assert several.p_method > one.p_checkpoints
    assert (one.covers_seeds, one.p_method, one.seeds_to_decide) == (False, None, None)


def test_one_seed_on_either_side_says_nothing_of_a_method():
    generator = np.random.default_rng(2)
    tables = [arm(generator, generator.beta(2, 2, size=20)) for _ in range(4)]
    for first, second in ((tables[:3], tables[3:]), (tables[:1], tables[1:])):
        found = compare_arms(runs(*first), runs(*second))
        assert (found.covers_seeds, found.p_method) == (False, None)
        assert found.p_checkpoints is not None


def test_the_base_model_needs_no_seeds():
    generator = np.random.default_rng(3)
    rates = generator.beta(2, 2, size=50)
    base = Arm(runs={0: arm(generator, rates)}, is_trained=False)
    found = compare_arms(runs(*(arm(generator, rates + 0.3) for _ in range(3))), base)
    assert found.covers_seeds
    assert found.p_method < 0.05
    assert not compare_arms(base, Arm(runs={0: arm(generator, rates)}, is_trained=False)).covers_seeds


def test_seeds_are_paired_by_their_numbers_not_their_order():
    generator = np.random.default_rng(4)
    rates = generator.beta(2, 2, size=60)
    shifts = (0.0, 0.15, 0.3)
    first = [arm(generator, rates / 2 + shift) for shift in shifts]
    second = [arm(generator, rates / 2 + 0.02 + shift) for shift in shifts]
    paired = compare_arms(runs(*first), runs(*second))
    turned = compare_arms(runs(*first), runs(*reversed(second), seeds=(2, 1, 0)))
    assert turned.standard_error == pytest.approx(paired.standard_error)
    assert compare_arms(runs(*first), runs(*second, seeds=(3, 4, 5))).standard_error > 3 * paired.standard_error


def test_two_seeds_that_came_out_alike_are_not_certainty():
    same = {f"q{number}": (1, 0) for number in range(10)}
    worse = {f"q{number}": (0, 0) for number in range(10)}
    found = compare_arms(runs(same, same), runs(worse, worse))
    assert (found.delta, found.standard_error, found.p_method) == (0.5, 0.0, None)


def test_the_macro_average_takes_a_seed_as_one_run_on_all_benchmarks():
    generator = np.random.default_rng(5)
    first, second = ([], [])
    for _ in range(3):
        rates = generator.beta(1, 1, size=40) / 2
        first.append(runs(*(arm(generator, rates + 0.1 + shift) for shift in (0.0, 0.2, 0.4))))
        second.append(runs(*(arm(generator, rates) for _ in range(3)), seeds=(3, 4, 5)))
    macro = compare_on_all(first, second)
    each = [compare_arms(a, b) for a, b in zip(first, second, strict=True)]
    assert macro.delta == pytest.approx(np.mean([one.delta for one in each]))
    independent = math.sqrt(sum(one.standard_error**2 for one in each)) / 3
    assert macro.standard_error > 1.4 * independent
    assert macro.num_problems == 120
    with pytest.raises(ValueError, match="at least one"):
        compare_on_all([], [])


def test_without_seeds_the_macro_average_adds_the_variances_of_benchmarks():
    generator = np.random.default_rng(6)
    tables = [(arm(generator, rates + 0.05), arm(generator, rates)) for rates in generator.beta(1, 1, size=(3, 40))]
    each = [compare_arms(runs(a), runs(b)) for a, b in tables]
    macro = compare_on_all([runs(a) for a, _ in tables], [runs(b) for _, b in tables])
    assert macro.standard_error == pytest.approx(math.sqrt(sum(one.standard_error**2 for one in each)) / 3)


def test_an_average_of_one_arm_is_a_combination_too():
    generator = np.random.default_rng(7)
    table = arm(generator, generator.beta(2, 2, size=30))
    found = estimate([Part(weight=1, benchmark="one", arm=runs(table))])
    rates = np.array([np.mean(samples) for samples in table.values()])
    assert found.value == pytest.approx(rates.mean())
    assert found.standard_error == pytest.approx(rates.std(ddof=1) / math.sqrt(30))
    assert math.isnan(estimate([Part(weight=1, benchmark="one", arm=runs({"q": (1, 0)}))]).standard_error)


def test_the_seeds_to_decide_are_what_the_power_asks_for():
    generator = np.random.default_rng(8)
    rates = generator.beta(2, 2, size=200).clip(0.1, 0.8)
    first = [arm(generator, rates + shift) for shift in (0.0, 0.1)]
    second = [arm(generator, rates + shift) for shift in (-0.05, -0.03)]
    found = compare_arms(runs(*first), runs(*second))
    assert found.p_method > 0.05
    assert found.seeds_to_decide > 2
    tiny = compare_arms(runs(*second), runs(*(arm(generator, rates - 0.04) for _ in range(2))))
    assert tiny.seeds_to_decide is None or tiny.seeds_to_decide > 10


def test_seeds_that_came_out_alike_by_chance_do_not_make_small_differences_detectable():
    """Equal means of all seeds, by construction: the error is 0 there, what is detectable is not."""
    first = [{"a": (1, 0), "b": (0, 0), "c": (1, 1)}, {"a": (0, 0), "b": (1, 0), "c": (1, 1)}]
    second = [{"a": (0, 0), "b": (0, 0), "c": (0, 1)}, {"a": (0, 0), "b": (0, 0), "c": (0, 1)}]
    found = compare_arms(runs(*first), runs(*second))
    assert found.minimum_detectable > minimum_detectable(found.standard_error, found.degrees)


def test_the_power_at_the_detectable_size_is_80_percent():
    assert power_of(minimum_detectable(0.02, 4), 0.02, 4) == pytest.approx(0.8, abs=1e-9)
    assert p_beyond(0.5, 0.1, 3) == pytest.approx(2 * stats.t.sf(5, 3))
    assert p_beyond(0.5, 0.0, 3) is None


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
