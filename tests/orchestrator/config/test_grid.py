import random
from typing import Any

import pytest

from orchestrator.config.grid import expand, read_seeds, read_sweep, replace_axis
from orchestrator.errors import OrchError


def cells(block: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Points without their seed, as tuples of values."""
    return [tuple(point.values()) for _, point in expand(read_sweep(block))]


def test_a_grid_is_the_product_of_its_axes_first_axis_slowest() -> None:
    assert cells({"grid": {"a": [1, 2], "b": ["x", "y"]}}) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_seeds_are_the_slowest_axis_so_that_a_table_fills_seed_by_seed() -> None:
    seeded = expand(read_sweep({"grid": {"a": [1, 2]}, "seeds": [5, 3]}))
    assert seeded == [(5, {"a": 1}), (5, {"a": 2}), (3, {"a": 1}), (3, {"a": 2})]


def test_no_sweep_block_is_one_point_with_seed_zero() -> None:
    assert expand(read_sweep(None)) == [(0, {})]


def test_zipped_axes_advance_together_and_cross_the_grid() -> None:
    block = {"zip": {"m": ["s", "l"], "c": [1, 8]}, "grid": {"a": [0, 1]}}
    assert cells(block) == [("s", 1, 0), ("s", 1, 1), ("l", 8, 0), ("l", 8, 1)]
    assert cells({"grid": block["grid"], "zip": block["zip"]})[:2] == [(0, "s", 1), (0, "l", 8)]


def test_several_zips_cross_each_other() -> None:
    assert cells({"zip": [{"a": [1, 2], "b": [3, 4]}, {"c": [5, 6]}]}) == [(1, 3, 5), (1, 3, 6), (2, 4, 5), (2, 4, 6)]


def test_an_axis_with_a_condition_is_absent_elsewhere_and_equal_points_collapse() -> None:
    block = {"grid": {"s": ["full", "ets"], "r": [0.1, 0.2]}, "when": {"r": {"s": ["ets"]}}}
    assert expand(read_sweep(block)) == [
        (0, {"s": "full"}),
        (0, {"s": "ets", "r": 0.1}),
        (0, {"s": "ets", "r": 0.2}),
    ]


def test_conditions_chain() -> None:
    block = {
        "grid": {"s": ["full", "ets"], "r": [0.1, 0.2], "e": ["top", "bottom"]},
        "when": {"r": {"s": "ets"}, "e": {"r": 0.1}},
    }
    assert cells(block) == [("full",), ("ets", 0.1, "top"), ("ets", 0.1, "bottom"), ("ets", 0.2)]


def test_conditions_equal_a_slow_reference() -> None:
    draw = random.Random(0)
    for _ in range(200):
        axes = {name: list(range(draw.randint(1, 3))) for name in "abc"}
        block: dict[str, Any] = {"grid": axes}
        if draw.random() < 0.7:
            block["when"] = {"b": {"a": draw.choice(axes["a"])}}
        expected = []
        for a in axes["a"]:
            for b in axes["b"]:
                for c in axes["c"]:
                    point = {"a": a, "b": b, "c": c}
                    if "when" in block and a != block["when"]["b"]["a"]:
                        del point["b"]
                    if point not in expected:
                        expected.append(point)
        assert [point for _, point in expand(read_sweep(block))] == expected


def test_excluded_points_go_and_lists_match_any_value() -> None:
    grid = {"a": [1, 2, 3], "b": [1, 2]}
    assert cells({"grid": grid, "exclude": [{"a": [1, 2], "b": 1}]}) == [(1, 2), (2, 2), (3, 1), (3, 2)]


def test_a_seed_can_be_excluded_and_included() -> None:
    block = {"grid": {"a": [1, 2]}, "seeds": [0, 1], "exclude": [{"a": 2, "seed": 1}], "include": [{"a": 3, "seed": 7}]}
    assert expand(read_sweep(block)) == [(0, {"a": 1}), (0, {"a": 2}), (1, {"a": 1}), (7, {"a": 3})]


def test_included_points_come_after_with_every_seed_and_are_not_doubled() -> None:
    block = {"grid": {"a": [1, 2]}, "seeds": [0, 1], "include": [{"a": 2}, {"a": 9, "z": [1, 2]}]}
    assert expand(read_sweep(block))[4:] == [
        (0, {"a": 9, "z": 1}),
        (1, {"a": 9, "z": 1}),
        (0, {"a": 9, "z": 2}),
        (1, {"a": 9, "z": 2}),
    ]
    assert read_sweep(block).axes == ("a", "z")


def test_include_alone_is_the_whole_sweep() -> None:
    assert cells({"include": [{"a": 1}, {"a": 4}]}) == [(1,), (4,)]


def test_list_values_are_single_values_of_an_axis() -> None:
    assert cells({"grid": {"a": [[1, 2], [3]]}}) == [((1, 2),), ((3,),)]


def test_other_values_for_an_axis_keep_its_place() -> None:
    sweep = replace_axis(read_sweep({"grid": {"a": [1, 2], "b": [3]}}), "a", [7])
    assert expand(sweep) == [(0, {"a": 7, "b": 3})]
    assert replace_axis(sweep, "c", [1, 2]).axes == ("a", "b", "c")


def test_an_exclude_over_an_axis_that_the_command_line_narrowed_may_match_nothing() -> None:
    sweep = read_sweep({"grid": {"a": [1, 2]}, "exclude": [{"a": 2}]})
    assert expand(replace_axis(sweep, "a", [1])) == [(0, {"a": 1})]


def test_a_condition_on_an_axis_that_the_command_line_narrowed_may_be_met_by_no_point() -> None:
    grid = {"s": ["full", "ets"], "r": [0.1, 0.2], "e": ["top", "bottom"]}
    sweep = read_sweep({"grid": grid, "when": {"r": {"s": "ets"}, "e": {"r": 0.1}}})
    assert expand(replace_axis(sweep, "s", ["full"])) == [(0, {"s": "full"})]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"grid": {}}, "sweep.grid is empty\n  at: sweep.grid"),
        ({"grid": {"a": []}}, "axis a has no values\n  at: sweep: a"),
        ({"grid": {"a": 3}}, "axis a is 3, not a list\n  at: sweep: a\n  fix: write a: [3]"),
        ({"grid": {"a": [1, 1.0]}}, "axis a lists 1.0 twice"),
        ({"grid": {"a": [1]}, "zip": {"a": [1]}}, "axis a is given twice\n  at: sweep: a\n  fix: keep one of them"),
        ({"zip": {"a": [1, 2], "b": [1]}}, "axes that advance together differ in length: a has 2, b has 1"),
        ({"grid": {"seed": [1]}}, "seeds are no axis of the grid"),
        ({"gird": {}}, "unknown key 'gird'\n  at: sweep\n  fix: did you mean grid? valid: grid, zip, include"),
        ({"grid": {"a": [1]}, "when": {"b": {"a": 1}}}, "unknown axis 'b'\n  at: sweep.when\n  fix: valid: a"),
        ({"grid": {"a": [1]}, "when": {"a": {"c": 1}}}, "unknown axis 'c'\n  at: sweep.when.a"),
        ({"grid": {"a": [1]}, "when": {"a": {}}}, "sweep.when.a is empty"),
        ({"grid": {"a": [1], "b": [2]}, "when": {"b": {"a": 3}}}, "sweep.when.b is met by no point"),
        ({"grid": {"a": [1]}, "exclude": [{"b": 1}]}, "unknown axis 'b'\n  at: sweep.exclude[0]"),
        ({"grid": {"a": [1]}, "exclude": [{"a": 2}]}, "sweep.exclude[0] matches no point: {a: [2]}"),
        ({"grid": {"a": [1]}, "exclude": {"a": 1}}, "sweep.exclude is no list"),
        ({"grid": {"a": [1]}, "exclude": [{"a": 1}]}, "the sweep has no point left"),
        ({"grid": {"a": [1]}, "seeds": []}, "seeds are []"),
        ({"grid": {"a": [1]}, "seeds": [0, 0]}, "seeds are [0, 0]"),
        ({"grid": {"a": [1]}, "seeds": [-1]}, "seeds are [-1]"),
        ({"grid": {"a": [1]}, "seeds": [True]}, "seeds are [True]"),
        ({"grid": [1]}, "sweep.grid is [1], not a block of keys"),
        ("grid", "sweep is 'grid', not a block of keys"),
    ],
)
def test_a_sweep_without_meaning_is_refused(block: Any, message: str) -> None:
    with pytest.raises(OrchError) as refused:
        expand(read_sweep(block))
    assert str(refused.value).startswith(message)


def test_changing_one_of_two_zipped_axes_alone_is_refused() -> None:
    sweep = read_sweep({"zip": {"a": [1, 2], "b": [1, 2]}})
    with pytest.raises(OrchError, match="differ in length: a has 1, b has 2"):
        replace_axis(sweep, "a", [1])


def test_one_seed_is_a_list_of_one() -> None:
    assert read_seeds(4) == (4,)
