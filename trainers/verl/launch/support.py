"""What verl can honour of a recipe. Light: a plan asks before anything is booked.

verl 0.9.1 ignores without a word what it does not know; here every such field is refused by its name.
"""

from __future__ import annotations

from pathlib import Path

from eval.errors import OrchError
from trainers.methods import METHODS
from trainers.recipe import Recipe, Resources
from trainers.verl.launch.preflight import check_model


def check_support(recipe: Recipe, resources: Resources) -> None:
    """Raise OrchError for what a verl trial would not do as the recipe says."""
    selection = recipe.selection
    if recipe.update != "dense":
        raise _refused("recipe.update", recipe.update, "verl runs every position: write update: dense")
    if recipe.model.dtype != "float32" and not resources.num_gpus:
        raise _refused("model.dtype", recipe.model.dtype, "float32, or ask for a GPU with cluster.num_gpus")
    if selection.order == "before_filter":
        raise _refused("selection.order", selection.order, "after_filter, or trainer: lite")
    if recipe.mini_batch_prompts % num_workers(resources):
        raise _refused(
            "recipe.mini_batch_prompts",
            f"{recipe.mini_batch_prompts} on {num_workers(resources)} workers",
            "a multiple of cluster.num_gpus × cluster.num_nodes: each GPU takes whole groups",
        )
    if Path(recipe.model.path).is_dir():
        check_model(Path(recipe.model.path), recipe)
    longest = recipe.data.max_prompt_tokens + recipe.data.max_response_tokens
    if resources.tokens_per_pass is not None and resources.tokens_per_pass < longest:
        raise _refused(
            "cluster.tokens_per_pass",
            resources.tokens_per_pass,
            f"{longest} or more: a sequence may be that long",
        )


def sequences_together(recipe: Recipe) -> int:
    """How many sequences must be scored by one worker: a group's, where the method averages over it."""
    return recipe.group_size if METHODS[recipe.selection.method].needs_whole_groups else 1


def is_corrected(recipe: Recipe) -> bool:
    """Whether a rollout correction needs to know how probable its tokens were to the sampler."""
    return recipe.algorithm.rollout_is is not None or recipe.algorithm.rollout_rs is not None


def num_workers(resources: Resources) -> int:
    """Processes that train a policy: one a GPU, or one a node without any."""
    return max(1, resources.num_gpus) * resources.num_nodes


def _refused(key: str, value: object, wanted: str) -> OrchError:
    return OrchError(f"trainer verl cannot honour {key} = {value}", where=key, fix=wanted)
