from dataclasses import replace

import pytest

from dashboards.figures.drawing import COLOURS
from dashboards.figures.gains import Gain, is_gain, pairs_said, series_names
from dashboards.figures.palette import colour_of
from trainers.methods import METHODS


def test_a_gain_is_over_the_method_that_the_paper_compares_with(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_gain("gmts", "ets")
    assert not is_gain("ets", "gmts")
    assert not is_gain("ict", "ets")
    assert not is_gain(None, "ets")
    assert not is_gain("full", None), "full is compared with nothing, not with an untrained model"
    monkeypatch.setitem(METHODS, "ict", replace(METHODS["ict"], compared_with="random"))
    assert is_gain("ict", "random")


def test_series_name_their_methods_only_where_there_are_several_pairs() -> None:
    one = [Gain("gmts", "ets", "dapo", 0.2), Gain("gmts", "ets", "grpo", 0.1)]
    assert (pairs_said(one), series_names(one)) == ("GMTS − ETS", ["dapo · 0.2", "grpo · 0.1"])
    two = [*one, Gain("ict", "random", "dapo", 0.2)]
    assert pairs_said(two) == "GMTS − ETS, ICT − RANDOM"
    assert series_names(two)[::2] == ["dapo · 0.2 · GMTS − ETS", "dapo · 0.2 · ICT − RANDOM"]


def test_methods_have_colours_of_their_own_as_far_as_there_are_any() -> None:
    assert [colour_of(method) for method in ("full", "random", "ets", "gmts", "ict")] == [0, 1, 2, 3, 4]
    colours = [colour_of(method) for method in METHODS]
    assert len(set(colours[: len(COLOURS)])) == len(COLOURS)
    assert {name for row in METHODS.values() if (name := row.compared_with)} <= set(METHODS)
