"""What lite can honour of a recipe. Light: a plan asks before anything is booked."""

from __future__ import annotations

from eval.errors import OrchError
from trainers.recipe import Recipe, Resources


def check_support(recipe: Recipe, resources: Resources) -> None:
    """Raise OrchError for what a lite trial could not do as the recipe says."""
    if resources.num_gpus > 1 or resources.num_nodes > 1:
        raise OrchError(
            f"trainer lite works on one device, and {resources.num_gpus} GPUs on {resources.num_nodes} nodes are asked",
            where="cluster.num_nodes" if resources.num_nodes > 1 else "cluster.num_gpus",
            fix="set cluster.num_nodes to 1 and cluster.num_gpus to 0 or 1, or choose trainer: verl",
        )
    if recipe.model.dtype == "float16":
        raise OrchError(
            "trainer lite does not train in float16: its gradients underflow without loss scaling",
            where="model.dtype",
            fix="float32 or bfloat16, or choose trainer: verl",
        )
    if resources.tokens_per_pass is not None:
        raise OrchError(
            f"trainer lite cuts its passes by sequences, and cluster.tokens_per_pass is {resources.tokens_per_pass}",
            where="cluster.tokens_per_pass",
            fix="leave it out and set cluster.micro_batch_sequences, or choose trainer: verl",
        )
