import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.codec import CodecError, decode, encode


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    number: int
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    name: str
    leaves: tuple[Leaf, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    axes: dict[str, str | int | float]
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    folder: Path | None = None
    extra: dict[str, Any] | None = None


def through_json(tree: Tree) -> Tree:
    return decode(Tree, json.loads(json.dumps(encode(tree), allow_nan=False)))


leaves = st.builds(Leaf, number=st.integers(), share=st.none() | st.floats(allow_nan=False))
finite = st.floats(allow_nan=False, allow_infinity=False)
trees = st.builds(
    Tree,
    name=st.text(),
    leaves=st.lists(leaves, max_size=3).map(tuple),
    pair=st.tuples(st.integers(), st.floats(allow_nan=False)),
    axes=st.dictionaries(st.text(), st.text() | st.integers() | finite, max_size=3),
    colour=st.sampled_from(Colour),
    kind=st.sampled_from(["a", "b"]),
    folder=st.none() | st.just(Path("a/b")),
)


@given(trees)
def test_whatever_is_written_reads_back_equal(tree: Tree) -> None:
    again = through_json(tree)
    assert again == tree
    for name, value in tree.axes.items():
        assert type(again.axes[name]) is type(value)


def test_nan_survives_strict_json() -> None:
    again = decode(Leaf, json.loads(json.dumps(encode(Leaf(number=1, share=math.nan)), allow_nan=False)))
    assert again.share is not None
    assert math.isnan(again.share)


def test_an_absent_field_takes_its_default() -> None:
    assert decode(Leaf, {"number": 3}) == Leaf(number=3, share=None)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"share": 1.0}, "Leaf: missing field number"),
        ({"number": 1, "colour": "red"}, "Leaf: unknown field colour"),
        ({"number": "1"}, "number: expected int, found '1'"),
        ({"number": True}, "number: expected int, found True"),
        ({"number": 1, "share": "much"}, "share: expected a number, found 'much'"),
        ([1], "Leaf: expected an object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(payload: Any, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(Leaf, payload)


def test_the_place_of_a_nested_misfit_is_its_path() -> None:
    with pytest.raises(CodecError, match=r"leaves\[1\]\.number: expected int"):
        decode(Tree, {"name": "t", "axes": {}, "leaves": [{"number": 1}, {"number": None}]})


def test_a_value_without_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no JSON form"):
        encode({"a": {1, 2}})


def test_a_section_that_was_read_before_is_shared_and_its_types_still_checked() -> None:
    first, again = (decode(Leaf, {"number": 1}) for _ in range(2))
    assert first is again
    with pytest.raises(CodecError, match="expected int"):
        decode(Leaf, {"number": 1.0})
    with pytest.raises(CodecError, match="expected int"):
        decode(Leaf, {"number": True})
