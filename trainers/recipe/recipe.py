"""Everything that changes a run's numbers: keys of the groups `model/`, `data/` and `recipe/`, and their ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eval.errors import OrchError
from trainers.recipe.algorithm import Algorithm
from trainers.recipe.ranges import NOT_IDENTITY, check_finite, require
from trainers.recipe.selection import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which weights a run starts from."""

    path: str = field(metadata=NOT_IDENTITY)
    """`builtin:arithmetic-tiny`, a Hugging Face folder, or a hub id."""
    revision: str | None = field(default=None, metadata=NOT_IDENTITY)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    trust_remote_code: bool = False
    gradient_checkpointing: bool | None = field(default=None, metadata=NOT_IDENTITY)
    """Keep each layer's input only, and make the layer again in the backward pass; null: on GPUs. Same gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the policy is trained on."""

    name: str = field(metadata=NOT_IDENTITY)
    """A training set of `eval.benchmarks`, or the path of a jsonl file."""
    template: str
    """Prompt template, a name of `eval.templates`."""
    max_prompt_tokens: int
    max_response_tokens: int
    limit: int | None = None
    """Use only the first rows."""

    def __post_init__(self) -> None:
        """Raise OrchError for what does not fit."""
        _check_data(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that changes a run's numbers, except its seed and the bytes of its data and model."""

    trainer: str = "lite"
    """`lite`, `verl`, or `package.module:Class` of a Trainer."""
    algorithm: Algorithm
    selection: Selection
    model: Model
    data: Data
    steps: int
    """Optimizer-visible training steps: one batch of prompts each."""
    prompts_per_step: int
    group_size: int
    """G responses a prompt."""
    mini_batch_prompts: int
    """Prompts of one optimizer update; prompts_per_step is a multiple of it."""
    ppo_epochs: int = 1
    learning_rate: float
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    lr_warmup_steps: int = 0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float | None = 1.0
    temperature: float = 1.0
    """Sampling temperature of rollouts; log-probs and entropies are taken at it as well."""
    top_p: float = 1.0
    update: Literal["sparse", "dense"] = "sparse"
    """Whether unselected positions are skipped in the update; same gradients either way."""

    def __post_init__(self) -> None:
        """Raise OrchError for what does not fit."""
        _check(self)

    @property
    def is_rescored(self) -> bool:
        """Whether each update of a step but the first selects anew, by the policy as it then is.

        A single update selects by the policy that sampled, which is the current one still.
        """
        is_several = self.ppo_epochs > 1 or self.mini_batch_prompts < self.prompts_per_step
        return is_several and self.selection.score_policy == "current"


def _check_data(data: Data) -> None:
    """Raise OrchError if a length or a limit is not positive."""
    for name in ("max_prompt_tokens", "max_response_tokens", "limit"):
        value = getattr(data, name)
        require(value is None or value >= 1, f"data.{name}", value, "1 or more")


def _check(recipe: Recipe) -> None:
    """Raise OrchError if a number is out of range or the batch sizes do not fit each other."""
    check_finite("recipe", recipe)
    key = "recipe.{}".format
    for name in ("steps", "prompts_per_step", "mini_batch_prompts", "ppo_epochs"):
        require(getattr(recipe, name) >= 1, key(name), getattr(recipe, name), "1 or more")
    if recipe.group_size < 2:
        raise OrchError(
            f"recipe.group_size is {recipe.group_size}: a group of one has no advantage",
            where=key("group_size"),
            fix="use 2 or more responses a prompt",
        )
    if recipe.prompts_per_step % recipe.mini_batch_prompts:
        raise OrchError(
            f"recipe.prompts_per_step ({recipe.prompts_per_step}) is not a multiple of "
            f"recipe.mini_batch_prompts ({recipe.mini_batch_prompts})",
            where=key("mini_batch_prompts"),
            fix="choose a mini-batch that divides the batch of prompts",
        )
    _check_optimizer(recipe)
    _check_order(recipe)
    _check_sampler(recipe)
    require(recipe.temperature > 0, key("temperature"), recipe.temperature, "above 0")
    require(0 < recipe.top_p <= 1, key("top_p"), recipe.top_p, "in (0, 1]")
    buffer, limit = recipe.algorithm.overlong_buffer, recipe.data.max_response_tokens
    if buffer is not None and buffer >= limit:
        raise OrchError(
            f"algorithm.overlong_buffer ({buffer}) does not fit under data.max_response_tokens ({limit})",
            where="algorithm.overlong_buffer",
            fix="the soft-punished zone is the last part of the response: make it shorter",
        )


def _check_optimizer(recipe: Recipe) -> None:
    key = "recipe.{}".format
    require(recipe.learning_rate > 0, key("learning_rate"), recipe.learning_rate, "above 0")
    require(recipe.lr_warmup_steps >= 0, key("lr_warmup_steps"), recipe.lr_warmup_steps, "0 or more")
    require(recipe.weight_decay >= 0, key("weight_decay"), recipe.weight_decay, "0 or more")
    for name in ("adam_beta1", "adam_beta2"):
        require(0 <= getattr(recipe, name) < 1, key(name), getattr(recipe, name), "in [0, 1)")
    norm = recipe.max_grad_norm
    require(norm is None or norm > 0, key("max_grad_norm"), norm, "above 0, or null")


def _check_order(recipe: Recipe) -> None:
    if recipe.selection.order == "after_filter":
        return
    if not recipe.algorithm.dynamic_sampling or recipe.selection.scope != "batch":
        raise OrchError(
            "selection.order is before_filter, which changes nothing here",
            where="selection.order",
            fix="it needs algorithm.dynamic_sampling, which filters, and scope batch, in which groups compete",
        )


def _check_sampler(recipe: Recipe) -> None:
    """Raise OrchError where the sampler is the trained policy itself, so that there is nothing to correct."""
    for name in ("rollout_is", "rollout_rs"):
        value = getattr(recipe.algorithm, name)
        if recipe.trainer == "lite" and value is not None:
            raise OrchError(
                f"algorithm.{name} is {value}, which changes nothing under trainer lite",
                where=f"algorithm.{name}",
                fix="lite samples by the weights that it trains: leave it out, or set trainer: verl",
            )
