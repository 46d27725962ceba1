"""The learning rate of each step, the same for every trainer."""

from __future__ import annotations

import math

from trainers.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a training step, counted from 1; all mini-batches of a step share it.

    Rises linearly to `learning_rate` over `lr_warmup_steps`, then stays, or falls to 0 at the end, linearly or as a
    half cosine.
    """
    if step <= recipe.lr_warmup_steps:
        return recipe.learning_rate * step / recipe.lr_warmup_steps
    if recipe.lr_schedule == "constant":
        return recipe.learning_rate
    progress = (step - recipe.lr_warmup_steps - 1) / max(1, recipe.steps - recipe.lr_warmup_steps)
    if recipe.lr_schedule == "linear":
        return recipe.learning_rate * (1 - progress)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
