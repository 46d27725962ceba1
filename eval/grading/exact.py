r"""The fast path: right, wrong or undecided, in microseconds for most answers.

Wrong is said only of what is proved to differ: other numbers, functions that differ at a real point, other shapes of
constants, other words. What cannot be told stays undecided and goes to the slow path. Nothing of an answer is run.
"""

from __future__ import annotations

from fractions import Fraction

from eval.api import Problem
from eval.grading.answers import compare_answers
from eval.grading.choices import is_choice
from eval.grading.equations import is_tautology
from eval.grading.formula.nodes import (
    Answer,
    Call,
    Chain,
    Formula,
    Number,
    Quantity,
    Words,
)
from eval.grading.formula.parser import MAX_TOKENS
from eval.grading.formula.values import value_of
from eval.grading.reading import MAX_PARTS, Reading, read
from eval.grading.verdicts import EXACT, UNDECIDED, Decision, from_bool

MAX_ANSWER_CHARS = 1_000
"""An answer longer than this is compared as a string and no further."""


def decide(answer: str, problem: Problem) -> Decision:
    """Compare a bare answer with a problem's gold under its declared kind.

    Args:
        answer: the inside of the box.
        problem: the gold answer, its kind, tolerance and options.
    """
    if problem.kind == "choice":
        return from_bool(is_choice(answer, problem), "choice")
    if len(answer) > MAX_ANSWER_CHARS or len(problem.answer) > MAX_ANSWER_CHARS:
        return from_bool(answer.strip() == problem.answer.strip(), "too_long")
    if problem.tolerance is not None:
        decision = _within_tolerance(answer, problem.answer, problem.tolerance)
        if decision is not None:
            return decision
    if problem.kind == "integer":
        return _integer(answer, problem.answer)
    return compare(answer, problem.answer)


def compare(answer: str, gold: str) -> Decision:
    """Compare two answers of kind numeric or expression."""
    if answer.strip() == gold.strip():
        return EXACT if answer.strip() else Decision("wrong", "empty")
    left, right = read(answer), read(gold)
    if left.is_empty:
        return Decision("wrong", "empty")
    if left.num_parts > MAX_PARTS >= right.num_parts:
        return Decision("wrong", "too_many_parts")
    if left.answer is None and left.num_beside > 0 == right.num_beside:
        return Decision("wrong", "side_by_side")
    if left.num_tokens > MAX_TOKENS >= right.num_tokens:
        return Decision("wrong", "too_long")
    if right.words and left.words == right.words and isinstance(right.answer, Words):
        return Decision("right", "text")
    if right.answer is None or left.answer is None:
        return UNDECIDED
    decision = compare_answers(left.answer, right.answer)
    # A gold that is the letter of an option is also named by the label in front of its text: `(C) 42`.
    if decision.verdict != "right" and left.label and right.words == left.label.casefold():
        return Decision("right", "choice")
    return decision


def _within_tolerance(answer: str, gold: str, tolerance: float) -> Decision | None:
    value, target = (_number(read(text).answer) for text in (answer, gold))
    if value is None or target is None:
        return None
    return from_bool(abs(value - target) <= Fraction(str(tolerance)), "tolerance")


def _number(answer: Answer | None) -> Fraction | None:
    """Return a written number, with a name or a unit or not; None for a formula that would have to be computed."""
    if isinstance(answer, Chain) and not is_tautology(answer):
        answer = answer.sides[-1]
    if not isinstance(answer, Quantity) or not _is_written(answer.formula):
        return None
    value = value_of(answer.formula)
    return value if isinstance(value, Fraction) else None


def _is_written(formula: Formula) -> bool:
    """Whether a formula is a number as one writes it: no sum but a mixed number, no product but a power of ten."""
    node = formula.node
    while not isinstance(node, Number):
        if getattr(node, "name", "") not in ("neg", "degree"):
            return _is_fraction(node)
        node = node.arguments[0]  # type: ignore[union-attr]
    return True


def _is_fraction(node: object) -> bool:
    if not isinstance(node, Call):
        return False
    if node.name == "+":
        whole, part = node.arguments
        return isinstance(whole, Number) and isinstance(part, Call) and part.name == "/" and _is_fraction(part)
    is_power_of_ten = node.name == "*" and getattr(node.arguments[1], "name", "") == "^"
    return (node.name == "/" and all(isinstance(part, Number) for part in node.arguments)) or is_power_of_ten


def _integer(answer: str, gold: str) -> Decision:
    """Accept a written number only: `12+3` is the question again, not its answer."""
    reading = read(answer)
    value = _number(reading.answer)
    if value is not None:
        found = reading.answer
        target = Fraction(gold)
        is_percent = isinstance(found, Quantity) and found.is_percent
        return from_bool(value == target or (is_percent and value / 100 == target), "fraction")
    if reading.answer is None:
        return _NOT_A_NUMBER
    compared = compare(answer, gold)
    return (
        compared if compared.method in ("exact", "parts", "fraction") and not _is_computed(reading) else _NOT_A_NUMBER
    )


def _is_computed(reading: Reading) -> bool:
    return isinstance(reading.answer, Quantity | Chain)


_NOT_A_NUMBER = Decision("wrong", "not_a_number")
