"""What a researcher plots of one step's sampling, before anything is learned from it."""

from __future__ import annotations

from itertools import groupby
from statistics import fmean, pstdev

from trainers.api import Recipe
from trainers.lite.rollout import Rollouts


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
