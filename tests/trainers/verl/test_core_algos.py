"""The dense objective beside verl's own: needs verl, so `.venv-verl/bin/python -m pytest -m slow` of this file."""

import pytest
import torch

from trainers.advantages import group_advantages
from trainers.objective import loss_weights
from trainers.recipe import Algorithm, Selection
from trainers.rollout_correction import rollout_correction
from trainers.verl.inside.loss import ADVANTAGE, POLICY_WEIGHT, REGULARISER_WEIGHT, micro_batch_loss

pytestmark = pytest.mark.slow
core_algos = pytest.importorskip("verl.trainer.ppo.core_algos", reason="make verl builds .venv-verl, which has it")

NUM_PROMPTS, GROUP_SIZE, LONGEST = 4, 3, 9
OBJECTIVES = {
    "grpo": (
        {"name": "grpo", "clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.04, "loss_mean": "sequence"},
        "seq-mean-token-mean",
    ),
    "dapo": ({"name": "dapo", "clip_low": 0.2, "clip_high": 0.28, "loss_mean": "token"}, "token-mean"),
    "grpo_ict": (
        {
            "name": "grpo",
            "clip_low": 0.2,
            "clip_high": 0.2,
            "kl_coef": 0.001,
            "entropy_coef": 0.001,
            "loss_mean": "sequence",
        },
        "seq-mean-token-mean",
    ),
    "dual_clip": (
        {"name": "dapo", "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 1.5, "kl_coef": 0.1, "loss_mean": "token"},
        "token-mean",
    ),
}


def a_batch():
    generator = torch.Generator().manual_seed(0)
    rows = NUM_PROMPTS * GROUP_SIZE
    length_B = torch.randint(1, LONGEST + 1, (rows,), generator=generator)
    mask_BT = torch.arange(LONGEST) < length_B[:, None]
    old_BT = -torch.rand(rows, LONGEST, generator=generator, dtype=torch.float64) * 3
    drift_BT = torch.randn(rows, LONGEST, generator=generator, dtype=torch.float64) * 0.4
    ref_BT = old_BT + torch.randn(rows, LONGEST, generator=generator, dtype=torch.float64) * 0.2
    entropy_BT = torch.rand(rows, LONGEST, generator=generator, dtype=torch.float64)
    reward_B = torch.randint(0, 2, (rows,), generator=generator).float()
    return mask_BT, old_BT, old_BT + drift_BT, ref_BT, entropy_BT, reward_B


def verls_loss(logp_BT, old_BT, ref_BT, entropy_BT, advantage_BT, mask_BT, algorithm, loss_agg_mode):
    """`ppo_loss` of verl 0.9.1, whose terms are those of its core_algos, on padded rows."""
    from omegaconf import OmegaConf

    config = OmegaConf.create(
        {
            "clip_ratio": algorithm.clip_low,
            "clip_ratio_low": algorithm.clip_low,
            "clip_ratio_high": algorithm.clip_high,
            "clip_ratio_c": algorithm.dual_clip or 1e9,
            "global_batch_info": {},
        }
    )
    mask_BT = mask_BT.double()
    loss, metrics = core_algos.compute_policy_loss_vanilla(
        old_BT, logp_BT, advantage_BT, mask_BT, loss_agg_mode=loss_agg_mode, config=config
    )
    kl_BT = core_algos.kl_penalty(logp_BT, ref_BT, "low_var_kl")
    loss = loss + algorithm.kl_coef * core_algos.agg_loss(kl_BT, mask_BT, loss_agg_mode)
    return loss - algorithm.entropy_coef * core_algos.agg_loss(entropy_BT, mask_BT, loss_agg_mode), metrics


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_dense_loss_and_its_gradient_are_those_of_verl(name):
    options, loss_agg_mode = OBJECTIVES[name]
    algorithm, selection = Algorithm(**options), Selection(method="full")
    mask_BT, old_BT, logp_BT, ref_BT, entropy_BT, reward_B = a_batch()
    group_B = torch.arange(NUM_PROMPTS).repeat_interleave(GROUP_SIZE)
    advantage_BT = group_advantages(reward_B, group_B)[:, None].double().expand_as(mask_BT) * mask_BT
    theirs, ours = logp_BT.clone().requires_grad_(), logp_BT.clone().requires_grad_()

    expected, metrics = verls_loss(theirs, old_BT, ref_BT, entropy_BT, advantage_BT, mask_BT, algorithm, loss_agg_mode)
    expected.backward()

    weights = loss_weights(
        selected_BT=mask_BT,
        response_BT=mask_BT,
        scope_B=torch.zeros(len(mask_BT), dtype=torch.int64),
        algorithm=algorithm,
        selection=selection,
    )
    fields = {
        "old_log_probs": old_BT,
        "response_mask": mask_BT,
        ADVANTAGE: advantage_BT,
        POLICY_WEIGHT: weights.policy_BT.double(),
        REGULARISER_WEIGHT: weights.regulariser_BT.double(),
        **({"ref_log_prob": ref_BT} if algorithm.kl_coef else {}),
    }
    found, sums = micro_batch_loss(
        ours[mask_BT], entropy_BT[mask_BT], {name: value[mask_BT] for name, value in fields.items()}, algorithm
    )
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=0)
    assert float(theirs.grad[~mask_BT].abs().sum()) == 0
    if algorithm.dual_clip is None:
        assert sums["clipped"] / sums["count"] == pytest.approx(metrics["actor/pg_clipfrac"], abs=1e-6)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("bounds", ["1.5", "0.6_1.5"])
@pytest.mark.parametrize("is_normalised", [False, True])
@pytest.mark.parametrize(
    "rejection", ["token_k1", "token_k3", "seq_sum_k2", "seq_mean_k1", "seq_mean_k3", "seq_max_k3"]
)
def test_the_rollout_correction_is_that_of_verl(level, bounds, is_normalised, rejection):
    helper = pytest.importorskip("verl.trainer.ppo.rollout_corr_helper")
    mask_BT, old_BT, rollout_BT, *_ = a_batch()
    delta_BT = (old_BT - rollout_BT).float()
    weight_BT, _ = helper.compute_rollout_correction_weights(delta_BT, mask_BT.float(), level, bounds, is_normalised)
    threshold = 1.1 if rejection.endswith("k1") else 0.1
    accepted_BT, _ = helper.compute_rollout_rejection_mask(delta_BT, mask_BT.float(), rejection, str(threshold))
    lower, _, upper = bounds.rpartition("_")
    found = rollout_correction(
        old_BT,
        rollout_BT,
        mask_BT,
        Algorithm(
            **OBJECTIVES["dapo"][0],
            rollout_is=level,
            rollout_is_threshold=float(upper),
            rollout_is_lower=float(lower) if lower else None,
            rollout_is_batch_normalize=is_normalised,
            rollout_rs=rejection,
            rollout_rs_threshold=threshold,
        ),
    )
    torch.testing.assert_close(found.weight_BT, weight_BT)
    assert torch.equal(found.accepted_BT, accepted_BT.bool())
    assert 0 < int(found.accepted_BT.sum()) < int(mask_BT.sum())


def test_group_advantages_are_those_of_verl():
    mask_BT, *_, reward_B = a_batch()
    group_B = torch.arange(NUM_PROMPTS).repeat_interleave(GROUP_SIZE)
    scores_BT = torch.zeros(mask_BT.shape)
    scores_BT[:, 0] = reward_B
    expected_BT, _ = core_algos.compute_grpo_outcome_advantage(scores_BT, mask_BT.float(), group_B.numpy())
    torch.testing.assert_close(group_advantages(reward_B, group_B)[:, None] * mask_BT, expected_BT, atol=1e-5, rtol=0)
