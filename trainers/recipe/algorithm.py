"""The policy-gradient objective: keys of the group `algorithm/`, and their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.recipe.ranges import check_finite, require

RolloutRejection = Literal[
    "token_k1", "token_k2", "token_k3",
    "seq_sum_k1", "seq_sum_k2", "seq_sum_k3",
    "seq_mean_k1", "seq_mean_k2", "seq_mean_k3",
    "seq_max_k2", "seq_max_k3",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The policy-gradient objective. Source: GRPO arXiv 2402.03300, DAPO arXiv 2503.14476; docs/methods.md#losses."""

    name: Literal["grpo", "dapo"]
    clip_low: float
    """ε₁: the ratio is clipped below at 1 − ε₁."""
    clip_high: float
    """ε₂: the ratio is clipped above at 1 + ε₂."""
    dual_clip: float | None = None
    """c > 1: bounds the loss of negative advantages at large ratios."""
    kl_coef: float = 0.0
    """β of the k3 KL penalty to the frozen reference; 0 loads no reference model."""
    entropy_coef: float = 0.0
    loss_mean: Literal["token", "sequence"]
    """Mean over all tokens of the batch (DAPO), or mean over sequences of their token means (GRPO)."""
    advantage_std: Literal["unbiased", "population", "none"] = "unbiased"
    """What divides R − mean(R) in a group."""
    dynamic_sampling: bool = False
    """Drop groups whose rewards are all equal and refill (DAPO)."""
    max_sampling_rounds: int = 3
    """Bound on the generation rounds of one step under dynamic sampling."""
    overlong_buffer: int | None = None
    """Length of the soft-punished zone before the response limit, in tokens (DAPO eq. 13)."""
    overlong_factor: float = 1.0
    rollout_is: Literal["token", "sequence"] | None = None
    """Weigh the policy loss by π_old/π_rollout, of the token or of its response. Source: verl's rollout correction."""
    rollout_is_threshold: float | None = None
    """Those weights are cut here."""
    rollout_is_lower: float | None = None
    """With it, weights outside of [lower, threshold] become 0 instead (IcePop)."""
    rollout_is_batch_normalize: bool | None = None
    """Divide the weights by their mean over the batch."""
    rollout_rs: RolloutRejection | None = None
    """Learn nothing from tokens, or responses, on which sampler and trainer diverge: level and estimator."""
    rollout_rs_threshold: float | None = None
    """The largest divergence; for k1 the largest π_rollout/π_old."""
    rollout_rs_lower: float | None = None
    """k1 only: the smallest π_rollout/π_old; None is 1/threshold."""

    def __post_init__(self) -> None:
        """Raise OrchError for what does not fit."""
        _check(self)


def _check(algorithm: Algorithm) -> None:
    """Raise OrchError if the objective's numbers are out of range or an option has nothing to act on."""
    check_finite("algorithm", algorithm)
    key = "algorithm.{}".format
    require(0 < algorithm.clip_low <= 1, key("clip_low"), algorithm.clip_low, "in (0, 1]")
    require(algorithm.clip_high > 0, key("clip_high"), algorithm.clip_high, "above 0")
    if algorithm.dual_clip is not None:
        require(algorithm.dual_clip > 1, key("dual_clip"), algorithm.dual_clip, "above 1, or null")
    require(algorithm.kl_coef >= 0, key("kl_coef"), algorithm.kl_coef, "0 or more")
    require(algorithm.entropy_coef >= 0, key("entropy_coef"), algorithm.entropy_coef, "0 or more")
    rounds = algorithm.max_sampling_rounds
    require(rounds >= 1, key("max_sampling_rounds"), rounds, "1 or more")
    buffer, factor = algorithm.overlong_buffer, algorithm.overlong_factor
    require(buffer is None or buffer >= 1, key("overlong_buffer"), buffer, "1 or more tokens, or null")
    require(factor > 0, key("overlong_factor"), factor, "above 0")
    if buffer is None:
        require(factor == 1.0, key("overlong_factor"), factor, "left out where overlong_buffer is null")
    _check_rollout_correction(algorithm)


def _check_rollout_correction(algorithm: Algorithm) -> None:
    """Raise OrchError for bounds without what they bound, or the other way round."""
    for kind in ("is", "rs"):
        chosen, key = getattr(algorithm, f"rollout_{kind}"), f"algorithm.rollout_{kind}"
        upper, lower = getattr(algorithm, f"rollout_{kind}_threshold"), getattr(algorithm, f"rollout_{kind}_lower")
        if chosen is None:
            require(upper is None, f"{key}_threshold", upper, f"left out where rollout_{kind} is null")
            require(lower is None, f"{key}_lower", lower, f"left out where rollout_{kind} is null")
            continue
        require(upper is not None and upper > 0, f"{key}_threshold", upper, f"above 0 with rollout_{kind}: {chosen}")
        require(lower is None or 0 < lower <= upper, f"{key}_lower", lower, f"in (0, {upper}], or null")
    normalize, rejection = algorithm.rollout_is_batch_normalize, algorithm.rollout_rs
    require(
        normalize is None or algorithm.rollout_is is not None,
        "algorithm.rollout_is_batch_normalize", normalize, "left out where rollout_is is null",
    )  # fmt: skip
    if rejection is not None and not rejection.endswith("k1"):
        lower = algorithm.rollout_rs_lower
        require(lower is None, "algorithm.rollout_rs_lower", lower, f"left out with {rejection}: it is never negative")
