"""What verl can honour of a recipe. Light: a plan asks before anything is booked.

verl 0.9.1 ignores without a word what it does not know; here every such field is refused by its name.
"""

from __future__ import annotations

from eval.errors import OrchError
from trainers.api import Recipe, Resources


def check_support(recipe: Recipe, resources: Resources, *, evaluate_every: int | None = None) -> None:
    """Raise OrchError for what a verl trial would not do as the recipe says."""
    selection = recipe.selection
    if evaluate_every is not None:
        raise _refused("eval.every_steps", evaluate_every, "leave it out: the final policy is evaluated")
    if recipe.update != "dense":
        raise _refused("recipe.update", recipe.update, "verl runs every position: write update: dense")
    if recipe.model.dtype == "float16":
        raise _refused("model.dtype", recipe.model.dtype, "float32 or bfloat16")
    if recipe.model.dtype != "float32" and not resources.num_gpus:
        raise _refused("model.dtype", recipe.model.dtype, "float32, or ask for a GPU with cluster.num_gpus")
    if selection.order == "before_filter":
        raise _refused("selection.order", selection.order, "after_filter, or trainer: lite")
    is_several = recipe.ppo_epochs > 1 or recipe.mini_batch_prompts < recipe.prompts_per_step
    if is_several and selection.score_policy == "current" and selection.method not in ("full", "random"):
        raise _refused(
            "selection.score_policy",
            f"current with several updates a step, and trainer verl scores once a step: {selection.score_policy}",
            "score_policy: old, or one mini-batch and one epoch a step, or trainer: lite",
        )
    if resources.num_nodes > 1:
        raise _refused("cluster.num_nodes", resources.num_nodes, "1: a verl trial runs its own Ray on one machine")
    if recipe.mini_batch_prompts % max(1, resources.num_gpus):
        raise _refused(
            "recipe.mini_batch_prompts",
            f"{recipe.mini_batch_prompts} on {resources.num_gpus} GPUs",
            "a multiple of cluster.num_gpus: each GPU takes whole groups",
        )


def _refused(key: str, value: object, wanted: str) -> OrchError:
    return OrchError(f"trainer verl cannot honour {key} = {value}", where=key, mend=wanted)
