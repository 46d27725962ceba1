"""What was drawn in one step, as a batch that can be learned from, and what a researcher plots of it.

The same for every trainer: how prompts are sampled is the trainer's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean, pstdev

import torch
from torch import Tensor

from trainers.advantages import group_advantages, has_signal, overlong_penalty
from trainers.batch import RolloutBatch
from trainers.prompts import Prompt
from trainers.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One response of the policy with what it earned."""

    prompt: Prompt
    index: int
    """Place in its group."""
    tokens: list[int]
    is_complete: bool
    """False when the length limit cut it."""
    reward: float
    """1 for a correct answer, else 0; before any length penalty."""
    has_answer: bool
    statistics: Tensor | None = field(default=None, compare=False)
    """float32 (3, tokens): log-prob, entropy and purity of each token, where the engine gave them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What one step sampled."""

    batch: RolloutBatch
    """The responses to learn from, on CPU; empty if no group has a signal."""
    samples: list[Sample]
    """Everything that was drawn, the dropped groups included."""
    num_rounds: int
    num_groups_kept: int
    position: int
    """Where the data order stands afterwards."""


def make_batch(groups: Sequence[Sequence[Sample]], recipe: Recipe, *, pad_token: int) -> RolloutBatch:
    """Lay out groups of samples as one right-padded batch with rewards and advantages, on CPU."""
    samples = [sample for group in groups for sample in group]
    prompt_length_B = torch.tensor([len(sample.prompt.tokens) for sample in samples], dtype=torch.int64)
    response_length_B = torch.tensor([len(sample.tokens) for sample in samples], dtype=torch.int64)
    width = int((prompt_length_B + response_length_B).max()) if samples else 0
    tokens_BS = torch.full((len(samples), width), pad_token, dtype=torch.int64)
    for row, sample in enumerate(samples):
        tokens = [*sample.prompt.tokens, *sample.tokens]
        tokens_BS[row, : len(tokens)] = torch.tensor(tokens)
    reward_B = torch.tensor([sample.reward for sample in samples], dtype=torch.float32)
    if recipe.algorithm.overlong_buffer is not None:
        reward_B = reward_B + overlong_penalty(
            response_length_B,
            max_tokens=recipe.data.max_response_tokens,
            buffer=recipe.algorithm.overlong_buffer,
            factor=recipe.algorithm.overlong_factor,
        )
    logp_BT, entropy_BT, purity_BT = _token_statistics(samples)
    group_B = torch.tensor([sample.prompt.position for sample in samples], dtype=torch.int64)
    return RolloutBatch(
        tokens_BS=tokens_BS,
        prompt_length_B=prompt_length_B,
        response_length_B=response_length_B,
        group_B=group_B,
        uid_B=torch.tensor([s.prompt.position * recipe.group_size + s.index for s in samples], dtype=torch.int64),
        reward_B=reward_B,
        advantage_B=group_advantages(reward_B, group_B, recipe.algorithm.advantage_std),
        old_logp_BT=logp_BT,
        entropy_BT=entropy_BT,
        purity_BT=purity_BT,
    )


def _token_statistics(samples: Sequence[Sample]) -> tuple[Tensor | None, ...]:
    """Return log-prob, entropy and purity, (B, T) each and 0 behind a response; None without the engine's account."""
    longest = max((len(sample.tokens) for sample in samples), default=0)
    padded_3BT = torch.zeros(3, len(samples), longest)
    for row, sample in enumerate(samples):
        if sample.statistics is None:
            return None, None, None
        padded_3BT[:, row, : len(sample.tokens)] = sample.statistics
    return tuple(padded_3BT)


def num_to_draw(wanted: int, num_kept: int, num_drawn: int) -> int:
    """Enough prompts that, at the share kept so far, the batch fills; never more than a batch."""
    if num_kept == 0:
        return wanted
    return min(wanted, math.ceil((wanted - num_kept) * num_drawn / num_kept))


def group_has_signal(group: Sequence[Sample]) -> bool:
    """Whether the responses to one prompt earned different rewards: what dynamic sampling keeps."""
    rewards_B = torch.tensor([sample.reward for sample in group])
    return bool(has_signal(rewards_B, torch.zeros(len(group), dtype=torch.int64)).any())


def rollout_metrics(rollouts: Rollouts, recipe: Recipe) -> dict[str, float]:
    """Return rewards, lengths and the account of dynamic sampling; means over all responses that were drawn."""
    samples = rollouts.samples
    lengths = [len(sample.tokens) for sample in samples]
    correct = [sample.reward for sample in samples]
    groups = [[s.reward for s in group] for _, group in groupby(samples, key=lambda sample: sample.prompt.position)]
    num_right = sum(all(group) for group in groups)
    num_wrong = sum(not any(group) for group in groups)
    return {
        "reward/mean": fmean(correct),
        "reward/std": pstdev(correct),
        "reward/shaped_mean": float(rollouts.batch.reward_B.mean()) if len(rollouts.batch) else 0.0,
        "reward/answered_share": fmean(sample.has_answer for sample in samples),
        "reward/groups_all_right": num_right / len(groups),
        "reward/groups_all_wrong": num_wrong / len(groups),
        "response/length_mean": fmean(lengths),
        "response/length_std": pstdev(lengths),
        "response/length_max": float(max(lengths)),
        "response/length_min": float(min(lengths)),
        "response/truncated_share": fmean(not sample.is_complete for sample in samples),
        "sampling/rounds": float(rollouts.num_rounds),
        "sampling/groups_drawn": float(len(groups)),
        "sampling/groups_kept": float(rollouts.num_groups_kept),
        "sampling/groups_missing": float(recipe.prompts_per_step - rollouts.num_groups_kept),
        "data/position": float(rollouts.position),
    }
