"""The objective of every backend: clipped surrogate, KL penalty and entropy bonus, and what each token weighs in them.

The loss of one optimizer step is Σ policy·surrogate + Σ regulariser·(β·KL − c·H) over its tokens. The two weights
hold mask, normaliser, KL scope and mean, and are computed once for the whole mini-batch; a micro-batch only adds up
its own tokens. How a mini-batch is cut therefore cannot change the loss.

Shapes: B sequences of the mini-batch, T response tokens, N tokens in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.recipe import Algorithm, Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTerms:
    """The parts of each token's loss, differentiable with respect to the log-probs they came from."""

    surrogate_N: Tensor
    """What is minimised: −min(rA, clip(r)A), bounded below A < 0 by the dual clip."""
    kl_N: Tensor | None
    """k3 estimate of KL(π_θ ‖ π_ref); None without a reference."""
    ratio_N: Tensor
    """r = π_θ/π_old."""
    is_clipped_N: Tensor
    """bool: the surrogate has no gradient here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """What each token's terms are multiplied by before they are summed over the mini-batch; 0 outside their mask."""

    policy_BT: Tensor
    regulariser_BT: Tensor


def token_terms(
    logp_N: Tensor, *, old_logp_N: Tensor, advantage_N: Tensor, ref_logp_N: Tensor | None, algorithm: Algorithm
) -> TokenTerms:
    """Return the terms of tokens from log-probs in nats and their responses' advantages.

    Source: GMTS eq. (1); clip-higher: DAPO eq. 10; dual clip: arXiv 1912.09729 eq. 5; k3: GRPO arXiv 2402.03300 eq. 4.
    """
    ratio_N = (logp_N - old_logp_N).exp()
    clipped_N = ratio_N.clamp(1 - algorithm.clip_low, 1 + algorithm.clip_high)
    # The minimum of the objective is the pessimistic one: it clips a gain (A > 0, r high; A < 0, r low), never a loss.
    surrogate_N = -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
    if algorithm.dual_clip is not None:
        # At A < 0 the loss −rA grows without bound in r: a token that became much likelier would decide the step.
        bound_N = -algorithm.dual_clip * advantage_N
        surrogate_N = torch.where(advantage_N < 0, torch.minimum(surrogate_N, bound_N), surrogate_N)
    return TokenTerms(
        surrogate_N=surrogate_N,
        kl_N=None if ref_logp_N is None else k3(logp_N, ref_logp_N),
        ratio_N=ratio_N,
        is_clipped_N=~_has_gradient(ratio_N, advantage_N, algorithm),
    )


def k3(logp_N: Tensor, ref_logp_N: Tensor) -> Tensor:
    """Return π_ref/π_θ − ln(π_ref/π_θ) − 1, the non-negative KL estimate; exact near 0 through expm1."""
    log_ratio_N = ref_logp_N - logp_N
    return torch.expm1(log_ratio_N) - log_ratio_N


def gradient_weight(
    logp_N: Tensor, *, old_logp_N: Tensor, advantage_N: Tensor, ref_logp_N: Tensor | None, algorithm: Algorithm
) -> Tensor:
    """Return ω = r·A·I_clip + β·π_ref/π_θ − β: ∂(surrogate objective − β·KL)/∂ log π_θ of each token.

    I_clip is 0 where A > 0 and r > 1 + ε₂, where A < 0 and r < 1 − ε₁, and with a dual clip c where A < 0 and r > c.

    Source: GMTS, section 3, "Gradient of each token".
    """
    ratio_N = (logp_N - old_logp_N).exp()
    omega_N = torch.where(_has_gradient(ratio_N, advantage_N, algorithm), ratio_N * advantage_N, 0.0)
    if ref_logp_N is not None and algorithm.kl_coef > 0:
        omega_N = omega_N + algorithm.kl_coef * torch.expm1(ref_logp_N - logp_N)
    return omega_N


def loss_weights(
    *, selected_BT: Tensor, response_BT: Tensor, scope_B: Tensor, algorithm: Algorithm, selection: Selection
) -> LossWeights:
    """Return the weights of one mini-batch's tokens.

    Args:
        selected_BT: bool, the selection.
        response_BT: bool, every response token.
        scope_B: int64, which sequences competed with each other; see `_token_weights`.
        algorithm: gives the mean: over tokens, or over sequences of their token means.
        selection: gives the normaliser (the selected tokens or all of them) and the scope of the regularisers.

    An empty selection weighs nothing: it contributes 0, never NaN.
    """
    is_micro = selection.scope == "micro_batch"

    def weigh(mask_BT: Tensor) -> Tensor:
        counted_BT = mask_BT if selection.normaliser == "selected" else response_BT
        if algorithm.loss_mean == "sequence":
            # GRPO: (1/B) Σ_b (1/|M_b|) Σ_t. A response without a selected token still counts in B: it adds 0.
            return mask_BT / counted_BT.sum(1, keepdim=True).clamp(min=1) / len(mask_BT)
        if is_micro and selection.normaliser == "selected":
            return _token_weights(mask_BT, scope_B)
        return mask_BT / counted_BT.sum().clamp(min=1)

    regularised_BT = response_BT if selection.kl_scope == "all" else selected_BT
    return LossWeights(policy_BT=weigh(selected_BT), regulariser_BT=weigh(regularised_BT))


def weighted_loss(
    terms: TokenTerms,
    *,
    policy_N: Tensor,
    regulariser_N: Tensor,
    entropy_N: Tensor | None,
    algorithm: Algorithm,
) -> Tensor:
    """Return the tokens' share of the mini-batch's loss, a scalar; `entropy_N` only where there is a bonus."""
    loss = (policy_N * terms.surrogate_N).sum()
    if terms.kl_N is not None and algorithm.kl_coef > 0:
        loss = loss + algorithm.kl_coef * (regulariser_N * terms.kl_N).sum()
    if entropy_N is not None and algorithm.entropy_coef > 0:
        loss = loss - algorithm.entropy_coef * (regulariser_N * entropy_N).sum()
    return loss


def needs_gradient(weights: LossWeights, advantage_B: Tensor, algorithm: Algorithm) -> Tensor:
    """Return, bool (B, T), the tokens whose gradient is not 0 by their weight or their advantage alone.

    Everywhere else the sparse update runs nothing, and the gradient is the same.
    """
    needed_BT = (weights.policy_BT != 0) & (advantage_B != 0)[:, None]
    if algorithm.kl_coef > 0 or algorithm.entropy_coef > 0:
        needed_BT = needed_BT | (weights.regulariser_BT != 0)
    return needed_BT


def _has_gradient(ratio_N: Tensor, advantage_N: Tensor, algorithm: Algorithm) -> Tensor:
    """Return I_clip, bool (N,): whether the minimum, and the dual clip, leave the term that depends on r."""
    above_N = (advantage_N > 0) & (ratio_N > 1 + algorithm.clip_high)
    below_N = (advantage_N < 0) & (ratio_N < 1 - algorithm.clip_low)
    blocked_N = above_N | below_N
    if algorithm.dual_clip is not None:
        blocked_N = blocked_N | ((advantage_N < 0) & (ratio_N > algorithm.dual_clip))
    return ~blocked_N


def _token_weights(mask_BT: Tensor, scope_B: Tensor) -> Tensor:
    """Mean over the mask inside each scope, scopes weighted by their sequences: what averaging micro-batch losses does.

    Source: docs/methods.md#presets, column `ets_code`, whose denominator is the selected tokens of each micro-batch.
    """
    _, inverse_B, size_M = torch.unique(scope_B, return_inverse=True, return_counts=True)
    counted_M = torch.zeros_like(size_M).index_add_(0, inverse_B, mask_BT.sum(1))
    # Each micro-batch's mean, Σ/counted, has the weight size/B that its sequences have in the mini-batch.
    scale_M = size_M / counted_M.clamp(min=1) / len(mask_BT)
    weight_BT: Tensor = mask_BT * scale_M[inverse_B][:, None]
    return weight_BT
