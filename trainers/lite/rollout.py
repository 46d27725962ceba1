"""Prompts → responses → rewards → advantages: the batch that one training step learns from.

Under dynamic sampling, groups whose rewards are all equal teach nothing: they are dropped and others drawn, in at
most `max_sampling_rounds` rounds; the batch may stay short, which the metrics show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from eval.engines.decoding import Decoding, generate
from eval.seeds import derive_seed
from trainers.advantages import group_advantages, has_signal, overlong_penalty
from trainers.api import Recipe
from trainers.batch import RolloutBatch
from trainers.lite.prompts import Prompt, PromptOrder
from trainers.rewards import rewards


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSource:
    """Where responses come from: the data, the policy's engine, and the run's seed."""

    prompts: PromptOrder
    model: Any
    """The policy to sample, a transformers causal language model."""
    decoding: Decoding
    decode: Callable[[Sequence[int]], str]
    seed: int

    def sample(self, prompts: Sequence[Prompt], group_size: int) -> list[Sample]:
        """Draw and grade `group_size` responses to each prompt, in the order of the prompts."""
        asked = [(prompt, index) for prompt in prompts for index in range(group_size)]
        seeds = [derive_seed(self.seed, "rollout", prompt.position, index) for prompt, index in asked]
        responses = sorted(
            generate(self.model, [prompt.tokens for prompt, _ in asked], seeds=seeds, decoding=self.decoding),
            key=lambda response: response.row,
        )
        pairs = [
            (self.decode(response.tokens), prompt.problem)
            for response, (prompt, _) in zip(responses, asked, strict=True)
        ]
        return [
            Sample(
                prompt=prompt,
                index=index,
                tokens=response.tokens,
                is_complete=response.is_complete,
                reward=reward.value,
                has_answer=reward.has_answer,
                statistics=response.statistics,
            )
            for (prompt, index), response, reward in zip(asked, responses, rewards(pairs), strict=True)
        ]


def collect_rollouts(source: RolloutSource, recipe: Recipe, *, position: int) -> Rollouts:
    """Sample one training batch from `position` of the data order on.

    Without dynamic sampling that is one round of `prompts_per_step` groups. With it, rounds go on until that many
    groups have a signal or the bound is reached; what is beyond the batch is dropped.

    Source: DAPO, arXiv 2503.14476, section 3.2; groups are judged by correctness, before the length penalty.
    """
    wanted = recipe.prompts_per_step
    groups: list[list[Sample]] = []
    kept: list[list[Sample]] = []
    num_rounds = 0
    is_dynamic = recipe.algorithm.dynamic_sampling
    while len(kept) < wanted and num_rounds < (recipe.algorithm.max_sampling_rounds if is_dynamic else 1):
        prompts, position = source.prompts.take(position, num_to_draw(wanted, len(kept), len(groups)))
        samples = source.sample(prompts, recipe.group_size)
        drawn = [samples[start : start + recipe.group_size] for start in range(0, len(samples), recipe.group_size)]
        groups += drawn
        kept += [group for group in drawn if not is_dynamic or _has_signal(group)]
        num_rounds += 1
    kept = kept[:wanted]
    batch = make_batch(_learned_groups(groups, kept, recipe), recipe, pad_token=source.decoding.pad_token)
    if recipe.selection.order == "before_filter":
        trained_N = torch.tensor([group[0].prompt.position for group in kept], dtype=torch.int64)
        batch = replace(batch, is_trained_B=torch.isin(batch.group_B, trained_N))
    return Rollouts(
        batch=batch,
        samples=[sample for group in groups for sample in group],
        num_rounds=num_rounds,
        num_groups_kept=len(kept),
        position=position,
    )


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


def _has_signal(group: Sequence[Sample]) -> bool:
    rewards_B = torch.tensor([sample.reward for sample in group])
    return bool(has_signal(rewards_B, torch.zeros(len(group), dtype=torch.int64)).any())


def _learned_groups(groups: list[list[Sample]], kept: list[list[Sample]], recipe: Recipe) -> list[list[Sample]]:
    """Return the groups of the batch; a selection made before the filter must see the dropped ones as well."""
    if recipe.selection.order == "after_filter":
        return kept
    last = groups.index(kept[-1]) if len(kept) == recipe.prompts_per_step else len(groups) - 1
    return groups[: last + 1]
