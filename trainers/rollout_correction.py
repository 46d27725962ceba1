"""The gap between the policy that sampled and the one that is trained: importance weights, and what is rejected.

A fast sampler (vLLM, bfloat16, other kernels) draws from a policy π_rollout that is not quite the trainer's π_old.
log(π_old/π_rollout) of each sampled token, δ, says how far they are apart. Source: verl 0.9.1's
decoupled rollout correction, with its names and bounds (docs/methods.md#rollout-correction).

Shapes: B responses, T response tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from trainers.recipe import Algorithm

_BOUND = 20.0
"""|δ| at most, before it is exponentiated: verl's safety bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What the policy loss of each token is multiplied by, and which tokens are learned from at all."""

    weight_BT: Tensor
    """float32: truncated π_old/π_rollout; 1 without `rollout_is`; 0 outside the responses."""
    accepted_BT: Tensor
    """bool: response tokens that `rollout_rs` leaves."""
    metrics: dict[str, float]


def rollout_correction(
    old_logp_BT: Tensor, rollout_logp_BT: Tensor, mask_BT: Tensor, algorithm: Algorithm
) -> Correction:
    """Return the correction of a whole training batch.

    Args:
        old_logp_BT: nats, log-probs under the policy that is trained, before its first update.
        rollout_logp_BT: nats, under the policy that sampled, at the same temperature.
        mask_BT: bool, every response token.
        algorithm: its fields `rollout_*`.
    """
    delta_BT = ((old_logp_BT - rollout_logp_BT) * mask_BT).float()
    raw_BT = importance_weights(delta_BT, mask_BT, algorithm)
    weight_BT = _truncated(raw_BT, mask_BT, algorithm)
    accepted_BT = mask_BT & _accepted(delta_BT, mask_BT, algorithm)
    return Correction(
        weight_BT=weight_BT,
        accepted_BT=accepted_BT,
        metrics=_metrics(delta_BT, raw_BT, weight_BT, accepted_BT, mask_BT),
    )


def importance_weights(delta_BT: Tensor, mask_BT: Tensor, algorithm: Algorithm) -> Tensor:
    """Return π_old/π_rollout of each token, or of its whole response under `rollout_is: sequence`."""
    if algorithm.rollout_is is None:
        return mask_BT.float()
    if algorithm.rollout_is == "sequence":
        delta_BT = delta_BT.sum(1, keepdim=True).expand_as(delta_BT)
    return delta_BT.clamp(-_BOUND, _BOUND).exp() * mask_BT


def _truncated(raw_BT: Tensor, mask_BT: Tensor, algorithm: Algorithm) -> Tensor:
    """Cut at the threshold (TIS), or drop what lies outside of both bounds (IcePop); then to a mean of 1 if asked."""
    if algorithm.rollout_is is None:
        return raw_BT
    assert algorithm.rollout_is_threshold is not None
    threshold, lower = algorithm.rollout_is_threshold, algorithm.rollout_is_lower
    if lower is None:
        weight_BT = raw_BT.clamp(max=threshold)
    else:
        weight_BT = torch.where((raw_BT >= lower) & (raw_BT <= threshold), raw_BT, 0.0)
    if not algorithm.rollout_is_batch_normalize:
        return weight_BT
    if algorithm.rollout_is == "sequence":  # a response counts once, however long it is
        is_some_B = mask_BT.any(1)
        mean = weight_BT.max(1).values[is_some_B].mean() if is_some_B.any() else weight_BT.sum()
    else:
        mean = weight_BT.sum() / mask_BT.sum().clamp(min=1)
    return weight_BT / mean if mean > 0 else weight_BT


def _accepted(delta_BT: Tensor, mask_BT: Tensor, algorithm: Algorithm) -> Tensor:
    """bool: where the divergence, of the token or of its response, lies within the threshold."""
    if algorithm.rollout_rs is None:
        return torch.ones_like(mask_BT)
    assert algorithm.rollout_rs_threshold is not None
    level, _, estimator = algorithm.rollout_rs.rpartition("_")
    delta_BT = delta_BT.clamp(-_BOUND, _BOUND)
    divergence_BT = {"k1": -delta_BT, "k2": delta_BT**2 / 2, "k3": torch.expm1(delta_BT) - delta_BT}[estimator]
    divergence_BT = _at_level(divergence_BT, mask_BT, level)
    if estimator != "k1":
        return divergence_BT <= algorithm.rollout_rs_threshold
    lower = algorithm.rollout_rs_lower or 1 / algorithm.rollout_rs_threshold
    return (divergence_BT >= log(lower)) & (divergence_BT <= log(algorithm.rollout_rs_threshold))


def _at_level(divergence_BT: Tensor, mask_BT: Tensor, level: str) -> Tensor:
    """A token's own value, or its response's sum, mean or maximum, at every token."""
    if level == "token":
        return divergence_BT
    masked_BT = divergence_BT * mask_BT
    value_B = {
        "seq_sum": masked_BT.sum(1),
        "seq_mean": masked_BT.sum(1) / mask_BT.sum(1).clamp(min=1),
        "seq_max": masked_BT.amax(1),  # k2 and k3 are never negative, so that padding's 0 is no maximum
    }[level]
    return value_B[:, None].expand_as(divergence_BT)


def _metrics(
    delta_BT: Tensor, raw_BT: Tensor, weight_BT: Tensor, accepted_BT: Tensor, mask_BT: Tensor
) -> dict[str, float]:
    count = mask_BT.sum().clamp(min=1)
    delta_N, raw_N, weight_N = delta_BT[mask_BT].clamp(-_BOUND, _BOUND), raw_BT[mask_BT], weight_BT[mask_BT]
    return {
        "rollout/kl": float((torch.expm1(delta_N) - delta_N).sum() / count),
        "rollout/max_log_ratio": float(delta_N.abs().max()) if len(delta_N) else 0.0,
        "rollout/weight_mean": float(weight_N.sum() / count),
        "rollout/truncated_share": float((weight_N != raw_N).sum() / count),
        "rollout/effective_share": float(weight_N.sum() ** 2 / (weight_N**2).sum().clamp(min=1e-12) / count),
        "rollout/rejected_share": float(1 - accepted_BT.sum() / count),
    }
