"""What the sections of a `Recipe` may say: ranges, and combinations that would mean nothing.

Called by `__post_init__` in `trainers/api.py`. `where` of every error is the dotted key as an experiment file
writes it (`selection.ratio`, `recipe.steps`), so that the plan can add the file and line.
"""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any

from eval.errors import OrchError
from trainers.methods import METHODS, PRESETS

if TYPE_CHECKING:
    from trainers.api import Algorithm, Data, Recipe, Resources, Selection


def check_algorithm(algorithm: Algorithm) -> None:
    """Raise OrchError if the objective's numbers are out of range or an option has nothing to act on."""
    check_finite("algorithm", algorithm)
    key = "algorithm.{}".format
    require(0 < algorithm.clip_low <= 1, key("clip_low"), algorithm.clip_low, "in (0, 1]")
    require(algorithm.clip_high > 0, key("clip_high"), algorithm.clip_high, "above 0")
    if algorithm.dual_clip is not None:
        require(algorithm.dual_clip > 1, key("dual_clip"), algorithm.dual_clip, "above 1, or null")
    require(algorithm.kl_coef >= 0, key("kl_coef"), algorithm.kl_coef, "0 or more")
    require(algorithm.entropy_coef >= 0, key("entropy_coef"), algorithm.entropy_coef, "0 or more")
    rounds = algorithm.max_sampling_rounds
    require(rounds >= 1, key("max_sampling_rounds"), rounds, "1 or more")
    buffer, factor = algorithm.overlong_buffer, algorithm.overlong_factor
    require(buffer is None or buffer >= 1, key("overlong_buffer"), buffer, "1 or more tokens, or null")
    require(factor > 0, key("overlong_factor"), factor, "above 0")
    if buffer is None:
        require(factor == 1.0, key("overlong_factor"), factor, "left out where overlong_buffer is null")
    _check_rollout_correction(algorithm)


def check_selection(selection: Selection) -> None:
    """Raise OrchError for an unknown method or preset, a missing ratio, or an option the method does not take."""
    check_finite("selection", selection)
    _check_method(selection)
    _check_ranges(selection)
    _check_schedule(selection)
    if selection.preset is not None:
        _check_preset(selection, selection.preset)


def check_data(data: Data) -> None:
    """Raise OrchError if a length or a limit is not positive."""
    for name in ("max_prompt_tokens", "max_response_tokens", "limit"):
        value = getattr(data, name)
        require(value is None or value >= 1, f"data.{name}", value, "1 or more")


def check_recipe(recipe: Recipe) -> None:
    """Raise OrchError if a number is out of range or the batch sizes do not fit each other."""
    check_finite("recipe", recipe)
    key = "recipe.{}".format
    for name in ("steps", "prompts_per_step", "mini_batch_prompts", "ppo_epochs"):
        require(getattr(recipe, name) >= 1, key(name), getattr(recipe, name), "1 or more")
    if recipe.group_size < 2:
        raise OrchError(
            f"recipe.group_size is {recipe.group_size}: a group of one has no advantage",
            where=key("group_size"),
            mend="use 2 or more responses a prompt",
        )
    if recipe.prompts_per_step % recipe.mini_batch_prompts:
        raise OrchError(
            f"recipe.prompts_per_step ({recipe.prompts_per_step}) is not a multiple of "
            f"recipe.mini_batch_prompts ({recipe.mini_batch_prompts})",
            where=key("mini_batch_prompts"),
            mend="choose a mini-batch that divides the batch of prompts",
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
            mend="the soft-punished zone is the last part of the response: make it shorter",
        )


def check_resources(resources: Resources) -> None:
    """Raise OrchError if a trial would occupy nothing or be cut into pieces of nothing."""
    check_finite("cluster", resources)
    key = "cluster.{}".format
    require(resources.num_gpus >= 0, key("num_gpus"), resources.num_gpus, "0 or more")
    for name in ("num_cpus", "num_nodes", "micro_batch_sequences", "sample_batch_sequences"):
        require(getattr(resources, name) >= 1, key(name), getattr(resources, name), "1 or more")
    for name in ("checkpoint_every", "keep_checkpoints"):
        require(getattr(resources, name) >= 1, key(name), getattr(resources, name), "1 or more")
    for name in ("start_timeout_s", "step_timeout_s"):
        require(getattr(resources, name) > 0, key(name), getattr(resources, name), "above 0")
    require(
        resources.keep_every is None or resources.keep_every >= 1, key("keep_every"), resources.keep_every, "1 or more"
    )
    require(resources.keep_best >= 0, key("keep_best"), resources.keep_best, "0 or more")
    budget = resources.tokens_per_pass
    require(budget is None or budget >= 1, key("tokens_per_pass"), budget, "1 or more, or null")
    memory = resources.memory_gb
    require(memory is None or memory > 0, key("memory_gb"), memory, "above 0, or null")


def _check_rollout_correction(algorithm: Algorithm) -> None:
    """Raise OrchError for bounds without what they bound, or the other way round."""
    for kind in ("is", "rs"):
        chosen, key = getattr(algorithm, f"rollout_{kind}"), f"algorithm.rollout_{kind}"
        upper, lower = getattr(algorithm, f"rollout_{kind}_threshold"), getattr(algorithm, f"rollout_{kind}_lower")
        if chosen is None:
            require(upper is None, f"{key}_threshold", upper, f"left out where rollout_{kind} is null")
            require(lower is None, f"{key}_lower", lower, f"left out where rollout_{kind} is null")
            continue
        require(upper is not None and upper > 0, f"{key}_threshold", upper, f"above 0 with rollout_{kind}: {chosen}")
        require(lower is None or 0 < lower <= upper, f"{key}_lower", lower, f"in (0, {upper}], or null")
    normalize, rejection = algorithm.rollout_is_batch_normalize, algorithm.rollout_rs
    require(
        normalize is None or algorithm.rollout_is is not None,
        "algorithm.rollout_is_batch_normalize", normalize, "left out where rollout_is is null",
    )  # fmt: skip
    if rejection is not None and not rejection.endswith("k1"):
        lower = algorithm.rollout_rs_lower
        require(lower is None, "algorithm.rollout_rs_lower", lower, f"left out with {rejection}: it is never negative")


def _check_sampler(recipe: Recipe) -> None:
    """Raise OrchError where the sampler is the trained policy itself, so that there is nothing to correct."""
    for name in ("rollout_is", "rollout_rs"):
        value = getattr(recipe.algorithm, name)
        if recipe.trainer == "lite" and value is not None:
            raise OrchError(
                f"algorithm.{name} is {value}, which changes nothing under trainer lite",
                where=f"algorithm.{name}",
                mend="lite samples by the weights that it trains: leave it out, or set trainer: verl",
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
            mend="it needs algorithm.dynamic_sampling, which filters, and scope batch, in which groups compete",
        )


def _check_method(selection: Selection) -> None:
    method = METHODS.get(selection.method)
    if method is None:
        raise unknown("selection method", selection.method, METHODS, where="selection.method")
    for name in sorted(method.required):
        if getattr(selection, name) is None:
            raise OrchError(
                f"selection.{name} is not given, and method {method.name} needs it",
                where=f"selection.{name}",
                mend=f"set selection.{name} in the selection file or as a grid axis",
            )
    for option in fields(selection):
        value = getattr(selection, option.name)
        if option.name in method.options | {"method", "preset"} or value == option.default:
            continue
        takers = [other.name for other in METHODS.values() if option.name in other.options]
        raise OrchError(
            f"selection.{option.name} = {value} has no meaning for method {method.name}",
            where=f"selection.{option.name}",
            mend=f"leave it out, or give the axis a `when`: "
            f"when: {{selection.{option.name}: {{selection: [{', '.join(takers)}]}}}}",
        )


def _check_ranges(selection: Selection) -> None:
    key = "selection.{}".format
    ratio, floor = selection.ratio, selection.schedule_from
    require(ratio is None or 0 < ratio <= 1, key("ratio"), ratio, "in (0, 1]: the share of tokens kept")
    require(floor is None or 0 < floor <= 1, key("schedule_from"), floor, "in (0, 1]")
    is_micro, sequences = selection.scope == "micro_batch", selection.scope_sequences
    if is_micro != (sequences is not None) or (sequences is not None and sequences < 1):
        raise OrchError(
            f"selection.scope is {selection.scope} and selection.scope_sequences is {sequences}",
            where=key("scope_sequences"),
            mend="scope micro_batch needs the number of sequences that compete (1 or more); other scopes take none",
        )
    require(selection.warmup_steps >= 0, key("warmup_steps"), selection.warmup_steps, "0 or more")
    weight = selection.advantage_weight
    require(weight is None or weight >= 0, key("advantage_weight"), weight, "0 or more")
    if weight and selection.scope == "response":
        raise OrchError(
            "selection.advantage_weight changes nothing where tokens compete within a response: |A| is equal there",
            where=key("advantage_weight"),
            mend="set selection.scope to group or batch, or leave the weight out",
        )
    for name in ("probability_threshold", "entropy_quantile"):
        value = getattr(selection, name)
        require(value is None or 0 < value < 1, key(name), value, "in (0, 1)")


def _check_schedule(selection: Selection) -> None:
    schedule = selection.schedule or "constant"
    wanted = {
        "constant": set[str](),
        "linear": {"schedule_steps"},
        "cosine": {"schedule_steps"},
        "steps": {"schedule_list"},
    }[schedule]
    optional = {"schedule_from"} if schedule in ("linear", "cosine") else set()
    for name in ("schedule_from", "schedule_steps", "schedule_list"):
        is_given = getattr(selection, name) is not None
        if name in wanted and not is_given:
            raise OrchError(
                f"selection.{name} is not given, and schedule {schedule} needs it",
                where=f"selection.{name}",
                mend=f"set selection.{name}",
            )
        if is_given and name not in wanted | optional:
            raise OrchError(
                f"selection.{name} has no meaning for schedule {schedule}",
                where=f"selection.{name}",
                mend="leave it out, or choose the schedule it belongs to",
            )
    steps = selection.schedule_steps
    require(steps is None or steps >= 1, "selection.schedule_steps", steps, "1 or more")
    if selection.schedule_list is not None:
        _check_schedule_list(selection.schedule_list, selection.ratio)


def _check_schedule_list(pairs: tuple[tuple[int, float], ...], ratio: float | None) -> None:
    where = "selection.schedule_list"
    starts = [start for start, _ in pairs]
    require(bool(pairs), where, "[]", "a list of [from step, ratio] pairs")
    require(starts == sorted(set(starts)) and starts[0] >= 0, where, starts, "steps that rise from 0 or later")
    for _, kept in pairs:
        require(0 < kept <= 1, where, kept, "a ratio in (0, 1]")
    require(pairs[-1][1] == ratio, where, pairs[-1][1], f"selection.ratio ({ratio}) at its end")


def _check_preset(selection: Selection, preset: str) -> None:
    if preset not in PRESETS:
        raise unknown("selection preset", preset, PRESETS, where="selection.preset")
    for name, stated in PRESETS[preset].items():
        value = getattr(selection, name)
        if value != stated:
            raise OrchError(
                f"selection.{name} is {value}, but preset {preset} states {stated}",
                where=f"selection.{name}",
                mend=f"drop the change, or set selection.preset to null: it is no longer {preset}",
            )


def check_finite(section: str, values: Any) -> None:
    """Raise OrchError if a number of a dataclass is NaN or infinite."""
    for field in fields(values):
        value = getattr(values, field.name)
        if isinstance(value, float):
            require(isfinite(value), f"{section}.{field.name}", value, "a finite number")


def require(is_met: bool, key: str, value: object, wanted: str) -> None:
    """Raise OrchError, saying what `key` is and what it must be, unless `is_met`."""
    if not is_met:
        raise OrchError(f"{key} is {value}", where=key, mend=f"it must be {wanted}")


def unknown(noun: str, name: str, known: Any, *, where: str) -> OrchError:
    """The error for a name that is not among `known`: did-you-mean first, then every valid choice."""
    close = get_close_matches(name, list(known), n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return OrchError(f"unknown {noun} '{name}'", where=where, mend=f"{guess}valid: {', '.join(known)}")
