from math import exp, log

import pytest
import torch

from eval.errors import OrchError
from trainers.recipe import Algorithm
from trainers.rollout_correction import rollout_correction

ALGORITHM = {"name": "grpo", "clip_low": 0.2, "clip_high": 0.2, "loss_mean": "sequence"}
LENGTHS = (5, 1, 3, 0)
REJECTIONS = [
    f"{level}_{estimator}"
    for level in ("token", "seq_sum", "seq_mean", "seq_max")
    for estimator in ("k1", "k2", "k3")
    if (level, estimator) != ("seq_max", "k1")
]


def an_algorithm(**options):
    return Algorithm(**ALGORITHM, **options)


def two_policies(spread=0.8):
    generator = torch.Generator().manual_seed(0)
    mask_BT = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    old_BT = -3 * torch.rand(mask_BT.shape, generator=generator)
    return old_BT, old_BT + spread * torch.randn(mask_BT.shape, generator=generator), mask_BT


def rows(values_BT):
    return [values_BT[row, :length].tolist() for row, length in enumerate(LENGTHS)]


def test_where_sampler_and_trainer_agree_every_weight_is_one_and_nothing_is_rejected():
    old_BT, _, mask_BT = two_policies()
    found = rollout_correction(
        old_BT,
        old_BT,
        mask_BT,
        an_algorithm(rollout_is="token", rollout_is_threshold=2.0, rollout_rs="seq_max_k3", rollout_rs_threshold=1e-6),
    )
    assert torch.equal(found.weight_BT, mask_BT.float())
    assert torch.equal(found.accepted_BT, mask_BT)
    assert found.metrics == {
        "rollout/kl": 0.0,
        "rollout/max_log_ratio": 0.0,
        "rollout/weight_mean": 1.0,
        "rollout/truncated_share": 0.0,
        "rollout/effective_share": 1.0,
        "rollout/rejected_share": 0.0,
    }


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("lower", [None, 0.5])
@pytest.mark.parametrize("is_normalised", [None, True])
def test_weights_are_those_of_the_definition_term_by_term(level, lower, is_normalised):
    old_BT, rollout_BT, mask_BT = two_policies()
    algorithm = an_algorithm(
        rollout_is=level, rollout_is_threshold=1.5, rollout_is_lower=lower, rollout_is_batch_normalize=is_normalised
    )
    expected = []
    for old_T, rollout_T in zip(rows(old_BT), rows(rollout_BT), strict=True):
        ratios = [exp(old - rollout) for old, rollout in zip(old_T, rollout_T, strict=True)]
        if level == "sequence":
            ratios = [exp(sum(log(ratio) for ratio in ratios))] * len(ratios)
        kept = [min(r, 1.5) if lower is None else r * (lower <= r <= 1.5) for r in ratios]
        expected.append(kept)
    if is_normalised:
        counted = [w for row in expected for w in (row if level == "token" else row[:1])]
        mean = sum(counted) / len(counted)
        expected = [[w / mean for w in row] for row in expected]
    found = rollout_correction(old_BT, rollout_BT, mask_BT, algorithm)
    for found_T, expected_T in zip(rows(found.weight_BT), expected, strict=True):
        assert found_T == pytest.approx(expected_T, rel=1e-5)
    assert not found.weight_BT[~mask_BT].any()


@pytest.mark.parametrize("rejection", REJECTIONS)
def test_rejections_are_those_of_the_definition_term_by_term(rejection):
    old_BT, rollout_BT, mask_BT = two_policies()
    threshold = 1.4 if rejection.endswith("k1") else 0.3
    level, _, estimator = rejection.rpartition("_")
    found = rollout_correction(
        old_BT, rollout_BT, mask_BT, an_algorithm(rollout_rs=rejection, rollout_rs_threshold=threshold)
    )
    num_kept = 0
    for row, (old_T, rollout_T) in enumerate(zip(rows(old_BT), rows(rollout_BT), strict=True)):
        deltas = [old - rollout for old, rollout in zip(old_T, rollout_T, strict=True)]
        terms = {"k1": lambda d: -d, "k2": lambda d: d * d / 2, "k3": lambda d: exp(d) - 1 - d}
        values = [terms[estimator](delta) for delta in deltas]
        whole = {"seq_sum": sum, "seq_mean": lambda v: sum(v) / len(v), "seq_max": max}
        if level != "token" and values:
            values = [whole[level](values)] * len(values)
        low, high = (-log(threshold), log(threshold)) if estimator == "k1" else (float("-inf"), threshold)
        expected = [low <= value <= high for value in values]
        assert found.accepted_BT[row, : len(values)].tolist() == expected
        num_kept += sum(expected)
    assert not found.accepted_BT[~mask_BT].any()
    assert 0 < num_kept < sum(LENGTHS)
    assert found.metrics["rollout/rejected_share"] == pytest.approx(1 - num_kept / sum(LENGTHS))
    assert torch.equal(found.weight_BT, mask_BT.float())


def test_k1_has_a_lower_bound_of_its_own():
    delta = torch.tensor([[-0.5, 0.1, 0.5]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    algorithm = an_algorithm(rollout_rs="token_k1", rollout_rs_threshold=2.0, rollout_rs_lower=0.95)
    assert rollout_correction(delta, torch.zeros(1, 3), mask, algorithm).accepted_BT.tolist() == [[True, False, False]]


def test_a_token_that_its_sampler_could_not_have_drawn_gives_no_infinite_weight():
    mask = torch.ones(1, 1, dtype=torch.bool)
    found = rollout_correction(
        torch.zeros(1, 1), torch.full((1, 1), -300.0), mask, an_algorithm(rollout_is="token", rollout_is_threshold=1e12)
    )
    assert found.weight_BT.tolist() == [[pytest.approx(exp(20))]]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"rollout_is": "token"}, "rollout_is_threshold"),
        ({"rollout_is": "token", "rollout_is_threshold": 0.0}, "rollout_is_threshold"),
        ({"rollout_is_threshold": 2.0}, "rollout_is_threshold"),
        ({"rollout_is": "token", "rollout_is_threshold": 2.0, "rollout_is_lower": 3.0}, "rollout_is_lower"),
        ({"rollout_is_batch_normalize": True}, "rollout_is_batch_normalize"),
        ({"rollout_rs": "token_k1"}, "rollout_rs_threshold"),
        ({"rollout_rs": "token_k3", "rollout_rs_threshold": 0.1, "rollout_rs_lower": 0.05}, "rollout_rs_lower"),
        ({"rollout_rs_lower": 0.5}, "rollout_rs_lower"),
    ],
)
def test_bounds_without_what_they_bound_are_refused_by_name(options, where):
    with pytest.raises(OrchError) as refusal:
        an_algorithm(**options)
    assert refusal.value.where == f"algorithm.{where}"
