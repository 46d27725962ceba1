"""From rewards to advantages: one number a response, relative to its group.

Shapes: B responses, N groups.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

STD_FLOOR = 1e-6
"""Added to the standard deviation, as verl and TRL do."""


def group_advantages(
    reward_B: Tensor, group_B: Tensor, std: Literal["unbiased", "population", "none"] = "unbiased"
) -> Tensor:
    """Return A = (R − mean R)/(std R + 1e-6) inside each group, float32 (B,); exactly 0 where a group is all equal.

    Args:
        reward_B: rewards.
        group_B: int64 group labels.
        std: divisor n−1 (verl, TRL), divisor n (GMTS), or no division at all.

    Source: GRPO, arXiv 2402.03300, section 4.1.2; docs/methods.md#losses.
    """
    # A float32 mean of nearly equal rewards would be off by as much as they differ, and the division by their small
    # deviation would make advantages of that.
    reward_B = reward_B.double()
    inverse_B, size_N = _groups(group_B)
    mean_N = torch.zeros_like(size_N).index_add_(0, inverse_B, reward_B) / size_N
    centred_B = reward_B - mean_N[inverse_B]
    advantage_B = centred_B
    if std != "none":
        squares_N = torch.zeros_like(size_N).index_add_(0, inverse_B, centred_B.square())
        divisor_N = (size_N - 1).clamp(min=1) if std == "unbiased" else size_N
        advantage_B = centred_B / ((squares_N / divisor_N).sqrt()[inverse_B] + STD_FLOOR)
    # Exactly 0 and not 1e-10: "zero advantage" decides what is trained, dropped and counted elsewhere.
    return advantage_B.masked_fill(~has_signal(reward_B, group_B), 0.0).float()


def has_signal(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """Return, bool (B,), whether the rewards of a response's group differ: what dynamic sampling keeps.

    Source: DAPO, arXiv 2503.14476, eq. 11.
    """
    inverse_B, size_N = _groups(group_B)
    reward_B = reward_B.double()
    # By comparison, not by a standard deviation, which rounding keeps above 0.
    low_N = torch.full_like(size_N, torch.inf).scatter_reduce_(0, inverse_B, reward_B, "amin")
    high_N = torch.full_like(size_N, -torch.inf).scatter_reduce_(0, inverse_B, reward_B, "amax")
    return (high_N > low_N)[inverse_B]


def overlong_penalty(response_length_B: Tensor, *, max_tokens: int, buffer: int, factor: float) -> Tensor:
    """Return what to add to the reward: min(−(len − (max − buffer))/buffer · factor, 0), float32 (B,).

    Args:
        response_length_B: tokens of each response.
        max_tokens: the response limit.
        buffer: length of the zone before it in which the penalty grows from 0 to `factor`.
        factor: the penalty at the limit.

    Source: DAPO, arXiv 2503.14476, eq. 13.
    """
    excess_B = (response_length_B - (max_tokens - buffer)).double() / buffer
    return (-excess_B * factor).clamp(max=0.0).float()


def _groups(group_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place of each response's group, int64 (B,), and the size of each group, float64 (N,)."""
    _, inverse_B, size_N = torch.unique(group_B, return_inverse=True, return_counts=True)
    return inverse_B, size_N.double()
