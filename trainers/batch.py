"""What flows from sampling through scoring to the update: one step's responses, with what is known of each token.

Shapes: B responses, S prompt+response positions, T response positions (the longest response's). Token t of response b
is `tokens_BS[b, prompt_length_B[b] + t]`; the logits that predicted it stand one position earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutBatch:
    """The responses of one training step. Sampling fills the first block, `trainers.lite.score` the second."""

    tokens_BS: Tensor
    """int64: prompt, then response without a gap, then padding on the right."""
    prompt_length_B: Tensor
    """int64, at least 1: the first response token needs a position before it."""
    response_length_B: Tensor
    """int64; the end-of-sequence token is part of the response."""
    group_B: Tensor
    """int64: equal values mean the same prompt."""
    uid_B: Tensor
    """int64: names a response whatever its place in the batch; seeds of random selection derive from it."""
    reward_B: Tensor
    """float32."""
    advantage_B: Tensor
    """float32: zero in groups without a signal."""
    is_trained_B: Tensor | None = None
    """bool: False where a response only competes in the selection, as the groups that dynamic sampling drops do under
    `selection.order: before_filter`; None trains all."""

    old_logp_BT: Tensor | None = None
    """float32, nats: log π_old of the sampled token at the recipe's temperature."""
    entropy_BT: Tensor | None = None
    """float32, nats: H of the whole distribution."""
    purity_BT: Tensor | None = None
    """float32: C = Σp²."""
    ref_logp_BT: Tensor | None = None
    """float32, nats: log π_ref of the sampled token; only where the algorithm has a KL term."""
    deviation_BT: Tensor | None = None
    """float32: distance of each distribution from its group's mean; only for the methods that rank by it."""

    rollout_logp_BT: Tensor | None = None
    """float32, nats: log-prob of the sampled token as its sampler had it; only under a rollout correction."""
    importance_BT: Tensor | None = None
    """float32: what `trainers.rollout_correction` multiplies the policy loss by; None is 1."""
    accepted_BT: Tensor | None = None
    """bool: response tokens that it did not reject; None is all."""

    def __post_init__(self) -> None:
        """Assert that the blocks describe the same responses."""
        assert all(value is None or len(value) == len(self) for value in self._values())
        if len(self):
            assert int(self.prompt_length_B.min()) >= 1
            assert int((self.prompt_length_B + self.response_length_B).max()) <= self.tokens_BS.shape[1]

    def __len__(self) -> int:
        return self.tokens_BS.shape[0]

    @property
    def num_response_positions(self) -> int:
        """T: the width of every `…_BT` tensor, which is the longest response unless rows were taken out."""
        known = self.old_logp_BT
        return known.shape[1] if known is not None else int(self.response_length_B.max()) if len(self) else 0

    @property
    def response_mask_BT(self) -> Tensor:
        """bool: which positions of the `…_BT` tensors hold a response token."""
        positions_T = torch.arange(self.num_response_positions, device=self.tokens_BS.device)
        return positions_T < self.response_length_B[:, None]

    @property
    def learned_mask_BT(self) -> Tensor:
        """bool: the response tokens that compete in the selection and count in the loss: those not rejected."""
        mask_BT = self.response_mask_BT
        return mask_BT if self.accepted_BT is None else mask_BT & self.accepted_BT

    @property
    def response_BT(self) -> Tensor:
        """int64: the response tokens; 0 where the mask is False."""
        mask_BT = self.response_mask_BT
        positions_T = torch.arange(mask_BT.shape[1], device=self.tokens_BS.device)
        columns_BT = (self.prompt_length_B[:, None] + positions_T).clamp(max=self.tokens_BS.shape[1] - 1)
        return self.tokens_BS.gather(1, columns_BT).masked_fill(~mask_BT, 0)

    @property
    def scores(self) -> PolicyScores:
        """What the policy that the batch was scored with says of each token; only asked of a scored batch."""
        assert self.old_logp_BT is not None, "the batch has not been scored"
        assert self.entropy_BT is not None
        assert self.purity_BT is not None
        return PolicyScores(
            logp_BT=self.old_logp_BT,
            entropy_BT=self.entropy_BT,
            purity_BT=self.purity_BT,
            deviation_BT=self.deviation_BT,
        )

    def take(self, indices: Tensor) -> RolloutBatch:
        """Return the responses at `indices` (int64 or bool), in that order; widths stay as they are."""
        return self._mapped(lambda value: value[indices])

    def to(self, device: torch.device | str) -> RolloutBatch:
        """Return the batch on another device."""
        return self._mapped(lambda value: value.to(device))

    def _values(self) -> list[Tensor | None]:
        return [getattr(self, field.name) for field in fields(self)]

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> RolloutBatch:
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in present.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyScores:
    """What one policy says of each response token, float (B, T), 0 outside the responses."""

    logp_BT: Tensor
    entropy_BT: Tensor
    purity_BT: Tensor
    deviation_BT: Tensor | None
