"""AdamW and the learning-rate schedule of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.optim import AdamW

from trainers.recipe import Recipe


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


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value
