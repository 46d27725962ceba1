from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trainers.learning_rate import learning_rate
from trainers.lite.optimizer import make_optimizer, set_learning_rate
from trainers.recipe import Recipe

RecipeOf = Callable[..., Recipe]


def rates(recipe_of: RecipeOf, **changes: object) -> list[float]:
    recipe = recipe_of(learning_rate=1.0, **changes)
    return [learning_rate(recipe, step) for step in range(1, recipe.steps + 1)]


def test_the_rate_stays_where_no_schedule_is_asked(recipe_of: RecipeOf) -> None:
    assert rates(recipe_of, steps=3) == [1.0, 1.0, 1.0]


def test_the_rate_warms_up_and_then_falls_as_scheduled(recipe_of: RecipeOf) -> None:
    assert rates(recipe_of, steps=6, lr_warmup_steps=2) == [0.5, 1, 1, 1, 1, 1]
    assert rates(recipe_of, steps=6, lr_warmup_steps=2, lr_schedule="linear") == [0.5, 1, 1, 0.75, 0.5, 0.25]
    cosine = rates(recipe_of, steps=5, lr_warmup_steps=1, lr_schedule="cosine")
    assert cosine == pytest.approx([1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])


def test_one_step_follows_adamw_as_published(recipe_of: RecipeOf) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = make_optimizer([weight], recipe_of(learning_rate=0.1, weight_decay=0.01, adam_beta2=0.99))
    first = second = 0.0
    expected = weight.detach().clone()
    for step, gradient in enumerate((torch.tensor([0.5, -1.0]), torch.tensor([0.25, 3.0])), start=1):
        set_learning_rate(optimizer, 0.1 / step)
        weight.grad = gradient.double()
        optimizer.step()
        first = 0.9 * first + 0.1 * gradient.double()
        second = 0.99 * second + 0.01 * gradient.double() ** 2
        expected = expected * (1 - 0.1 / step * 0.01)
        moved = (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-8)
        expected = expected - 0.1 / step * moved
    assert torch.allclose(weight, expected, atol=1e-12, rtol=0)


def test_frozen_parameters_are_left_out(recipe_of: RecipeOf) -> None:
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    free = torch.nn.Parameter(torch.ones(3))
    (group,) = make_optimizer([frozen, free], recipe_of()).param_groups
    assert [parameter.numel() for parameter in group["params"]] == [3]
