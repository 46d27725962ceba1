from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.head.distribution import gradient_norm_square, hidden_logp, hidden_statistics, statistics
from trainers.head.operators import Head

INF = float("inf")


def slowly(logits, token):
    """Return log p, H, C and lse of one distribution, in float64 and by their definitions."""
    z = logits.double()
    lse = torch.logsumexp(z, 0)
    p = [float(value) for value in torch.exp(z - lse)]
    h = -sum(value * log(value) for value in p if value > 0)
    return float(z[token] - lse), h, sum(value**2 for value in p), float(lse)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([0.01, 1.0, 8.0, 60.0]), st.booleans())
def test_statistics_equal_their_definitions(seed, vocabulary, spread, has_barred):
    generator = torch.Generator().manual_seed(seed)
    logits_NV = torch.randn(3, vocabulary, generator=generator) * spread
    if has_barred and vocabulary > 1:
        logits_NV[:, ::2][:, 1:] = -INF
    token_N = torch.zeros(3, dtype=torch.int64)
    found = statistics(logits_NV, token_N)
    for row in range(3):
        logp, h, c, lse = slowly(logits_NV[row], 0)
        assert float(found.logp_N[row]) == pytest.approx(logp, rel=1e-5, abs=2e-6)
        assert float(found.entropy_N[row]) == pytest.approx(h, rel=2e-6, abs=2e-6)
        assert float(found.purity_N[row]) == pytest.approx(c, rel=1e-5)
        assert float(found.lse_N[row]) == pytest.approx(lse, rel=1e-5, abs=1e-5)


def test_the_entropy_of_a_full_vocabulary_is_exact_to_a_millionth():
    generator = torch.Generator().manual_seed(0)
    for spread in (0.1, 1.0, 3.0, 12.0):
        logits_NV = torch.randn(2, 151_936, generator=generator) * spread + 20
        logp_NV = torch.log_softmax(logits_NV.double(), -1)
        exact_N = -(logp_NV.exp() * logp_NV).sum(-1)
        found_N = statistics(logits_NV, torch.tensor([5, 6])).entropy_N
        assert float((found_N - exact_N).abs().max()) < 2e-6


def test_a_certain_token_has_entropy_zero_and_purity_one():
    logits_NV = torch.tensor([[-INF, 3.0, -INF], [0.0, 900.0, -900.0]])
    found = statistics(logits_NV, torch.tensor([1, 1]))
    assert found.entropy_N.tolist() == [0.0, 0.0]
    assert found.purity_N.tolist() == [1.0, 1.0]
    assert found.logp_N.tolist() == [0.0, 0.0]


def test_hidden_states_give_what_their_logits_give_however_they_are_cut():
    generator = torch.Generator().manual_seed(1)
    hidden_ND = torch.randn(23, 8, generator=generator)
    head = Head(
        weight_VD=torch.randn(50, 8, generator=generator),
        bias_V=torch.randn(50, generator=generator),
        temperature=0.6,
    )
    token_N = torch.randint(50, (23,), generator=generator)
    logits_NV = (hidden_ND @ head.weight_VD.T + head.bias_V) / 0.6
    whole = statistics(logits_NV, token_N)
    for max_logits in (1, 200, 10**6):
        cut = hidden_statistics(hidden_ND, head, token_N, max_logits=max_logits)
        torch.testing.assert_close(cut.logp_N, whole.logp_N, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(cut.entropy_N, whole.entropy_N, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(cut.purity_N, whole.purity_N, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(hidden_logp(hidden_ND, head, token_N, max_logits=max_logits), whole.logp_N)


def test_no_tokens_have_no_statistics():
    head = Head(weight_VD=torch.zeros(5, 2))
    assert hidden_statistics(torch.zeros(0, 2), head, torch.zeros(0, dtype=torch.int64)).entropy_N.shape == (0,)
    assert hidden_logp(torch.zeros(0, 2), head, torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_the_gradient_norm_is_that_of_autograd():
    generator = torch.Generator().manual_seed(3)
    logits_NV = torch.randn(5, 9, dtype=torch.float64, generator=generator, requires_grad=True)
    token_N = torch.tensor([0, 1, 2, 3, 8])
    found = statistics(logits_NV.detach(), token_N)
    torch.log_softmax(logits_NV, -1).gather(-1, token_N[:, None]).sum().backward()
    expected_N = logits_NV.grad.square().sum(-1)
    torch.testing.assert_close(gradient_norm_square(found.logp_N, found.purity_N), expected_N)
