import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.objective import gradient_weight, k3, loss_weights, needs_gradient, token_terms, weighted_loss
from trainers.recipe import Algorithm, Selection

DOUBLE = {"dtype": torch.float64}


def an_algorithm(**changes):
    return Algorithm(**({"name": "dapo", "clip_low": 0.2, "clip_high": 0.28, "loss_mean": "token"} | changes))


def some_log_probs(seed, size=40):
    generator = torch.Generator().manual_seed(seed)
    old_N = -3 * torch.rand(size, generator=generator, **DOUBLE)
    logp_N = (old_N + 0.5 * torch.randn(size, generator=generator, **DOUBLE)).requires_grad_()
    ref_N = old_N + 0.3 * torch.randn(size, generator=generator, **DOUBLE)
    advantage_N = torch.randint(-2, 3, (size,), generator=generator).double()
    return {"old_logp_N": old_N, "advantage_N": advantage_N, "ref_logp_N": ref_N}, logp_N


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 1.5, 3.0]), st.sampled_from([0.0, 0.04]))
def test_omega_is_what_autograd_says_of_the_objective(seed, dual_clip, kl_coef):
    algorithm = an_algorithm(dual_clip=dual_clip, kl_coef=kl_coef)
    inputs, logp_N = some_log_probs(seed)
    terms = token_terms(logp_N, algorithm=algorithm, **inputs)
    (-terms.surrogate_N - kl_coef * terms.kl_N).sum().backward()
    omega_N = gradient_weight(logp_N.detach(), algorithm=algorithm, **inputs)
    torch.testing.assert_close(omega_N, logp_N.grad, atol=1e-12, rtol=1e-12)
    without_kl_N = gradient_weight(logp_N.detach(), algorithm=an_algorithm(dual_clip=dual_clip), **inputs)
    blocked_N = terms.is_clipped_N
    assert torch.equal(without_kl_N[blocked_N], torch.zeros_like(without_kl_N[blocked_N]))


def test_omega_is_the_advantage_before_the_first_update():
    advantage_N = torch.tensor([1.5, -0.5, 0.0])
    logp_N = torch.tensor([-1.0, -2.0, -3.0])
    inputs = {"old_logp_N": logp_N, "advantage_N": advantage_N}
    assert torch.equal(gradient_weight(logp_N, ref_logp_N=None, algorithm=an_algorithm(), **inputs), advantage_N)
    omega_N = gradient_weight(logp_N, ref_logp_N=logp_N - 0.1, algorithm=an_algorithm(kl_coef=0.5), **inputs)
    expected_N = advantage_N + 0.5 * torch.exp(torch.tensor(-0.1)) - 0.5
    torch.testing.assert_close(omega_N, expected_N)


def test_the_surrogate_clips_as_the_papers_draw_it():
    ratio_N = torch.tensor([0.5, 0.9, 1.0, 1.2, 1.5, 4.0], **DOUBLE)
    inputs = {"old_logp_N": torch.zeros(6, **DOUBLE), "ref_logp_N": None}
    up = token_terms(ratio_N.log(), advantage_N=torch.ones(6, **DOUBLE), algorithm=an_algorithm(), **inputs)
    assert (-up.surrogate_N).tolist() == pytest.approx([0.5, 0.9, 1.0, 1.2, 1.28, 1.28])
    assert up.is_clipped_N.tolist() == [False, False, False, False, True, True]
    down = token_terms(
        ratio_N.log(), advantage_N=-torch.ones(6, **DOUBLE), algorithm=an_algorithm(dual_clip=3.0), **inputs
    )
    assert (-down.surrogate_N).tolist() == pytest.approx([-0.8, -0.9, -1.0, -1.2, -1.5, -3.0])
    assert down.is_clipped_N.tolist() == [True, False, False, False, False, True]
    assert down.kl_N is None


def test_k3_is_never_negative_and_exact_near_zero():
    logp_N, change_N = torch.full((4,), -2.0), torch.tensor([0.0, 1e-3, -2.0, 3.0])
    found_N = k3(logp_N, logp_N + change_N)
    exact_N = torch.exp(change_N.double()) - change_N.double() - 1
    torch.testing.assert_close(found_N.double(), exact_N, atol=2e-7, rtol=1e-4)
    assert float(found_N.min()) >= 0.0


MASKS = st.lists(st.lists(st.sampled_from(["kept", "left", "pad"]), min_size=4, max_size=4), min_size=1, max_size=5)


@settings(max_examples=120, deadline=None)
@given(
    MASKS,
    st.sampled_from(["token", "sequence"]),
    st.sampled_from(["selected", "all"]),
    st.sampled_from(["selected", "all"]),
)
def test_the_denominator_is_the_declared_one(cells, loss_mean, normaliser, kl_scope):
    kept = [[cell == "kept" for cell in row] for row in cells]
    valid = [[cell != "pad" for cell in row] for row in cells]
    found = loss_weights(
        selected_BT=torch.tensor(kept),
        response_BT=torch.tensor(valid),
        scope_B=torch.zeros(len(cells), dtype=torch.int64),
        algorithm=an_algorithm(loss_mean=loss_mean),
        selection=Selection(method="ets", ratio=0.5, normaliser=normaliser, kl_scope=kl_scope),
    )
    for weight_BT, mask in ((found.policy_BT, kept), (found.regulariser_BT, valid if kl_scope == "all" else kept)):
        counted = mask if normaliser == "selected" else valid
        for b, row in enumerate(mask):
            for t, inside in enumerate(row):
                divisor = sum(map(sum, counted)) if loss_mean == "token" else sum(counted[b]) * len(mask)
                assert float(weight_BT[b, t]) == pytest.approx(1 / divisor if inside else 0.0)


def test_micro_batch_denominators_average_the_losses_of_the_micro_batches():
    selected_BT = torch.tensor([[True, True, False], [False, False, True], [True, False, False]])
    found = loss_weights(
        selected_BT=selected_BT,
        response_BT=torch.ones(3, 3, dtype=torch.bool),
        scope_B=torch.tensor([7, 7, 2]),
        algorithm=an_algorithm(),
        selection=Selection(method="ets", ratio=0.5, scope="micro_batch", scope_sequences=2),
    )
    assert found.policy_BT.tolist() == [
        pytest.approx([2 / 9, 2 / 9, 0.0]),
        pytest.approx([0.0, 0.0, 2 / 9]),
        pytest.approx([1 / 3, 0.0, 0.0]),
    ]


def test_an_empty_selection_weighs_nothing():
    for loss_mean in ("token", "sequence"):
        found = loss_weights(
            selected_BT=torch.zeros(2, 3, dtype=torch.bool),
            response_BT=torch.ones(2, 3, dtype=torch.bool),
            scope_B=torch.zeros(2, dtype=torch.int64),
            algorithm=an_algorithm(loss_mean=loss_mean),
            selection=Selection(method="ets", ratio=0.5),
        )
        assert found.policy_BT.abs().sum() == 0.0


def test_the_loss_adds_up_its_terms_by_their_weights():
    algorithm = an_algorithm(kl_coef=0.1, entropy_coef=0.01)
    inputs, logp_N = some_log_probs(0, size=3)
    terms = token_terms(logp_N.detach(), algorithm=algorithm, **inputs)
    policy_N, regulariser_N = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.2, 0.3, 0.5])
    entropy_N = torch.tensor([1.0, 2.0, 3.0], **DOUBLE)
    found = weighted_loss(
        terms, policy_N=policy_N, regulariser_N=regulariser_N, entropy_N=entropy_N, algorithm=algorithm
    )
    expected = sum(
        float(policy_N[n] * terms.surrogate_N[n])
        + 0.1 * float(regulariser_N[n] * terms.kl_N[n])
        - 0.01 * float(regulariser_N[n] * entropy_N[n])
        for n in range(3)
    )
    assert float(found) == pytest.approx(expected)


def test_tokens_without_advantage_need_no_gradient_unless_they_are_regularised():
    selected_BT = torch.tensor([[True, False], [True, True]])
    weights = loss_weights(
        selected_BT=selected_BT,
        response_BT=torch.ones(2, 2, dtype=torch.bool),
        scope_B=torch.zeros(2, dtype=torch.int64),
        algorithm=an_algorithm(),
        selection=Selection(method="ets", ratio=0.5, kl_scope="all"),
    )
    advantage_B = torch.tensor([1.0, 0.0])
    assert needs_gradient(weights, advantage_B, an_algorithm()).tolist() == [[True, False], [False, False]]
    assert needs_gradient(weights, advantage_B, an_algorithm(kl_coef=0.1)).all()
