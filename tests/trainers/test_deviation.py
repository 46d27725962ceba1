from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.head.deviation import LN2, group_deviation, js_bound, js_divergence, kl_divergence, wasserstein_distance
from trainers.head.distribution import hidden_statistics
from trainers.head.operators import Head


def kl_slowly(p, q):
    # Half of the smallest float is 0: a mean may vanish where its terms do not.
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True) if a > 1e-300)


def js_slowly(p, q):
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl_slowly(p, m) + kl_slowly(q, m)) / 2


def two_distributions(seed, vocabulary, spread):
    logits = torch.randn(2, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread
    return torch.softmax(logits, -1)


distributions = given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([1e-3, 1.0, 30.0, 500.0]))


@distributions
@settings(max_examples=80, deadline=None)
def test_js_is_the_mean_of_two_kls_and_symmetric_and_bounded(seed, vocabulary, spread):
    p, q = two_distributions(seed, vocabulary, spread)
    found = float(js_divergence(p[None], q[None]))
    assert found == pytest.approx(js_slowly(p.tolist(), q.tolist()), abs=1e-6, rel=1e-6)
    assert found == pytest.approx(float(js_divergence(q[None], p[None])), rel=1e-12, abs=1e-15)
    assert 0.0 <= found <= LN2
    single = float(js_divergence(p[None].float(), q[None].float()))
    assert single == pytest.approx(found, abs=2e-6, rel=1e-4)


@distributions
@settings(max_examples=80, deadline=None)
def test_kl_and_wasserstein_equal_their_definitions(seed, vocabulary, spread):
    p, q = two_distributions(seed, vocabulary, spread)
    mean = (p + q) / 2
    assert float(kl_divergence(p[None], mean[None])) == pytest.approx(
        kl_slowly(p.tolist(), mean.tolist()), abs=1e-12, rel=1e-9
    )
    moved = sum(abs(float(p[: v + 1].sum() - q[: v + 1].sum())) for v in range(vocabulary))
    assert float(wasserstein_distance(p[None], q[None])) == pytest.approx(moved, abs=1e-9)


def test_disjoint_distributions_reach_the_bound_of_their_number():
    expected = {1: 0.0, 2: 0.2158, 4: 0.3804, 8: 0.4969, 16: 0.5743}
    for members, bound in expected.items():
        p_NV = torch.eye(members)
        found_N = js_divergence(p_NV, p_NV.mean(0).expand(members, -1))
        assert float(js_bound(torch.tensor([members]))) == pytest.approx(bound, abs=5e-5)
        assert found_N.tolist() == pytest.approx([bound] * members, abs=5e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(0, 4), min_size=1, max_size=25),
    st.sampled_from(["js", "kl", "wasserstein"]),
    st.booleans(),
    st.sampled_from([1, 40, 10**6]),
)
def test_each_token_is_measured_against_the_mean_of_its_ragged_cell(seed, cells, distance, leave_one_out, max_logits):
    generator = torch.Generator().manual_seed(seed)
    head = Head(weight_VD=torch.randn(11, 6, generator=generator, dtype=torch.float64), temperature=0.7)
    hidden_ND = torch.randn(len(cells), 6, generator=generator, dtype=torch.float64)
    token_N = torch.randint(11, (len(cells),), generator=generator)
    found_N, stats = group_deviation(
        hidden_ND, head, token_N, torch.tensor(cells),
        distance=distance, leave_one_out=leave_one_out, max_logits=max_logits,
    )  # fmt: skip
    p_NV = torch.softmax(hidden_ND @ head.weight_VD.T / 0.7, -1)
    reference = {"js": js_slowly, "kl": kl_slowly, "wasserstein": None}[distance]
    for n, cell in enumerate(cells):
        others = [m for m, other in enumerate(cells) if other == cell and not (leave_one_out and m == n)]
        alone = cells.count(cell) == 1
        q = p_NV[others].mean(0) if others else p_NV[n]
        if reference is None:
            expected = float((p_NV[n].cumsum(0) - q.cumsum(0)).abs().sum())
        else:
            expected = reference(p_NV[n].tolist(), q.tolist())
        assert float(found_N[n]) == pytest.approx(0.0 if alone else expected, abs=1e-6)
    expected_stats = hidden_statistics(hidden_ND, head, token_N)
    torch.testing.assert_close(stats.entropy_N, expected_stats.entropy_N)
    torch.testing.assert_close(stats.logp_N, expected_stats.logp_N)


def test_a_group_of_one_deviates_from_nothing():
    head = Head(weight_VD=torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    for leave_one_out in (False, True):
        found_N, _ = group_deviation(
            torch.ones(2, 3), head, torch.tensor([0, 1]), torch.tensor([7, 9]), leave_one_out=leave_one_out
        )
        assert found_N.tolist() == [0.0, 0.0]


def test_no_tokens_deviate_by_nothing():
    head = Head(weight_VD=torch.zeros(5, 3))
    none_N = torch.zeros(0, dtype=torch.int64)
    assert group_deviation(torch.zeros(0, 3), head, none_N, none_N)[0].shape == (0,)
