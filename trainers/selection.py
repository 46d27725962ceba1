"""Which tokens are trained on: score → select → mask. A new method is one function, one line at the foot, one test.

A score says how much a token is wanted; `select` keeps the top ρ of each scope by it. A rule says directly which
tokens stay. Switches: docs/methods.md#switches and `trainers/methods.py`; the papers stand at each function.

Shapes: B sequences, T response tokens, N response tokens of the batch in one row, S scopes.
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
    """Return the tokens with the highest (or lowest) scores of each scope, bool (B, T)."""
    by_uid_B = torch.argsort(tokens.uid_B, stable=True)
    position_N, row_N = tokens.mask_BT[by_uid_B].T.nonzero(as_tuple=True)
    row_N = by_uid_B[row_N]
    score_N = score_BT[row_N, position_N]
    if bool(score_N.isnan().any()):
        raise OrchError(
            f"the scores of {selection.method} are not numbers",
            where="selection.method",
            mend="the policy has diverged: lower recipe.learning_rate, or use model.dtype float32",
        )
    score_N = (score_N if selection.end == "top" else -score_N) + 0.0  # −0.0 + 0.0 is 0.0: they tie
    sorted_N, order_N = torch.sort(score_N, descending=True, stable=True)
    scope_N = tokens.scope_B[row_N][order_N]
    by_scope_N = torch.argsort(scope_N, stable=True)
    _, size_S = torch.unique_consecutive(scope_N[by_scope_N], return_counts=True)
    start_S = size_S.cumsum(0) - size_S
    rank_N = torch.arange(len(row_N), device=row_N.device) - start_S.repeat_interleave(size_S)
    count_S = quota(size_S, ratio, selection)
    kept_N = rank_N < count_S.repeat_interleave(size_S)
    if selection.count_rule == "keep_ties" and len(row_N):
        sorted_N = sorted_N[by_scope_N]
        kept_N = sorted_N >= sorted_N[start_S + count_S - 1].repeat_interleave(size_S)
    chosen_N = order_N[by_scope_N][kept_N]
    mask_BT = torch.zeros_like(tokens.mask_BT)
    mask_BT[row_N[chosen_N], position_N[chosen_N]] = True
    return mask_BT


def quota(size_S: Tensor, ratio: float, selection: Selection) -> Tensor:
    """Return k of each scope from its number of tokens, int64, at least 1.

    `exact` is ⌈ρN⌉. `floor` is N − ⌈(1−ρ)N⌉, which removing a share leaves (GMTS code). `keep_ties` is how many reach
    the linearly interpolated (1−ρ) quantile when none tie: N − ⌈(1−ρ)(N−1)⌉ (`torch.quantile`, hence TRL).
    """
    size_S = size_S.double()
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
    assert selection.scope_sequences is not None
    _, inverse_B, size_S = torch.unique(mini_batch_B, return_inverse=True, return_counts=True)
    order_B = torch.argsort(inverse_B, stable=True)
    within_B = torch.empty_like(place_B)
    within_B[order_B] = place_B - (size_S.cumsum(0) - size_S).repeat_interleave(size_S)
    label_B: Tensor = inverse_B * len(group_B) + within_B // selection.scope_sequences
    return label_B


def every_token(tokens: Tokens, selection: Selection) -> Tensor:
    """Keep all: the dense baseline."""
    return tokens.mask_BT


def uniform_draws(tokens: Tokens, selection: Selection) -> Tensor:
    """Draw uniformly from a counter keyed (seed, step, uid, t). Source: ICT, random-10 % ablation."""
    seeds = [derive_seed(tokens.draw_seed, uid) for uid in tokens.uid_B.tolist()]
    seeds_B = np.array(seeds, dtype=np.uint64)
    columns = [uniforms(seeds_B, t) for t in range(tokens.mask_BT.shape[1])]
    draws_BT = np.stack(columns, 1) if columns else np.zeros(tuple(tokens.mask_BT.shape))
    return torch.from_numpy(draws_BT).to(tokens.mask_BT.device)


def token_entropy(tokens: Tokens, selection: Selection) -> Tensor:
    """H. Source: 80/20, arXiv 2506.01939 eq. (1) and (7)."""
    return tokens.entropy_BT


def gradient_magnitude(tokens: Tokens, selection: Selection) -> Tensor:
    """δ = |H·ω|. Source: GMTS, section 3, "GMTS ratio"."""
    return (tokens.entropy_BT * tokens.weight_BT).abs()


def gradient_norm(tokens: Tokens, selection: Selection) -> Tensor:
    """|ω|·√(1 − 2p_y + C): the exact norm of the gradient at the logits, where GMTS has the entropy as its proxy."""
    return tokens.weight_BT.abs() * gradient_norm_square(tokens.logp_BT, tokens.purity_BT).sqrt()


def group_distance(tokens: Tokens, selection: Selection) -> Tensor:
    """Return distance(p ‖ p̄_t), over its maximum if asked, + λ|A|. Source: ICT eq. (9), Table 3, A.3.4."""
    assert tokens.deviation_BT is not None
    score_BT = tokens.deviation_BT
    if selection.divide_by_bound:
        bound_BT = _bound(tokens, leave_one_out=bool(selection.leave_one_out)).to(score_BT)
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
    assert selection.probability_threshold is not None
    is_unlikely_BT = tokens.logp_BT.exp() < selection.probability_threshold
    return tokens.mask_BT & (tokens.advantage_B > 0)[:, None] & is_unlikely_BT


def _without_spurious(tokens: Tokens, selection: Selection, pool_BT: Tensor) -> Tensor:
    assert selection.entropy_quantile is not None
    dropped_BT = _is_unlikely_reward(tokens, selection)
    kept_BT = tokens.mask_BT.clone()
    for label in torch.unique(tokens.scope_B):
        rows_B1 = (tokens.scope_B == label)[:, None]
        pool_N = tokens.entropy_BT[pool_BT & rows_B1]
        if len(pool_N):
            threshold = _quantile(pool_N, selection.entropy_quantile)
            kept_BT &= ~(dropped_BT & rows_B1 & (tokens.entropy_BT.double() < threshold))
    return kept_BT


def _quantile(values_N: Tensor, share: float) -> float:
    """Linear interpolation between order statistics, as `torch.quantile`, which refuses more than 2²⁴ values."""
    sorted_N = values_N.sort().values.double()
    place = share * (len(sorted_N) - 1)
    low = int(place)
    high = min(low + 1, len(sorted_N) - 1)
    return float(sorted_N[low] + (place - low) * (sorted_N[high] - sorted_N[low]))


def _bound(tokens: Tokens, *, leave_one_out: bool) -> Tensor:
    _, inverse_B = torch.unique(tokens.group_B, return_inverse=True)
    num_groups = int(inverse_B.max()) + 1 if len(inverse_B) else 0
    members_GT = torch.zeros(num_groups, tokens.mask_BT.shape[1], dtype=torch.int64, device=inverse_B.device)
    members_GT.index_add_(0, inverse_B, tokens.mask_BT.long())
    members_BT = members_GT[inverse_B]
    if leave_one_out:
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
