from typing import Any, Literal

import pytest

from orchestrator.config.blocks import EvalSettings, Scheduling
from orchestrator.config.fields import GROUPS, build, check_keys, convert, describe, is_list, keys_of, type_of
from orchestrator.errors import OrchError
from trainers.recipe import Model, Recipe, Resources

PAIRS = tuple[tuple[int, float], ...]


@pytest.mark.parametrize(
    ("value", "hint", "fitted"),
    [
        (1, int, 1),
        (1, float, 1.0),
        (0.5, float | None, 0.5),
        (None, float | None, None),
        (True, bool, True),
        ("x", str, "x"),
        ("a", Literal["a", "b"], "a"),
        (["x", "y"], tuple[str, ...], ("x", "y")),
        ([], tuple[str, ...], ()),
        ([[0, 1], [5, 0.2]], PAIRS | None, ((0, 1.0), (5, 0.2))),
    ],
)
def test_values_are_fitted_without_guessing(value: Any, hint: Any, fitted: Any) -> None:
    found = convert(value, hint, key="k")
    assert found == fitted
    assert type(found) is type(fitted)


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        (1.0, int, "a whole number"),
        (True, int, "a whole number"),
        ("1", float, "a number"),
        (True, float, "a number"),
        (1, bool, "true or false"),
        (1, str, "a text"),
        (None, int, "a whole number"),
        ("x", int | None, "a whole number, or null"),
        ("x", tuple[str, ...], "a list, each a text"),
        ([1], tuple[str, ...], "a list, each a text"),
        ([[0, 1, 2]], PAIRS, "a list, each a list of a whole number and a number"),
        ("c", Literal["a", "b"], "one of a, b"),
        ({"a": 1}, float, "a number"),
    ],
)
def test_what_does_not_fit_is_told_what_does(value: Any, hint: Any, wanted: str) -> None:
    assert describe(hint) == wanted
    with pytest.raises(OrchError) as refused:
        convert(value, hint, key="group.key")
    assert (refused.value.what, refused.value.where) == (f"group.key is {value!r}", "group.key")
    assert refused.value.fix.endswith(f"it must be {wanted}")


def test_every_field_of_every_section_has_words_for_its_type() -> None:
    for group in GROUPS:
        for key, hint in keys_of(group).items():
            assert describe(hint), f"{group}.{key}"


def test_the_keys_of_recipe_are_its_plain_fields() -> None:
    keys = set(keys_of("recipe"))
    assert {"steps", "group_size", "learning_rate"} <= keys
    assert keys.isdisjoint({"algorithm", "selection", "model", "data", "trainer"})
    assert set(keys_of("cluster")) == set(Resources.__dataclass_fields__) | set(Scheduling.__dataclass_fields__)


def test_a_list_is_one_value_only_where_the_key_holds_a_list() -> None:
    assert is_list(type_of("eval.benchmarks"))
    assert is_list(type_of("selection.schedule_list"))
    assert not is_list(type_of("selection.ratio"))


def test_building_converts_and_leaves_the_other_dataclass_of_the_group_alone() -> None:
    values = {"num_gpus": 2, "scheduler": "inline", "memory_gb": 4}
    check_keys("cluster", values)
    assert build(Resources, values, group="cluster", given={}) == Resources(num_gpus=2, memory_gb=4.0)
    assert build(Scheduling, values, group="cluster", given={}) == Scheduling(scheduler="inline")


@pytest.mark.parametrize(("kind", "group", "missing"), [(Model, "model", "path"), (EvalSettings, "eval", "benchmarks")])
def test_a_required_key_is_asked_for_with_its_type(kind: type, group: str, missing: str) -> None:
    with pytest.raises(OrchError, match=f"{group}.{missing} is not given"):
        build(kind, {}, group=group, given={})


def test_sections_of_a_recipe_are_groups_of_their_own() -> None:
    with pytest.raises(OrchError) as refused:
        check_keys("recipe", {"trainer": "lite"})
    assert refused.value.fix.startswith("trainer stands at the top level. valid: steps,")
    assert Recipe.__dataclass_fields__["trainer"].default == "lite"
