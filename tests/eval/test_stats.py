import math

import numpy as np
import pytest
from scipy import stats

from eval.stats import avg_at_k, interval, pass_at_k

EXAMPLE = {"a": (1, 1, 0, 1), "b": (0, 0, 0, 0), "c": (1, 0, 1, 0), "d": (1, 1, 1, 1)}


def test_the_average_is_over_questions_and_its_error_is_clustered():
    rates = np.array([0.75, 0.0, 0.5, 1.0])
    average = avg_at_k(EXAMPLE)
    assert average.mean == rates.mean()
    assert average.standard_error == pytest.approx(rates.std(ddof=1) / math.sqrt(4), abs=1e-15)
    assert average.generation_error == pytest.approx(math.sqrt((rates * (1 - rates) / 3).sum()) / 4, abs=1e-15)
    assert (average.num_problems, average.num_samples) == (4, 4)


def test_one_sample_has_no_generation_error_and_one_question_no_standard_error():
    assert avg_at_k({"a": (1,), "b": (0,)}).generation_error is None
    assert math.isnan(avg_at_k({"a": (1, 0)}).standard_error)


def test_an_average_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one question"):
        avg_at_k({})
    with pytest.raises(ValueError, match="at least one sample"):
        avg_at_k({"a": ()})


def test_pass_at_k_equals_the_average_over_all_subsets():
    from itertools import combinations

    for k in (1, 2, 3, 4):
        slow = [np.mean([any(subset) for subset in combinations(samples, k)]) for samples in EXAMPLE.values()]
        mean, error = pass_at_k(EXAMPLE, k)
        assert mean == pytest.approx(np.mean(slow), abs=1e-12)
        assert error == pytest.approx(np.std(slow, ddof=1) / 2, abs=1e-12)
    with pytest.raises(ValueError, match="pass@5 needs at least 5"):
        pass_at_k(EXAMPLE, 5)


def test_away_from_the_ends_the_interval_is_students_on_the_log_odds():
    example = {str(number): (1,) * (number % 5) + (0,) * (4 - number % 5) for number in range(100)}
    found, average = interval(example), avg_at_k(example)
    centre = np.log(average.mean / (1 - average.mean))
    half = 1.984216952 * average.standard_error / (average.mean * (1 - average.mean))
    assert [found.low, found.high] == pytest.approx(
        [1 / (1 + np.exp(half - centre)), 1 / (1 + np.exp(-half - centre))], abs=1e-3
    )
    assert 0 < found.low < average.mean < found.high < 1


def test_where_all_samples_agree_the_interval_still_says_how_little_few_questions_tell():
    none = interval({str(number): (0, 0) for number in range(30)})
    assert (none.low, none.high, none.method) == (0.0, pytest.approx(0.115703, abs=1e-6), "exact")
    every = interval({str(number): (1,) for number in range(2)})
    assert (every.low, every.high) == (pytest.approx(0.158114, abs=1e-6), 1.0)


def test_the_ends_of_the_interval_come_from_a_tenth_of_a_further_question():
    """Few questions are right at times: the Beta of the bootstrap's mean and variance, against drawn weights."""
    rates = [0.0] * 27 + [0.02] * 3
    found = interval({str(number): (rate,) for number, rate in enumerate(rates)})
    generator = np.random.default_rng(0)
    weights = generator.dirichlet([1.0] * 30 + [0.1], size=200_000)
    drawn = weights @ np.array([*rates, 1.0])
    widened = (2.045229642 / 1.959963985) ** 2
    size = drawn.mean() * (1 - drawn.mean()) / (widened * drawn.var()) - 1
    assert found.high == pytest.approx(stats.beta.ppf(0.975, drawn.mean() * size, (1 - drawn.mean()) * size), rel=0.02)


DIFFICULTIES = [(0.8, 1.6), (2.0, 2.0), (0.3, 3.0), (3.0, 0.5), (0.1, 2.0), (0.05, 2.0), (2.0, 0.05)]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_95_percent_intervals_cover_the_truth_for_30_questions_of_16_samples(difficulty):
    """Questions drawn from a Beta distribution, also with averages of 2 and 98 %: 2,000 simulated benchmarks each.

    At those the possible averages lie so far apart that 95 % cannot be met from above: 99 %.
    """
    generator = np.random.default_rng(0)
    truth = difficulty[0] / sum(difficulty)
    is_extreme = not 0.05 <= truth <= 0.95
    trials, covered = 2000, 0
    for _ in range(trials):
        right = generator.binomial(16, generator.beta(*difficulty, size=30))
        found = interval({str(q): (count / 16,) for q, count in enumerate(right)})
        covered += found.low <= truth <= found.high
    assert 0.935 <= covered / trials <= (1.0 if is_extreme else 0.97)
