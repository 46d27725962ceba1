"""What a researcher plots of one step: the names of all metrics, and those of the selection.

Metrics of the first mini-batch's selection describe the whole step: the policy is the one that sampled. Shapes: B
sequences, T response tokens, N response tokens in a row, S scopes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from eval.errors import OrchError
from trainers.head.distribution import gradient_norm_square
from trainers.methods import DENSE, METHODS
from trainers.recipe import Selection
from trainers.selection import SELECTORS, Tokens, select

NUM_DECILES: Final = 10

_QUANTITIES: Final = {
    "entropy": "entropy H of the next-token distribution, nats",
    "renyi2": "Rényi entropy of order 2, −ln C, nats",
    "purity": "purity C = Σp²",
    "probability": "probability of the sampled token",
}
_SIGNS: Final = {"positive": "A > 0", "negative": "A < 0", "zero": "A = 0"}

METRICS: Final[Mapping[str, str]] = {
    "step": "training step, counted from 1",
    "loss": "minimised loss of a mini-batch; mean over the step's updates",
    "reward/mean": "share of correct responses among all that were drawn",
    "reward/std": "their population standard deviation",
    "reward/shaped_mean": "mean reward of the batch with the length penalty",
    "reward/answered_share": "responses with a complete boxed answer",
    "reward/groups_all_right": "share of groups whose responses are all correct",
    "reward/groups_all_wrong": "share of groups whose responses are all wrong",
    "response/length_mean": "tokens of a response",
    "response/length_std": "their population standard deviation",
    "response/length_max": "longest response, tokens",
    "response/length_min": "shortest response, tokens",
    "response/truncated_share": "responses cut by the length limit",
    "sampling/rounds": "generation rounds of dynamic sampling",
    "sampling/groups_drawn": "groups sampled",
    "sampling/groups_kept": "groups in the batch",
    "sampling/groups_missing": "groups the batch is short of",
    "sampling/tokens_per_s": "response tokens sampled a second",
    "data/position": "prompts drawn since the start",
    "optimizer/learning_rate": "learning rate of the step",
    "gradient/norm": "L2 norm of the gradient before clipping; mean over the step's updates",
    "policy/ratio_mean": "mean π_θ/π_old over the tokens that were run",
    "policy/clip_fraction": "share of the run tokens whose surrogate is clipped",
    "policy/approx_kl": "mean log π_old − log π_θ over the run tokens, nats",
    "policy/ref_kl": "k3 KL to the reference, mean over the tokens that carry it, nats",
    "update/count": "optimizer steps of this training step",
    "update/head_share": "share of the response tokens whose logits were computed in the update",
    "update/position_share": "share of the response positions run in the update: rows end at their last needed token",
    "time/step_s": "sampling, scoring and updating, seconds",
    "time/prepare_s": "loading, seconds",
    "time/sample_s": "sampling and grading, seconds",
    "time/score_s": "old and reference log-probs, seconds",
    "time/update_s": "selection and update, seconds",
    "time/select_s": "selection, with re-scoring and these diagnostics, seconds",
    "time/evaluate_s": "evaluation during training, seconds",
    "time/checkpoint_s": "writing checkpoints, seconds",
    "memory/peak_mb": "peak memory of the process, or of the device",
    "select/asked_ratio": "ρ of the step, after schedule and warm-up",
    "select/ratio": "selected over all response tokens",
    "select/count": "selected tokens",
    "select/tokens": "response tokens that compete",
    "select/threshold": "lowest selected score, mean over the scopes",
    "select/tie_share": "unselected or surplus tokens that tie with the threshold, over all tokens",
    "select/empty_share": "share of responses without a selected token",
    "select/gradient_share": "Σ ω²(1 − 2p + C) of the selected over all tokens: squared gradient norm at the logits",
    **{f"select/{name}": f"{meaning}; mean over the selected tokens" for name, meaning in _QUANTITIES.items()},
    **{f"tokens/{name}": f"{meaning}; mean over all tokens" for name, meaning in _QUANTITIES.items()},
    **{f"select/share_{name}": f"share of the selected in responses with {sign}" for name, sign in _SIGNS.items()},
    **{f"tokens/share_{name}": f"share of all tokens in responses with {sign}" for name, sign in _SIGNS.items()},
    **{
        f"select/position_{decile}": f"share of the selected in tenth {decile + 1} of their response"
        for decile in range(NUM_DECILES)
    },
    **{
        f"jaccard/{name}": f"overlap of the selection with that of {name} at the same ρ and scope"
        for name in SELECTORS
        if METHODS[name].has_ratio and METHODS[name].reads_policy
    },
    "jaccard/chance": "overlap of two random selections of that size, ρ/(2 − ρ)",
}
"""Every name a training step may report → what it is, over what, in which unit."""


@torch.no_grad()
def selection_metrics(tokens: Tokens, selected_BT: Tensor, selection: Selection, *, ratio: float) -> dict[str, float]:
    """Return the metrics of one selection, named in `METRICS`; means over no token are left out.

    Args:
        tokens: the competitors.
        selected_BT: bool, the selection among them.
        selection: method and scope.
        ratio: ρ of the step.
    """
    mask_BT = tokens.mask_BT
    num_tokens, num_selected = int(mask_BT.sum()), int(selected_BT.sum())
    metrics = {
        "select/asked_ratio": ratio,
        "select/count": float(num_selected),
        "select/tokens": float(num_tokens),
    }
    if not num_tokens:
        return metrics
    metrics["select/ratio"] = num_selected / num_tokens
    metrics["select/empty_share"] = float((~selected_BT.any(1)).double().mean())
    values_BT = {
        "entropy": tokens.entropy_BT,
        "renyi2": -tokens.purity_BT.clamp(min=torch.finfo(tokens.purity_BT.dtype).tiny).log(),
        "purity": tokens.purity_BT,
        "probability": tokens.logp_BT.exp(),
    }
    for prefix, chosen_BT in (("tokens", mask_BT), ("select", selected_BT)):
        if bool(chosen_BT.any()):
            metrics |= {f"{prefix}/{name}": float(value[chosen_BT].mean()) for name, value in values_BT.items()}
            metrics |= {f"{prefix}/share_{name}": value for name, value in _sign_shares(tokens, chosen_BT).items()}
    metrics |= _position_shares(tokens, selected_BT)
    squares_BT = tokens.weight_BT.square() * gradient_norm_square(tokens.logp_BT, tokens.purity_BT)
    total = float(squares_BT[mask_BT].double().sum())
    if total > 0:
        metrics["select/gradient_share"] = float(squares_BT[selected_BT].double().sum()) / total
    if METHODS[selection.method].has_ratio and ratio < 1:
        metrics |= _threshold(tokens, selected_BT, selection)
        metrics |= overlaps(tokens, selected_BT, selection, ratio=ratio)
    return metrics


@torch.no_grad()
def overlaps(tokens: Tokens, selected_BT: Tensor, selection: Selection, *, ratio: float) -> dict[str, float]:
    """Return the Jaccard overlap of a selection with every other ranked method's on the same tokens, and by chance.

    The other methods keep the scope and the ratio; those that need a deviation which was not measured are left out.
    """
    found = {"jaccard/chance": ratio / (2 - ratio)}
    measured = METHODS[selection.method].distance
    for name in SELECTORS:
        other = METHODS[name]
        is_ranked = other.has_ratio and other.reads_policy  # the overlap with random tokens is that by chance
        if name == selection.method or not is_ranked or other.distance not in (None, measured):
            continue
        other_BT = select(tokens, replace_method(selection, name), ratio=ratio)
        union = int((selected_BT | other_BT).sum())
        found[f"jaccard/{name}"] = int((selected_BT & other_BT).sum()) / union if union else 1.0
    return found


def replace_method(selection: Selection, method: str) -> Selection:
    """Return the paper-neutral selection of another ranked method at the same ratio and scope."""
    return Selection(
        method=method,
        ratio=selection.ratio,
        scope=selection.scope,
        scope_sequences=selection.scope_sequences,
    )


def check_ratio(tokens: Tokens, selected_BT: Tensor, selection: Selection, *, ratio: float, step: int) -> None:
    """Raise unless the selection holds the share asked for: was the option applied at all?

    Every scope is rounded to a whole token, so the count may be off by one a scope; ties may add more.

    Raises:
        OrchError: the realised ratio is not ρ.
    """
    num_tokens, num_selected = int(tokens.mask_BT.sum()), int(selected_BT.sum())
    method = METHODS[selection.method]
    asked = ratio * num_tokens if method.has_ratio else num_tokens
    num_scopes = len(torch.unique(tokens.scope_B))
    is_rule = not method.has_ratio and method.name != DENSE  # a rule may keep any number of tokens
    too_few = num_selected < asked - num_scopes
    too_many = num_selected > asked + num_scopes and selection.count_rule != "keep_ties"
    if num_tokens and not is_rule and (too_few or too_many):
        raise OrchError(
            f"step {step} selected {num_selected} of {num_tokens} tokens, a share of {num_selected / num_tokens:.3f}",
            where=f"selection.ratio asks for {ratio:g} with method {selection.method}",
            fix="the backend does not apply the selection: report it, do not use these numbers",
        )


def _sign_shares(tokens: Tokens, chosen_BT: Tensor) -> dict[str, float]:
    """Return the share of the chosen tokens in responses with A > 0, A < 0 and A = 0."""
    count_B = chosen_BT.sum(1).double()
    total = float(count_B.sum())
    advantage_B = tokens.advantage_B
    signs = {"positive": advantage_B > 0, "negative": advantage_B < 0, "zero": advantage_B == 0}
    return {name: float(count_B[is_sign_B].sum()) / total for name, is_sign_B in signs.items()}


def _position_shares(tokens: Tokens, selected_BT: Tensor) -> dict[str, float]:
    """Return the share of the selected tokens in each tenth of their response."""
    row_N, position_N = selected_BT.nonzero(as_tuple=True)
    if not len(row_N):
        return {}
    length_N = tokens.mask_BT.sum(1)[row_N]
    decile_N = (position_N * NUM_DECILES).div(length_N, rounding_mode="floor")
    counts = torch.bincount(decile_N, minlength=NUM_DECILES).tolist()
    return {f"select/position_{decile}": count / len(row_N) for decile, count in enumerate(counts)}


def _threshold(tokens: Tokens, selected_BT: Tensor, selection: Selection) -> dict[str, float]:
    """Return the lowest selected score, mean over the scopes, and the share of tokens that tie with their scope's.

    Each scope has one token at its threshold by definition: only those beyond it are ties.
    """
    score_BT = SELECTORS[selection.method](tokens, selection).double()
    # With the sign turned for `end: bottom`, the threshold is the lowest selected score in both cases.
    signed_BT = score_BT if selection.end == "top" else -score_BT
    _, inverse_B = torch.unique(tokens.scope_B, return_inverse=True)
    lowest_S = torch.full((int(inverse_B.max()) + 1,), torch.inf, dtype=torch.float64, device=score_BT.device)
    lowest_B = signed_BT.masked_fill(~selected_BT, torch.inf).amin(1)
    lowest_S.scatter_reduce_(0, inverse_B, lowest_B, "amin")
    tied_BT = (signed_BT == lowest_S[inverse_B][:, None]) & tokens.mask_BT
    # A scope without a token, or without a selected one, has no threshold.
    finite_S = lowest_S[lowest_S.isfinite()]
    sign = 1.0 if selection.end == "top" else -1.0
    num_surplus = int(tied_BT.sum()) - len(finite_S)
    return {
        "select/threshold": sign * float(finite_S.mean()),
        "select/tie_share": max(num_surplus, 0) / int(tokens.mask_BT.sum()),
    }
