"""What a point asks for and cannot have, though each of its keys is in range: steps that never come, too long texts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import OrchError

if TYPE_CHECKING:
    from orchestrator.config.spec import GridPoint
    from trainers.recipe import Model


def check_reach(point: GridPoint) -> None:
    """Raise OrchError for a step beyond the last one, or for texts longer than the model's context.

    Stands here and not in `Recipe`, which reads old records as well: what was run before stays readable.
    """
    recipe = point.recipe
    _check_step("recipe.lr_warmup_steps", recipe.lr_warmup_steps, recipe.steps)
    _check_step("eval.every_steps", point.evaluation.every_steps or 0, recipe.steps)
    prompt, response = recipe.data.max_prompt_tokens, recipe.data.max_response_tokens
    context = _context(recipe.model)
    if context is not None and prompt + response > context:
        raise OrchError(
            f"data.max_prompt_tokens ({prompt}) and data.max_response_tokens ({response}) exceed the context of "
            f"{recipe.model.path}, {context} tokens",
            where="data.max_response_tokens",
            fix=f"let the two come to {context} or less, or choose another model",
        )


def _check_step(key: str, step: int, steps: int) -> None:
    if step > steps:
        raise OrchError(
            f"{key} ({step}) lies beyond recipe.steps ({steps})",
            where=key,
            fix=f"set {key}={steps} or less, or raise recipe.steps",
        )


@cache
def _context(model: Model) -> int | None:
    """Longest sequence of a model that is here; None for one of a hub, so that a plan is the same after its fetch."""
    from eval.model_folder import model_context
    from trainers.models.resolve import BUILTINS

    if model.path in BUILTINS:
        return BUILTINS[model.path].context
    folder = Path(model.path)
    return model_context(folder) if (folder / "config.json").is_file() else None
