"""Kinds of answers that were once graded wrongly: `grading_kinds.yaml` lists them with their neighbours."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.api import Problem
from eval.grading import grade_answer

KINDS = yaml.safe_load((Path(__file__).parent / "grading_kinds.yaml").read_text())
DRESSES = (
    r"\,\mathrm{X}", r"~\mathrm{X}", r"\;\text{X}", r"\:\mathrm{X}", r"\ \text{X}", r" \text{ X}",
    r"\text{ X}", r"\mathrm{~X}", r"\,\operatorname{X}", r"\quad\mathrm{X}", r" \textrm{X}", r"\mbox{ X}",
    r"\, \rm{X}", " X", r"\,\mathrm{X}.",
)  # fmt: skip
UNITS = (
    "K", "m", "J", "cm", "km/h", "m/s", "W", "kg", "eV", "cm^2", "m/s^2", "kg m/s", "ms", "Hz", "N", "mol", "Pa", "s",
    "A",
)  # fmt: skip


def accepts(answer, gold, kind="expression", **fields):
    return grade_answer(answer, Problem(id="p", question="?", answer=gold, kind=kind, **fields)).is_correct


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_graded_as_its_reader_would(kind):
    wrongly = [(answer, gold) for answer, gold, verdict in KINDS[kind] if accepts(answer, gold) != (verdict == "right")]
    assert wrongly == []


@pytest.mark.parametrize("gold", ["5", "0.25", r"\frac{3}{2}", "4.5e33", r"36\pi", r"2\sqrt{3}"])
def test_a_unit_in_any_dress_is_taken_off(gold):
    answers = [gold + dress.replace("X", unit) for dress in DRESSES for unit in UNITS]
    assert [answer for answer in answers if not accepts(answer, gold)] == []


@pytest.mark.parametrize(
    "answer", ["B: 42", r"\text{(C) }42", "42 apples", "there are 42", "答案：42", "`$42$`", "４２", "42.0", "42元"]
)
def test_words_around_an_integer_are_taken_off(answer):
    assert accepts(answer, "42", "integer")
    assert not accepts(answer.replace("42", "43").replace("４２", "４３"), "42", "integer")


@pytest.mark.parametrize("name", ["x", "y", "a", "b", "n", "t", "k", "z", "\\lambda", "\\theta", "x_1", "P", "s"])
def test_no_variable_is_positive_at_all_points(name):
    for answer, gold in ((name, f"|{name}|"), (f"-{name}", f"|{name}|"), (f"3-{name}", f"|{name}-3|")):
        assert not accepts(answer, gold), (answer, gold)
        assert not accepts(gold, answer), (gold, answer)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-9, 9).filter(bool),
    st.integers(-99, 99),
    st.sampled_from([("x", "3"), ("t", "x"), ("a", "b"), ("p", "q^2"), ("s_1", "s_2")]),
)
def test_an_absolute_value_is_told_from_what_it_is_on_one_side(slope, offset, names):
    inside = f"{slope}{names[0]}{offset:+d}{names[1]}"
    for gold in (f"|{inside}|", rf"\sqrt{{({inside})^2}}"):
        assert not accepts(inside, gold), (inside, gold)
        assert not accepts(f"-({inside})", gold), (inside, gold)
        assert accepts(f"|-({inside})|", gold), (inside, gold)


def test_a_choice_in_any_common_dress_is_its_letter():
    options = {"choices": ("A red one", "blue", "green", "all of the above")}
    for dress in (
        "B - blue",
        "B: blue",
        "**B**",
        "Option B",
        r"\text{(B) blue}",
        "B. blue",
        "B) blue",
        "(B). blue",
        "答案：B",
        "`B`",
        "blue",
    ):
        assert accepts(dress, "B", "choice", **options), dress
    for dress in (
        "B or C",
        "A, B",
        "A, B, C, D",
        "ABCD",
        "C - blue",
        "B. green",
        "not B",
        "B) blue C) green",
        "(A)(B)",
    ):
        assert not accepts(dress, "B", "choice", **options), dress
    assert accepts("A. A red one", "A", "choice", **options)
