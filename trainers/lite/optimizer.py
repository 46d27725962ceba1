"""AdamW and the learning-rate schedule of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.optim import AdamW

from trainers.api import Recipe


def make_optimizer(parameters: Iterable[torch.nn.Parameter], recipe: Recipe) -> AdamW:
    """Return AdamW over the trainable parameters, fused where the device's kernels allow.

    Source: Loshchilov and Hutter, arXiv 1711.05101; weight decay applies to every parameter, as verl and TRL do.
    """
    return AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=recipe.learning_rate,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=1e-8,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


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


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value
