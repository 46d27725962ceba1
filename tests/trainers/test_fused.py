"""The Triton kernels against float64: in Triton's interpreter where there is no GPU, on the GPU where there is one.

`benchmarks/bench_selection.py --device cuda` checks more shapes there and prints the errors.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.head.deviation import group_deviation
from trainers.head.distribution import hidden_logp, hidden_statistics
from trainers.head.log_probs import hidden_log_probs
from trainers.head.operators import Head
from trainers.methods import METHODS

pytest.importorskip("triton", reason="the extra dev brings Triton on Linux")
pytestmark = pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning",  # numpy, of −inf in branches that are not taken
    "ignore:divide by zero:RuntimeWarning",
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OUTPUTS = ("logp_N", "entropy_N", "purity_N", "lse_N")

CASE = {
    "seed": st.integers(0, 10**6),
    "num_tokens": st.integers(1, 9),
    "vocabulary": st.sampled_from([1, 37, 64, 301]),
    "dtype": st.sampled_from(DTYPES),
    "has_bias": st.booleans(),
    "softcap": st.sampled_from([None, 6.0]),
    "temperature": st.sampled_from([1.0, 0.6]),
}


def a_case(seed, num_tokens, vocabulary, dtype, has_bias, softcap, temperature, width=8):
    generator = torch.Generator().manual_seed(seed)
    hidden_ND = torch.randn(num_tokens, width, generator=generator).to(DEVICE, dtype)
    weight_VD = torch.randn(vocabulary, width, generator=generator).to(DEVICE, dtype)
    token_N = torch.randint(vocabulary, (num_tokens,), generator=generator).to(DEVICE)
    bias_V = None
    if has_bias:
        bias_V = torch.randn(vocabulary, generator=generator).to(DEVICE, dtype)
        bias_V[::3] = -torch.inf
        bias_V[token_N] = 0.5
    return hidden_ND, Head(weight_VD=weight_VD, bias_V=bias_V, softcap=softcap, temperature=temperature), token_N


def in_float64(hidden_ND, head):
    bias_V = None if head.bias_V is None else head.bias_V.double()
    return hidden_ND.double(), replace(head, weight_VD=head.weight_VD.double(), bias_V=bias_V)


def assert_statistics(found, exact, atol):
    for name in OUTPUTS:
        value_N = getattr(found, name)
        assert value_N.dtype == torch.float32
        torch.testing.assert_close(value_N.double(), getattr(exact, name), atol=atol, rtol=2e-6, msg=name)


@settings(max_examples=15, deadline=None)
@given(**CASE)
def test_statistics_are_those_of_float64(**case):
    hidden_ND, head, token_N = a_case(**case)
    found = hidden_statistics(hidden_ND, head, token_N, implementation="triton")
    exact = hidden_statistics(*in_float64(hidden_ND, head), token_N, implementation="torch")
    assert_statistics(found, exact, 2e-5)
    logp_N = hidden_logp(hidden_ND, head, token_N, implementation="triton")
    torch.testing.assert_close(logp_N, found.logp_N)


@settings(max_examples=15, deadline=None)
@given(
    **CASE,
    num_cells=st.integers(1, 4),
    distance=st.sampled_from(["js", "kl", "wasserstein"]),
    leave_one_out=st.booleans(),
    max_logits=st.sampled_from([1, 900, 10**6]),
)
def test_distances_in_ragged_cells_are_those_of_float64(num_cells, distance, leave_one_out, max_logits, **case):
    if leave_one_out and distance == "kl":
        case["has_bias"], case["temperature"] = False, 1.0  # KL to a mean that vanishes is as large as rounding says
        case["softcap"] = 1.0
    hidden_ND, head, token_N = a_case(**case)
    generator = torch.Generator().manual_seed(case["seed"])
    cell_N = torch.randint(num_cells, (len(token_N),), generator=generator).to(DEVICE)
    options = {"distance": distance, "leave_one_out": leave_one_out}
    found_N, statistics = group_deviation(
        hidden_ND, head, token_N, cell_N, max_logits=max_logits, implementation="triton", **options
    )
    exact_N, exact = group_deviation(*in_float64(hidden_ND, head), token_N, cell_N, implementation="torch", **options)
    torch.testing.assert_close(found_N.double(), exact_N, atol=5e-6, rtol=2e-5)
    assert_statistics(statistics, exact, 2e-5)


@settings(max_examples=15, deadline=None)
@given(**CASE, with_entropy=st.booleans(), max_logits=st.sampled_from([1, 900, 10**6]))
def test_gradients_are_those_of_float64(with_entropy, max_logits, **case):
    hidden_ND, head, token_N = a_case(**case)
    weight_2N = torch.randn(2, len(token_N), generator=torch.Generator().manual_seed(case["seed"])).to(DEVICE)

    def gradients(hidden_ND, head, implementation):
        inputs = [hidden_ND, head.weight_VD] + ([] if head.bias_V is None else [head.bias_V])
        inputs = [value.detach().requires_grad_() for value in inputs]
        head = replace(head, weight_VD=inputs[1], bias_V=inputs[2] if len(inputs) == 3 else None)
        logp_N, entropy_N = hidden_log_probs(
            inputs[0], head, token_N,
            with_entropy=with_entropy, max_logits=max_logits, implementation=implementation,
        )  # fmt: skip
        loss = (weight_2N[0].to(logp_N.dtype) * logp_N).sum()
        if entropy_N is not None:
            loss = loss + (weight_2N[1].to(logp_N.dtype) * entropy_N).sum()
        return torch.autograd.grad(loss, inputs)

    found = gradients(hidden_ND, head, "triton")
    exact = gradients(*in_float64(hidden_ND, head), "torch")
    # A product's gradient is rounded to the model's type, as everywhere in that model.
    relative = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[case["dtype"]]
    for ours, expected in zip(found, exact, strict=True):
        assert ours.dtype == case["dtype"]
        scale = float(expected.norm()) + 1e-3
        assert float((ours.double() - expected).norm()) <= relative * scale


def test_a_group_of_equal_members_deviates_by_nothing():
    hidden_ND, head, token_N = a_case(0, 6, 301, torch.float32, has_bias=True, softcap=None, temperature=1.0)
    cell_N = torch.tensor([0, 0, 0, 1, 1, 2], device=DEVICE)
    same_ND = hidden_ND[:1].expand(6, -1).contiguous()
    for distance in ("js", "kl", "wasserstein"):
        found_N, _ = group_deviation(same_ND, head, token_N, cell_N, distance=distance, implementation="triton")
        assert float(found_N.abs().max()) <= (1e-4 if distance == "wasserstein" else 1e-7)


def test_a_distance_that_the_kernel_has_no_case_for_is_measured_in_torch(newcomer):
    """Not taken for the kernel's last case: a new method would rank by another distance on a GPU than on a CPU."""
    hidden_ND, head, token_N = a_case(3, 9, 64, torch.float32, False, None, 1.0)
    cell_N = (torch.arange(9) // 3).to(DEVICE)
    distance = METHODS[newcomer].distance
    found_N, _ = group_deviation(hidden_ND, head, token_N, cell_N, distance=distance, implementation="triton")
    p_NV = torch.softmax(hidden_ND @ head.weight_VD.T, -1).view(3, 3, 64)
    expected_N = (p_NV - p_NV.mean(1, keepdim=True)).abs().sum(-1).flatten() / 2
    torch.testing.assert_close(found_N, expected_N, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_full_vocabulary_keeps_the_stated_bounds(dtype):
    """docs/performance.md: H and C to 5e-6, JS to 1e-6, at V = 151,936."""
    hidden_ND, head, token_N = a_case(0, 12, 151_936, dtype, has_bias=True, softcap=None, temperature=1.0, width=16)
    cell_N = torch.tensor([0] * 5 + [1] * 4 + [2] * 2 + [3], device=DEVICE)
    found_N, statistics = group_deviation(hidden_ND, head, token_N, cell_N, implementation="triton")
    exact_N, exact = group_deviation(*in_float64(hidden_ND, head), token_N, cell_N, implementation="torch")
    assert float((statistics.entropy_N.double() - exact.entropy_N).abs().max()) <= 5e-6
    assert float((statistics.purity_N.double() - exact.purity_N).abs().max()) <= 5e-6
    assert float((statistics.logp_N.double() - exact.logp_N).abs().max()) <= 1e-5
    assert float((found_N.double() - exact_N).abs().max()) <= 1e-6
