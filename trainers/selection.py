"""Which tokens are trained on: score → select → mask. A new method is one function here and one row of `methods.py`.

A score ranks tokens, and `select` keeps the top ρ of each scope by it. A rule says directly which tokens stay. What
competes with what, and when, is `trainers/step.py`'s business. Switches: docs/methods.md#switches; the papers stand at
each function.

Shapes: B sequences, T response tokens, N response tokens of the batch in one row, S scopes, G prompt groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Final

import numpy as np
import torch
from torch import Tensor

from eval.errors import OrchError
from eval.seeds import derive_seed, uniforms
from trainers.head.deviation import js_bound
from trainers.head.distribution import gradient_norm_square
from trainers.methods import METHODS
from trainers.recipe import Selection

_ROUNDING: Final = 1e-9
"""ρN is meant exactly: 0.7·10 is 7 tokens, though it is 7.000000000000001 in binary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What is known of the tokens that compete, under the policy that is scored."""

    mask_BT: Tensor
    """bool: which positions hold a response token."""
    advantage_B: Tensor
    group_B: Tensor
    uid_B: Tensor
    scope_B: Tensor
    """int64: sequences with one label share a ρ quota; see `scopes`."""
    logp_BT: Tensor
    """Nats: log-probability of the sampled token."""
    entropy_BT: Tensor
    """Nats."""
    purity_BT: Tensor
    weight_BT: Tensor
    """ω: the objective's gradient with respect to the log-probability; `trainers.objective.gradient_weight`."""
    deviation_BT: Tensor | None
    """Distance from the group's mean distribution, where the method asks for one."""
    draw_seed: int
    """From (run seed, step): the source of random selection."""


Selector = Callable[[Tokens, Selection], Tensor]
"""What a method computes. A method with a ratio returns a score, float (B, T): the tokens are ranked by it, and it is
read only where the mask is True. Any other is a rule and returns the tokens kept, bool (B, T)."""


def select(tokens: Tokens, selection: Selection, *, ratio: float) -> Tensor:
    """Return the selected tokens, bool (B, T).

    The same tokens are selected whatever the order of the sequences, their packing and their padding: ties go to the
    earliest position, then to the lowest uid.

    Args:
        tokens: the competitors; a scope label must hold all sequences that compete.
        selection: method, end, count rule and options.
        ratio: ρ of this step, from `keep_ratio`.

    Raises:
        OrchError: a score is not a number.
    """
    found_BT = SELECTORS[selection.method](tokens, selection)
    if METHODS[selection.method].has_ratio:
        return top_share(found_BT, tokens, selection, ratio=ratio)
    return found_BT & tokens.mask_BT


@torch.no_grad()
def top_share(score_BT: Tensor, tokens: Tokens, selection: Selection, *, ratio: float) -> Tensor:
    """Return the tokens with the highest (or lowest) scores of each scope, bool (B, T).

    All scopes are ranked at once, by three stable sorts of one row of tokens: by (position, uid), by score, by scope.
    A stable sort keeps the order of the one before among equals, so that in the end the tokens of a scope lie side by
    side, best first, and equal scores by position and then by uid. A loop over scopes would do the same and take a
    sort each; with scope `response` there are as many scopes as responses.

    Args:
        score_BT: float, read only where the mask is True.
        tokens: the competitors, whose scopes are labelled.
        selection: end and count rule.
        ratio: ρ of this step.

    Source: docs/methods.md#switches; the tie rule is ours, the papers state none.
    """
    # 1. One row of response tokens by (position, uid). The transpose makes `nonzero` go through positions first. No
    #    padding is in the row, so neither it nor the order of the batch can decide a tie.
    by_uid_B = torch.argsort(tokens.uid_B, stable=True)
    position_N, row_N = tokens.mask_BT[by_uid_B].T.nonzero(as_tuple=True)
    row_N = by_uid_B[row_N]
    score_N = score_BT[row_N, position_N]
    # NaN would sort above every number and be selected first.
    if bool(score_N.isnan().any()):
        raise OrchError(
            f"the scores of {selection.method} are not numbers",
            where="selection.method",
            fix="the policy has diverged: lower recipe.learning_rate, or use model.dtype float32",
        )
    score_N = (score_N if selection.end == "top" else -score_N) + 0.0  # −0.0 + 0.0 is 0.0: they tie
    # 2. By score, best first. 3. By scope, which leaves each scope's tokens side by side and best first.
    sorted_N, order_N = torch.sort(score_N, descending=True, stable=True)
    scope_N = tokens.scope_B[row_N][order_N]
    by_scope_N = torch.argsort(scope_N, stable=True)
    # A token's rank is its distance from the first token of its scope; k of them are kept in each.
    _, size_S = torch.unique_consecutive(scope_N[by_scope_N], return_counts=True)
    start_S = size_S.cumsum(0) - size_S
    rank_N = torch.arange(len(row_N), device=row_N.device) - start_S.repeat_interleave(size_S)
    count_S = quota(size_S, ratio, selection)
    kept_N = rank_N < count_S.repeat_interleave(size_S)
    if selection.count_rule == "keep_ties" and len(row_N):
        # The k-th best of a scope is its threshold, and all that reach it stay: more than k where scores tie.
        sorted_N = sorted_N[by_scope_N]
        kept_N = sorted_N >= sorted_N[start_S + count_S - 1].repeat_interleave(size_S)
    # Back through both sorts to places of the batch.
    chosen_N = order_N[by_scope_N][kept_N]
    mask_BT = torch.zeros_like(tokens.mask_BT)
    mask_BT[row_N[chosen_N], position_N[chosen_N]] = True
    return mask_BT


def quota(size_S: Tensor, ratio: float, selection: Selection) -> Tensor:
    """Return k of each scope from its number of tokens, int64, at least 1.

    `exact` is ⌈ρN⌉. `floor` is N − ⌈(1−ρ)N⌉, which removing a share leaves (GMTS code). `keep_ties` is how many reach
    the linearly interpolated (1−ρ) quantile when none tie: N − ⌈(1−ρ)(N−1)⌉ (`torch.quantile`, hence TRL).
    """
    size_S = size_S.double()  # float32 cannot count the tokens of a large batch: it ends at 2²⁴
    kept_S = {
        "exact": (ratio * size_S - _ROUNDING).ceil(),
        "floor": size_S - ((1 - ratio) * size_S - _ROUNDING).ceil(),
        "keep_ties": size_S - ((1 - ratio) * (size_S - 1) - _ROUNDING).ceil(),
    }[selection.count_rule]
    return torch.minimum(kept_S.clamp(min=1), size_S).long()


def is_warm_up(selection: Selection, step: int) -> bool:
    """Whether a step (counted from 1) trains on all tokens whatever the method. Source: ICT, Θ dense first steps."""
    return step <= selection.warmup_steps


def keep_ratio(selection: Selection, step: int) -> float:
    """Return ρ at a step (counted from 1): 1 during the dense warm-up and for rules, else what the schedule says.

    `linear` and `cosine` go from `schedule_from` (1) at step 1 to `ratio` after `schedule_steps` more; `steps` takes
    the last entry of `schedule_list` that has begun, and 1 before the first.
    """
    if selection.ratio is None or is_warm_up(selection, step):
        return 1.0
    if selection.schedule == "steps":
        assert selection.schedule_list is not None
        return next((ratio for start, ratio in reversed(selection.schedule_list) if start <= step), 1.0)
    if selection.schedule is None:
        return selection.ratio
    assert selection.schedule_steps is not None
    start = 1.0 if selection.schedule_from is None else selection.schedule_from
    progress = min((step - 1) / selection.schedule_steps, 1.0)
    share_left = (1 + cos(pi * progress)) / 2 if selection.schedule == "cosine" else 1 - progress
    return selection.ratio + (start - selection.ratio) * share_left


def scopes(selection: Selection, group_B: Tensor, mini_batch_B: Tensor) -> Tensor:
    """Return the label of each sequence's scope, int64 (B,).

    Args:
        selection: names the scope.
        group_B: int64, prompt groups.
        mini_batch_B: int64, the optimizer step a sequence is trained in; sequences stand in training order.
    """
    if selection.scope == "batch":
        return torch.zeros_like(group_B)
    if selection.scope == "mini_batch":
        return mini_batch_B
    if selection.scope == "group":
        return group_B
    place_B = torch.arange(len(group_B), device=group_B.device)
    if selection.scope == "response":
        return place_B
    # Micro-batches are cut anew in each mini-batch, so that none reaches over the end of one: number the sequences
    # inside their mini-batch from 0, and give every `scope_sequences` of them the next label.
    assert selection.scope_sequences is not None
    _, inverse_B, size_S = torch.unique(mini_batch_B, return_inverse=True, return_counts=True)
    order_B = torch.argsort(inverse_B, stable=True)
    within_B = torch.empty_like(place_B)
    within_B[order_B] = place_B - (size_S.cumsum(0) - size_S).repeat_interleave(size_S)
    # No mini-batch has as many micro-batches as the batch has sequences, so labels of two mini-batches never meet.
    label_B: Tensor = inverse_B * len(group_B) + within_B // selection.scope_sequences
    return label_B


def every_token(tokens: Tokens, selection: Selection) -> Tensor:
    """Keep all: the dense baseline."""
    return tokens.mask_BT


def uniform_draws(tokens: Tokens, selection: Selection) -> Tensor:
    """Draw uniformly from a counter keyed (seed, step, uid, t), float64 (B, T). Source: ICT, random-10 % ablation.

    A generator's stream would depend on the order and the padding of the batch, and on the number of workers.
    """
    seeds = [derive_seed(tokens.draw_seed, uid) for uid in tokens.uid_B.tolist()]
    seeds_B = np.array(seeds, dtype=np.uint64)
    columns = [uniforms(seeds_B, t) for t in range(tokens.mask_BT.shape[1])]
    draws_BT = np.stack(columns, 1) if columns else np.zeros(tuple(tokens.mask_BT.shape))
    return torch.from_numpy(draws_BT).to(tokens.mask_BT.device)


def token_entropy(tokens: Tokens, selection: Selection) -> Tensor:
    """H in nats, (B, T). Source: 80/20, arXiv 2506.01939 eq. (1) and (7)."""
    return tokens.entropy_BT


def gradient_magnitude(tokens: Tokens, selection: Selection) -> Tensor:
    """δ = |H·ω|, (B, T). Source: GMTS, section 3, "GMTS ratio".

    0 where the loss has no gradient, by a zero advantage or a clipped ratio: such tokens come last.
    """
    return (tokens.entropy_BT * tokens.weight_BT).abs()


def gradient_norm(tokens: Tokens, selection: Selection) -> Tensor:
    """|ω|·√(1 − 2p_y + C), (B, T): the exact norm of the gradient at the logits; GMTS has the entropy as its proxy.

    ∂ log p_y/∂z is onehot(y) − p, whose squared norm is (1 − p_y)² + C − p_y².
    """
    return tokens.weight_BT.abs() * gradient_norm_square(tokens.logp_BT, tokens.purity_BT).sqrt()


def group_distance(tokens: Tokens, selection: Selection) -> Tensor:
    """Return distance(p ‖ p̄_t), over its maximum if asked, + λ|A|, (B, T). Source: ICT eq. (9), Table 3, A.3.4.

    Rows that still share their prefix have one distribution, so the first token in which responses differ scores 0.
    """
    assert tokens.deviation_BT is not None
    score_BT = tokens.deviation_BT
    if selection.divide_by_bound:
        bound_BT = _bound(tokens, leave_one_out=bool(selection.leave_one_out)).to(score_BT)
        # Alone at its position a response is its own mean: the bound is 0, the distance too, and 0/0 is no score.
        score_BT = torch.where(bound_BT > 0, score_BT / bound_BT, 0.0)
    if selection.advantage_weight:
        score_BT = score_BT + selection.advantage_weight * tokens.advantage_B.abs()[:, None]
    return score_BT


def stapo_v1(tokens: Tokens, selection: Selection) -> Tensor:
    """Drop A > 0 ∧ p < τ_p ∧ H < τ_h, τ_h a quantile of the scope's entropies. Source: STAPO, arXiv 2602.15620v1."""
    return _without_spurious(tokens, selection, tokens.mask_BT)


def stapo_v4(tokens: Tokens, selection: Selection) -> Tensor:
    """As v1, τ_h over the low-probability tokens of correct responses only. Source: STAPO, arXiv 2602.15620v4."""
    return _without_spurious(tokens, selection, _is_unlikely_reward(tokens, selection))


def _is_unlikely_reward(tokens: Tokens, selection: Selection) -> Tensor:
    """Which tokens are rewarded though the policy holds them for unlikely, bool (B, T): A > 0 ∧ p < τ_p."""
    assert selection.probability_threshold is not None
    is_unlikely_BT = tokens.logp_BT.exp() < selection.probability_threshold
    return tokens.mask_BT & (tokens.advantage_B > 0)[:, None] & is_unlikely_BT


def _without_spurious(tokens: Tokens, selection: Selection, pool_BT: Tensor) -> Tensor:
    """Return all tokens but the spurious ones, bool (B, T); τ_h is a quantile over `pool_BT`, scope by scope."""
    assert selection.entropy_quantile is not None
    dropped_BT = _is_unlikely_reward(tokens, selection)
    kept_BT = tokens.mask_BT.clone()
    for label in torch.unique(tokens.scope_B):
        rows_B1 = (tokens.scope_B == label)[:, None]
        pool_N = tokens.entropy_BT[pool_BT & rows_B1]
        if len(pool_N):  # an empty pool has no quantile, and of v4 then nothing to drop either
            threshold = _quantile(pool_N, selection.entropy_quantile)
            kept_BT &= ~(dropped_BT & rows_B1 & (tokens.entropy_BT.double() < threshold))
    return kept_BT


def _quantile(values_N: Tensor, share: float) -> float:
    """Return a quantile by linear interpolation: what `torch.quantile` does, which refuses more than 2²⁴ values."""
    sorted_N = values_N.sort().values.double()
    place = share * (len(sorted_N) - 1)
    low = int(place)
    high = min(low + 1, len(sorted_N) - 1)
    return float(sorted_N[low] + (place - low) * (sorted_N[high] - sorted_N[low]))


def _bound(tokens: Tokens, *, leave_one_out: bool) -> Tensor:
    """Return the largest JS a token can have among the |V_t| members of its group that reach it, float64 (B, T)."""
    _, inverse_B = torch.unique(tokens.group_B, return_inverse=True)
    num_groups = int(inverse_B.max()) + 1 if len(inverse_B) else 0
    members_GT = torch.zeros(num_groups, tokens.mask_BT.shape[1], dtype=torch.int64, device=inverse_B.device)
    members_GT.index_add_(0, inverse_B, tokens.mask_BT.long())
    members_BT = members_GT[inverse_B]
    if leave_one_out:
        # p is not part of the mean, which leaves ln 2 for any number of others: the bound's limit, reached at 2⁴⁰.
        return js_bound(torch.full_like(members_BT, 2**40)) * (members_BT > 1)
    return js_bound(members_BT)


SELECTORS: Final[Mapping[str, Selector]] = {
    "full": every_token,
    "random": uniform_draws,
    "ets": token_entropy,
    "gmts": gradient_magnitude,
    "gnorm": gradient_norm,
    "ict": group_distance,
    "ict_kl": group_distance,
    "ict_wass": group_distance,
    "stapo_v1": stapo_v1,
    "stapo_v4": stapo_v4,
}
"""The function of every method of `trainers.methods.METHODS`."""
