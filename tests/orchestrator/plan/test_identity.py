import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.identity import base_trial_id, canonical_json, hash_of, trial_id
from trainers.recipe import Algorithm, Data, Model, Recipe, Selection

GOLDEN = Path(__file__).parents[1] / "golden" / "ids.json"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def recipe(**changes: Any) -> Recipe:
    plain = Recipe(
        algorithm=Algorithm(name="grpo", clip_low=0.2, clip_high=0.2, loss_mean="sequence"),
        selection=Selection(method="ets", ratio=0.2),
        model=Model(path="builtin:arithmetic-tiny"),
        data=Data(name="arithmetic_train", template="chat", max_prompt_tokens=64, max_response_tokens=64),
        steps=40,
        prompts_per_step=16,
        group_size=16,
        mini_batch_prompts=16,
        learning_rate=3e-4,
    )
    return replace(plain, **changes)


def identity(what: Recipe, *, seed: int = 0, data: str = "data", model: str = "model") -> str:
    return trial_id(what, seed=seed, data_digest=data, model_digest=model)


def test_ids_are_the_recorded_ones() -> None:
    # If this fails, every trial on users' disks would be trained again: add optional knobs as `X | None = None`.
    dense = recipe(selection=Selection(method="full"))
    ids = {
        "ets": identity(recipe()),
        "dense": identity(dense),
        "dense, seed 1": identity(dense, seed=1),
        "gmts paper": identity(recipe(selection=Selection(method="gmts", ratio=0.2, normaliser="all"))),
        "base": base_trial_id(Model(path="builtin:arithmetic-tiny"), model_digest="model"),
    }
    assert ids == json.loads(GOLDEN.read_text())


def test_an_id_is_the_hash_of_its_parts_as_one_canonical_value() -> None:
    whole = {"recipe": recipe(), "seed": 3, "data": 'a "b"', "model": "m"}
    assert identity(recipe(), seed=3, data='a "b"', model="m") == hash_of(whole)
    assert len(hash_of(whole)) == 12
    assert set(hash_of(whole)) <= set("0123456789abcdef")


def test_seed_data_and_weights_each_make_another_trial() -> None:
    ids = [
        identity(recipe()),
        identity(recipe(), seed=1),
        identity(recipe(), data="other"),
        identity(recipe(), model="other"),
        identity(recipe(steps=41)),
        identity(recipe(selection=Selection(method="ets", ratio=0.1))),
    ]
    assert len(set(ids)) == len(ids)


def test_names_that_a_digest_stands_for_do_not_enter() -> None:
    moved = recipe(
        model=Model(path="/elsewhere/model", revision="main"), data=replace(recipe().data, name="/elsewhere/rows.jsonl")
    )
    assert identity(moved) == identity(recipe())
    assert base_trial_id(Model(path="a"), model_digest="d") == base_trial_id(Model(path="b"), model_digest="d")
    assert base_trial_id(Model(path="a"), model_digest="d") != base_trial_id(Model(path="a"), model_digest="e")


def test_a_preset_only_describes() -> None:
    switches: dict[str, Any] = {"method": "gmts", "ratio": 0.2, "normaliser": "all"}
    named = Selection(preset="gmts_paper", **switches)
    assert identity(recipe(selection=named)) == identity(recipe(selection=Selection(**switches)))


def test_a_constant_schedule_is_no_schedule() -> None:
    spelled = Selection(method="ets", ratio=0.2, schedule="constant")
    assert identity(recipe(selection=spelled)) == identity(recipe())


def test_fields_left_at_none_do_not_enter() -> None:
    assert canonical_json({"a": 1, "b": None}) == '{"a":1}'
    assert "dual_clip" not in canonical_json(recipe())


def test_numbers_have_one_spelling() -> None:
    assert canonical_json([0.2, 1.0, 1, -0.0, 3e-4, 1e22]) == "[0.2,1,1,0,0.0003,10000000000000000000000]"
    assert canonical_json(True) != canonical_json(1)
    assert identity(recipe(max_grad_norm=1)) == identity(recipe(max_grad_norm=1.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"value\.a\[0\] is"):
        canonical_json({"a": [value]})


@pytest.mark.parametrize("value", [{1, 2}, b"x", Path("x"), object(), np.float32(1.0), Recipe, {1: "a"}])
def test_what_has_no_canonical_spelling_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="value"):
        canonical_json({"a": value} if not isinstance(value, dict) else value)


@given(VALUES)
def test_the_spelling_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    def turned(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: turned(item) for key, item in reversed(part.items())}
        return [turned(item) for item in part] if isinstance(part, list) else part

    assert canonical_json(turned(value)) == canonical_json(value)


@given(VALUES)
def test_the_spelling_reads_back_as_what_it_spells(value: Any) -> None:
    def without_none(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: without_none(item) for key, item in part.items() if item is not None}
        return [without_none(item) for item in part] if isinstance(part, list) else part

    assert json.loads(canonical_json(value)) == without_none(value)
