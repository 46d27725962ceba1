import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.head.distribution import hidden_statistics
from trainers.head.log_probs import hidden_log_probs
from trainers.head.operators import Head

INF = float("inf")


def a_case(seed, *, num_tokens, has_bias, softcap, temperature, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    hidden_ND = torch.randn(num_tokens, 5, generator=generator, dtype=dtype).requires_grad_()
    weight_VD = torch.randn(31, 5, generator=generator, dtype=dtype).requires_grad_()
    bias_V = torch.randn(31, generator=generator, dtype=dtype) if has_bias else None
    if bias_V is not None:
        bias_V[1::4] = -INF if softcap is None else 0.5
        bias_V.requires_grad_()
    token_N = torch.randint(8, (num_tokens,), generator=generator) * 4
    return hidden_ND, Head(weight_VD=weight_VD, bias_V=bias_V, softcap=softcap, temperature=temperature), token_N


def densely(hidden_ND, head, token_N):
    """Log-probs and entropies from logits that autograd keeps."""
    z_NV = hidden_ND @ head.weight_VD.T + (0 if head.bias_V is None else head.bias_V)
    if head.softcap is not None:
        z_NV = head.softcap * torch.tanh(z_NV / head.softcap)
    logp_NV = torch.log_softmax(z_NV / head.temperature, -1)
    entropy_N = -(logp_NV.exp() * logp_NV.clamp(min=-1e4)).sum(-1)
    return logp_NV.gather(1, token_N[:, None])[:, 0], entropy_N


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from([None, 3.0]),
    st.sampled_from([1.0, 0.6]),
    st.booleans(),
    st.sampled_from([62, 200, 10**6]),
)
def test_values_and_gradients_are_those_of_kept_logits(
    seed, num_tokens, has_bias, softcap, temperature, with_entropy, max_logits
):
    hidden_ND, head, token_N = a_case(
        seed, num_tokens=num_tokens, has_bias=has_bias, softcap=softcap, temperature=temperature
    )
    weight_2N = torch.randn(2, num_tokens, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    inputs = [hidden_ND, head.weight_VD, *([] if head.bias_V is None else [head.bias_V])]
    logp_N, entropy_N = hidden_log_probs(hidden_ND, head, token_N, with_entropy=with_entropy, max_logits=max_logits)
    assert (entropy_N is not None) == with_entropy
    exact_logp_N, exact_entropy_N = densely(hidden_ND, head, token_N)
    torch.testing.assert_close(logp_N, exact_logp_N, atol=1e-12, rtol=0)
    loss, exact_loss = (weight_2N[0] * logp_N).sum(), (weight_2N[0] * exact_logp_N).sum()
    if entropy_N is not None:
        torch.testing.assert_close(entropy_N, exact_entropy_N, atol=1e-12, rtol=0)
        loss, exact_loss = loss + (weight_2N[1] * entropy_N).sum(), exact_loss + (weight_2N[1] * exact_entropy_N).sum()
    found, exact = torch.autograd.grad(loss, inputs), torch.autograd.grad(exact_loss, inputs)
    for ours, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(ours, expected.nan_to_num(0.0), atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_comes_out_is_float32_and_gradients_have_the_models_type(dtype):
    hidden_ND, head, token_N = a_case(0, num_tokens=4, has_bias=False, softcap=None, temperature=0.3, dtype=dtype)
    logp_N, entropy_N = hidden_log_probs(hidden_ND, head, token_N, with_entropy=True)
    assert logp_N.dtype == entropy_N.dtype == torch.float32
    torch.testing.assert_close(logp_N, hidden_statistics(hidden_ND, head, token_N).logp_N)
    gradients = torch.autograd.grad(logp_N.sum(), (hidden_ND, head.weight_VD))
    assert [gradient.dtype for gradient in gradients] == [dtype, dtype]


def test_logits_that_were_turned_into_their_gradient_are_not_read_again():
    hidden_ND, head, token_N = a_case(0, num_tokens=3, has_bias=False, softcap=None, temperature=1.0)
    logp_N, _ = hidden_log_probs(hidden_ND, head, token_N)
    logp_N.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logp_N.sum().backward()


def test_no_tokens_have_no_log_probs():
    hidden_ND, head, _ = a_case(0, num_tokens=1, has_bias=True, softcap=None, temperature=1.0)
    none_N = torch.zeros(0, dtype=torch.int64)
    logp_N, _ = hidden_log_probs(hidden_ND[:0], head, none_N)
    logp_N.sum().backward()
    assert logp_N.shape == (0,)
    assert float(hidden_ND.grad.abs().sum()) == 0.0
