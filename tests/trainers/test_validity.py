from dataclasses import fields, replace
from typing import Any

import pytest

from eval.errors import OrchError
from trainers.methods import METHODS, PRESETS
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection

ALGORITHM: dict[str, Any] = {"name": "grpo", "clip_low": 0.2, "clip_high": 0.2, "loss_mean": "sequence"}
DATA: dict[str, Any] = {"name": "d", "template": "chat", "max_prompt_tokens": 8, "max_response_tokens": 8}
NEEDED: dict[str, dict[str, Any]] = {
    name: {"ratio": 0.2} if method.has_ratio else {} for name, method in METHODS.items()
} | {name: {"probability_threshold": 0.002, "entropy_quantile": 0.8} for name in ("stapo_v1", "stapo_v4")}


def recipe(**changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "algorithm": Algorithm(**ALGORITHM),
        "selection": Selection(method="full"),
        "model": Model(path="m"),
        "data": Data(**DATA),
        "steps": 4,
        "prompts_per_step": 8,
        "group_size": 2,
        "mini_batch_prompts": 4,
        "learning_rate": 1e-3,
    }
    return Recipe(**plain | changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip_low", 0.0), ("clip_low", 1.5), ("clip_high", 0.0), ("clip_high", float("nan")), ("dual_clip", 1.0),
        ("kl_coef", -0.1), ("entropy_coef", -1.0), ("max_sampling_rounds", 0), ("overlong_buffer", 0),
        ("overlong_factor", 0.0), ("overlong_factor", 2.0),
    ],
)  # fmt: skip
def test_an_objective_out_of_range_is_refused(key: str, value: float) -> None:
    with pytest.raises(OrchError) as refused:
        Algorithm(**ALGORITHM | {key: value})
    assert refused.value.where == f"algorithm.{key}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0), ("prompts_per_step", 0), ("group_size", 1), ("mini_batch_prompts", 3), ("ppo_epochs", 0),
        ("learning_rate", 0.0), ("learning_rate", float("inf")), ("lr_warmup_steps", -1),
        ("weight_decay", -0.1), ("adam_beta1", 1.0), ("adam_beta2", -0.1), ("max_grad_norm", 0.0),
        ("temperature", 0.0), ("top_p", 0.0), ("top_p", 1.1),
    ],
)  # fmt: skip
def test_a_recipe_out_of_range_is_refused(key: str, value: float) -> None:
    with pytest.raises(OrchError) as refused:
        recipe(**{key: value})
    assert refused.value.where == f"recipe.{key}"


@pytest.mark.parametrize("key", ["max_prompt_tokens", "max_response_tokens", "limit"])
def test_lengths_are_positive(key: str) -> None:
    with pytest.raises(OrchError, match=f"data.{key} is 0"):
        Data(**DATA | {key: 0})


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_gpus", -1), ("num_cpus", 0), ("num_nodes", 0), ("memory_gb", 0.0), ("micro_batch_sequences", 0),
     ("sample_batch_sequences", 0), ("checkpoint_every", 0), ("keep_checkpoints", 0)],
)  # fmt: skip
def test_resources_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(OrchError, match=f"cluster.{key} is"):
        Resources(**{key: value})  # type: ignore[arg-type]  # one value for fields of several types


def test_the_soft_punished_zone_fits_under_the_response_limit() -> None:
    with pytest.raises(OrchError, match=r"overlong_buffer \(8\) does not fit under data.max_response_tokens \(8\)"):
        recipe(algorithm=Algorithm(**ALGORITHM, overlong_buffer=8))
    assert recipe(algorithm=Algorithm(**ALGORITHM, overlong_buffer=7)).steps == 4


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_asked_for(name: str) -> None:
    assert Selection(method=name, **NEEDED[name]).method == name


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, method in METHODS.items() for key in sorted(method.required)]
)
def test_what_a_method_needs_must_be_given(name: str, key: str) -> None:
    given = {option: value for option, value in NEEDED[name].items() if option != key}
    with pytest.raises(OrchError, match=f"selection.{key} is not given, and method {name} needs it"):
        Selection(method=name, **given)


def test_options_that_a_method_does_not_take_are_refused() -> None:
    values: dict[str, Any] = {
        "ratio": 0.2, "end": "bottom", "scope": "response", "scope_sequences": 4, "score_policy": "current",
        "count_rule": "keep_ties", "normaliser": "all", "kl_scope": "all", "warmup_steps": 3,
        "order": "before_filter", "schedule": "linear", "schedule_from": 0.5, "schedule_steps": 3,
        "schedule_list": ((0, 0.2),), "leave_one_out": True, "divide_by_bound": True, "advantage_weight": 0.1,
        "advantage_per_token": True, "probability_threshold": 0.1, "entropy_quantile": 0.5,
    }  # fmt: skip
    assert set(values) == {field.name for field in fields(Selection)} - {"method", "preset"}
    for method in METHODS.values():
        for key in values.keys() - method.options:
            with pytest.raises(OrchError, match=f"selection.{key} = .* has no meaning for method {method.name}"):
                Selection(method=method.name, **NEEDED[method.name] | {key: values[key]})


def test_a_ratio_for_the_dense_baseline_is_told_to_take_a_condition() -> None:
    with pytest.raises(OrchError) as refused:
        Selection(method="full", ratio=0.2)
    assert "when: {selection.ratio: {selection: [random, ets," in refused.value.fix


def test_an_advantage_weight_that_ranks_nothing_is_refused() -> None:
    with pytest.raises(OrchError, match="changes nothing where tokens compete within a response"):
        Selection(method="ict", ratio=0.2, scope="response", advantage_weight=0.1)
    assert Selection(method="ict", ratio=0.2, scope="group", advantage_weight=0.1).advantage_weight == 0.1


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, float("nan")])
def test_a_ratio_is_a_share(ratio: float) -> None:
    with pytest.raises(OrchError, match=r"selection\.ratio is"):
        Selection(method="ets", ratio=ratio)


def test_an_unknown_method_is_told_its_neighbour() -> None:
    with pytest.raises(OrchError) as refused:
        Selection(method="gmst", ratio=0.2)
    assert refused.value.what == "unknown selection method 'gmst'"
    assert refused.value.fix.startswith("did you mean gmts? valid: full, random, ets,")


@pytest.mark.parametrize(
    "switches",
    [
        {"schedule": "linear"},
        {"schedule_steps": 3},
        {"schedule": "cosine", "schedule_steps": 0},
        {"schedule": "linear", "schedule_steps": 3, "schedule_list": ((0, 0.2),)},
        {"schedule": "steps"},
        {"schedule": "steps", "schedule_list": ()},
        {"schedule": "steps", "schedule_list": ((5, 0.5), (3, 0.2))},
        {"schedule": "steps", "schedule_list": ((0, 1.5), (3, 0.2))},
        {"schedule": "steps", "schedule_list": ((0, 0.5), (3, 0.4))},
        {"scope": "micro_batch"},
        {"scope": "batch", "scope_sequences": 4},
    ],
)
def test_half_a_schedule_or_scope_is_refused(switches: dict[str, Any]) -> None:
    with pytest.raises(OrchError, match="selection"):
        Selection(method="ets", ratio=0.2, **switches)


def test_whole_schedules_are_taken() -> None:
    steps = Selection(method="ets", ratio=0.2, schedule="steps", schedule_list=((0, 0.5), (3, 0.2)))
    assert steps.schedule_list == ((0, 0.5), (3, 0.2))
    assert Selection(method="ets", ratio=0.2, schedule="linear", schedule_from=0.8, schedule_steps=3).ratio == 0.2


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_its_switches_together(name: str) -> None:
    stated: dict[str, Any] = dict(PRESETS[name])
    extra = {**NEEDED[stated["method"]], **({"scope_sequences": 4} if stated["scope"] == "micro_batch" else {})}
    whole = Selection(**extra | stated, preset=name)
    assert replace(whole, preset=None).scope == stated["scope"]
    with pytest.raises(OrchError, match=rf"selection.order is|but preset {name} states"):
        replace(whole, normaliser="all" if stated["normaliser"] == "selected" else "selected")


def test_an_unknown_preset_is_told_its_neighbour() -> None:
    with pytest.raises(OrchError, match="did you mean ets_code"):
        Selection(method="ets", ratio=0.2, preset="ets_cod")
