"""Prompts → responses → rewards → advantages: the batch that one training step learns from.

Under dynamic sampling, groups whose rewards are all equal teach nothing: they are dropped and others drawn, in at
most `max_sampling_rounds` rounds; the batch may stay short, which the metrics show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from eval.engines.decoding import Decoding, generate
from eval.seeds import derive_seed
from trainers.prompts import Prompt, PromptOrder
from trainers.recipe import Recipe
from trainers.rewards import rewards
from trainers.rollouts import Rollouts, Sample, group_has_signal, make_batch, num_to_draw


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
        # The engine returns responses as they end; their rows say which prompt each belongs to.
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
        kept += [group for group in drawn if not is_dynamic or group_has_signal(group)]
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


def _learned_groups(groups: list[list[Sample]], kept: list[list[Sample]], recipe: Recipe) -> list[list[Sample]]:
    """Return the groups of the batch; a selection made before the filter must see the dropped ones as well."""
    if recipe.selection.order == "after_filter":
        return kept
    # Up to the last group of the batch: what was drawn after it plays no part, kept or dropped.
    last = groups.index(kept[-1]) if len(kept) == recipe.prompts_per_step else len(groups) - 1
    return groups[: last + 1]
