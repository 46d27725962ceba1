r"""The fast path: right, wrong or undecided, in microseconds for most answers.

Wrong is said only of what is proved to differ: other numbers, functions that differ at a real point, other shapes of
constants, other words. What cannot be told stays undecided and goes to the slow path. Nothing of an answer is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeVar

from eval.api import Problem
from eval.grading.choices import is_choice
from eval.grading.equations import is_tautology, same_equation, value_side
from eval.grading.formula_parser import MAX_TOKENS
from eval.grading.nodes import (
    Answer,
    Based,
    Call,
    Chain,
    Empty,
    Formula,
    Listing,
    Matrix,
    Number,
    Quantity,
    Union,
    Words,
)
from eval.grading.reading import MAX_PARTS, Reading, read
from eval.grading.regions import Piece, Region, as_region, is_certain, is_infinite
from eval.grading.units import measure
from eval.grading.values import same_formula, value_of
from eval.grading.verdicts import EXACT, RIGHT, UNDECIDED, WRONG, Decision, all_of, from_bool

T = TypeVar("T")
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
    if left.num_tokens > MAX_TOKENS >= right.num_tokens:
        return Decision("wrong", "too_long")
    if right.words and left.words == right.words and isinstance(right.answer, Words):
        return Decision("right", "text")
    if right.answer is None or left.answer is None:
        return UNDECIDED
    decision = _compare(left.answer, right.answer)
    # A gold that is the letter of an option is also named by the label in front of its text: `(C) 42`.
    if decision.verdict != "right" and left.label and right.words == left.label.casefold():
        return Decision("right", "choice")
    return decision


def _compare(left: Answer, right: Answer) -> Decision:
    """Compare an answer (left) with a gold (right)."""
    if left is right or left == right:
        return EXACT
    if isinstance(left, Words) or isinstance(right, Words):
        return _words(left, right)
    if isinstance(left, Based) or isinstance(right, Based):
        return _based(left, right)
    left_region, right_region = as_region(left), as_region(right)
    if left_region is not None and right_region is not None and (is_certain(left) or is_certain(right)):
        return _regions(left_region, right_region)
    if left_region is not None and is_certain(left) and _is_finite(right):
        return Decision("wrong", "parts")
    if right_region is not None and is_certain(right) and _is_finite(left):
        return Decision("wrong", "parts")
    if isinstance(left, Chain) or isinstance(right, Chain):
        return _chains(left, right)
    if isinstance(left, Matrix) or isinstance(right, Matrix):
        return _matrices(left, right)
    if isinstance(left, Empty) or isinstance(right, Empty):
        other = right if isinstance(left, Empty) else left
        return Decision("wrong", "empty_set") if is_constant(other) else UNDECIDED
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return _quantities(left, right)
    return _listings(left, right)


def _words(left: Answer, right: Answer) -> Decision:
    if isinstance(left, Words) and isinstance(right, Words):
        return from_bool(left.text == right.text, "text")
    other = left if isinstance(right, Words) else right
    return Decision("wrong", "text") if is_constant(other) else UNDECIDED


def _based(left: Answer, right: Answer) -> Decision:
    """Compare digits and base; a number without a base may leave it out, which is for the slow path to refuse."""
    if isinstance(left, Based) and isinstance(right, Based):
        return from_bool(left == right, "base")
    based, other = (left, right) if isinstance(left, Based) else (right, left)
    assert isinstance(based, Based)
    value = value_of(other.formula) if isinstance(other, Quantity) else None
    if not isinstance(value, Fraction):
        return Decision("wrong", "base") if is_constant(other) else UNDECIDED
    sign = -1 if based.is_negative else 1
    possible = {Fraction(based.digits)} if based.digits.replace(".", "").isdigit() else set()
    try:
        whole, _, digits = based.digits.partition(".")
        possible.add(Fraction(int(whole + digits, based.base), based.base ** len(digits)))
    except ValueError:
        pass  # a digit that the base does not have
    return UNDECIDED if value * sign in possible else Decision("wrong", "base")


def _regions(left: Region, right: Region) -> Decision:
    """Compare sets of numbers piece by piece, in any order."""
    if len(left) != len(right):
        return Decision("wrong", "parts") if _are_constant(left) and _are_constant(right) else UNDECIDED
    return _matched(left, right, _pieces, one_to_one=True)


def _are_constant(region: Region) -> bool:
    return all(is_constant(piece.low) and is_constant(piece.high) for piece in region)


def _is_finite(answer: Answer) -> bool:
    """Whether an answer is some numbers side by side, which no interval is; two may be its ends."""
    return (
        isinstance(answer, Listing) and answer.brackets in ("", "{}") and len(answer.items) > 2 and is_constant(answer)
    )


def _pieces(left: Piece, right: Piece) -> Decision:
    if (left.has_low, left.has_high) != (right.has_low, right.has_high):
        return WRONG
    return all_of([_compare(left.low, right.low), _compare(left.high, right.high)])


def _chains(left: Answer, right: Answer) -> Decision:
    """Compare equations and named values: `x=5` is 5 where the other side has no name."""
    if isinstance(left, Chain) and isinstance(right, Chain):
        return _two_chains(left, right)
    chain, other = (left, right) if isinstance(left, Chain) else (right, left)
    assert isinstance(chain, Chain)
    if is_tautology(chain):
        return Decision("wrong", "tautology")
    value = value_side(chain)
    if isinstance(other, Listing):
        return _listings(left, right) if value is None else _ordered_pair(left, right, value, other)
    if value is None:
        return UNDECIDED
    return _compare(value, right) if chain is left else _compare(left, value)


def _ordered_pair(left: Answer, right: Answer, value: Answer, other: Listing) -> Decision:
    return _compare(value, other) if isinstance(left, Chain) else _compare(other, value)


def _two_chains(left: Chain, right: Chain) -> Decision:
    first, second = value_side(left), value_side(right)
    if first is not None and set(right.relations) == {":"}:
        return _compare(first, right)
    if second is not None and set(left.relations) == {":"}:
        return _compare(left, second)
    if first is not None and second is not None:
        has_same_name = left.sides[0] == right.sides[0]
        decision = _compare(first, second)
        if has_same_name:
            return decision
    if left.relations == right.relations and len(left.sides) == len(right.sides):
        decision = all_of(_compare(a, b) for a, b in zip(left.sides, right.sides, strict=True))
        if decision.verdict == "right":
            return decision
    return same_equation(left, right)


def _matrices(left: Answer, right: Answer) -> Decision:
    if not (isinstance(left, Matrix) and isinstance(right, Matrix)):
        other = right if isinstance(left, Matrix) else left
        return Decision("wrong", "parts") if isinstance(other, Quantity) and is_constant(other) else UNDECIDED
    if [len(row) for row in left.rows] != [len(row) for row in right.rows]:
        is_plain = all(is_constant(cell) for matrix in (left, right) for row in matrix.rows for cell in row)
        return Decision("wrong", "parts") if is_plain else UNDECIDED
    cells = (
        _compare(a, b)
        for row, other in zip(left.rows, right.rows, strict=True)
        for a, b in zip(row, other, strict=True)
    )
    return all_of(cells)


def _listings(left: Answer, right: Answer) -> Decision:
    """Compare lists, sets and tuples; a single value is a list of one."""
    if isinstance(left, Union) or isinstance(right, Union):
        return UNDECIDED
    first, second = _as_listing(left, right), _as_listing(right, left)
    comma = _decimal_comma(left, right)
    if comma is not None:
        return comma
    first_items, second_items = _without_names(first, second)
    if any(isinstance(one, Quantity) and one.alternative in (first, second) for one in (left, right)):
        # 12,345 may be the list 12, 345; not 345, 12
        same_length = len(first_items) == len(second_items)
        pairs = zip(first_items, second_items, strict=same_length)
        return all_of(_compare(a, b) for a, b in pairs) if same_length else Decision("wrong", "parts")
    if first.is_ordered and second.is_ordered:
        return _ordered(first, second, first_items, second_items)
    if first.is_ordered or second.is_ordered:
        return _mixed_order(first, second, first_items, second_items)
    return _matched(first_items, second_items, _compare, one_to_one=False)


def _as_listing(answer: Answer, other: Answer) -> Listing:
    if isinstance(answer, Quantity) and answer.alternative is not None and isinstance(other, Listing):
        return answer.alternative
    return answer if isinstance(answer, Listing) else Listing(brackets="", items=(answer,))


def _decimal_comma(left: Answer, right: Answer) -> Decision | None:
    """A decimal comma is read only where the other side is a number with a point: 1,22 alone is a list of two."""
    for one, other in ((left, right), (right, left)):
        if not isinstance(one, Listing) or one.brackets or len(one.items) != 2 or not isinstance(other, Quantity):
            continue
        whole, digits = (item.formula.node if isinstance(item, Quantity) else None for item in one.items)
        value = value_of(other.formula)
        if isinstance(whole, Number) and isinstance(digits, Number) and other.formula.has_decimals:
            count = len(str(digits.value))
            for width in range(count, count + 4):  # leading zeros are lost: 0,05
                if value == whole.value + digits.value / 10**width:
                    return Decision("right", "fraction")
    return None


def _without_names(left: Listing, right: Listing) -> tuple[Sequence[Answer], Sequence[Answer]]:
    """Take `x=` off the items of one side where the other side names nothing."""
    left_named, right_named = _has_names(left), _has_names(right)
    if left_named and right_named:
        all_named = all(isinstance(item, Chain) for item in (*left.items, *right.items))
        return (left.items, right.items) if all_named else (_values(left), _values(right))
    return (_values(left) if left_named else left.items), (_values(right) if right_named else right.items)


def _has_names(listing: Listing) -> bool:
    return any(isinstance(item, Chain) and value_side(item) is not None for item in listing.items)


def _values(listing: Listing) -> Sequence[Answer]:
    return [(value_side(item) or item) if isinstance(item, Chain) else item for item in listing.items]


def _ordered(left: Listing, right: Listing, first: Sequence[Answer], second: Sequence[Answer]) -> Decision:
    is_plain = all(is_constant(item) for item in (*first, *second))
    if left.brackets != right.brackets or len(first) != len(second):
        return Decision("wrong", "parts") if is_plain else UNDECIDED
    return all_of(_compare(a, b) for a, b in zip(first, second, strict=True))


def _mixed_order(left: Listing, right: Listing, first: Sequence[Answer], second: Sequence[Answer]) -> Decision:
    """A tuple against a list: `x=3, y=-2` is `(3,-2)`; one value is no tuple."""
    named = any(isinstance(item, Chain) for item in (*left.items, *right.items))
    if len(first) == len(second) and len(first) > 1:
        decision = all_of(_compare(a, b) for a, b in zip(first, second, strict=True))
        if decision.verdict == "right" and named:
            return decision
        return UNDECIDED
    if len(first) != len(second) and min(len(first), len(second)) > 1 and is_constant(left) and is_constant(right):
        return Decision("wrong", "parts")
    is_single = len(first) == 1 or len(second) == 1
    ordered, other = (left, right) if left.is_ordered else (right, left)
    if is_single and len(other.items) == 1 and is_constant(other.items[0]) and all(map(is_constant, ordered.items)):
        return Decision("wrong", "parts")
    return UNDECIDED


def _matched(
    left: Sequence[T], right: Sequence[T], compared: Callable[[T, T], Decision], *, one_to_one: bool
) -> Decision:
    """Right where each item has an equal on the other side; wrong where one has none for certain."""
    if not left or not right:
        return from_bool(not left and not right, "parts")
    verdicts: list[list[Decision]] = []
    for item in left:
        verdicts.append([compared(item, other) for other in right])
        if all(cell.verdict == "wrong" for cell in verdicts[-1]):
            return Decision("wrong", "parts")
    columns = [[row[place] for row in verdicts] for place in range(len(verdicts[0]))]
    lines = [*verdicts, *columns]
    if any(all(cell.verdict == "wrong" for cell in line) for line in lines):
        return Decision("wrong", "parts")
    if all(any(cell.verdict == "right" for cell in line) for line in lines):
        if len(verdicts) == len(columns) and not _is_one_to_one(verdicts):
            return Decision("wrong", "parts")  # 16,3,3,1 is not 16,3,1,1
        return Decision("right", "parts") if not one_to_one or len(verdicts) == len(columns) else UNDECIDED
    return UNDECIDED


def _is_one_to_one(verdicts: list[list[Decision]]) -> bool:
    """Whether as many items are equal to each item on one side as on the other."""
    rows = [tuple(cell.verdict == "right" for cell in row) for row in verdicts]
    return all(rows.count(row) == sum(row) for row in rows)


def _quantities(left: Quantity, right: Quantity) -> Decision:
    if left.alternative is not None and right.alternative is not None and left.alternative == right.alternative:
        return RIGHT
    if is_infinite(left) or is_infinite(right):
        value = value_of((right if is_infinite(left) else left).formula)
        return (
            Decision("wrong", "infinite") if value is not None or is_infinite(left) == is_infinite(right) else UNDECIDED
        )
    if left.is_percent != right.is_percent:
        return _percent(left, right)
    scaled = _converted(left, right)
    if scaled is not None:
        return scaled
    if right.with_unit_as_symbols is not None:
        return _gold_with_letters(left, right, right.with_unit_as_symbols)
    decision = _formulas(left.formula, right.formula)
    if left.with_unit_as_symbols is not None and right.formula.symbols and decision.verdict != "right":
        other = _formulas(left.with_unit_as_symbols, right.formula)
        return other if other.verdict != "wrong" else decision
    return decision


def _gold_with_letters(left: Quantity, right: Quantity, symbols: Formula) -> Decision:
    """The letters at the end of a gold are variables, unless the answer has them as the same unit."""
    decision = _formulas(left.with_unit_as_symbols or left.formula, symbols)
    if decision.verdict != "wrong":
        return decision
    without = _formulas(left.formula, right.formula)
    if without.verdict == "right" and left.unit and _same_unit(left.unit, right.unit):
        return without
    return decision if without.verdict == "wrong" else UNDECIDED


def _same_unit(left: str, right: str) -> bool:
    first, second = measure(left), measure(right)
    return left == right or (first is not None and first == second)


def _converted(left: Quantity, right: Quantity) -> Decision | None:
    """Compare across units that are known on both sides: 1 km is 1000 m, 5 cm is not 5 m."""
    first, second = measure(left.unit), measure(right.unit)
    if first is None or second is None or first == second:
        return None
    if first.dimensions != second.dimensions:
        return Decision("wrong", "unit")
    one, other = value_of(left.formula), value_of(right.formula)
    if not isinstance(one, Fraction) or not isinstance(other, Fraction):
        return UNDECIDED
    return from_bool(one * first.factor == other * second.factor, "unit")


def _percent(left: Quantity, right: Quantity) -> Decision:
    """A percent sign on one side only is optional: 28 and 0.28 are both 28 %."""
    decision = _formulas(left.formula, right.formula)
    percent, plain = (left, right) if left.is_percent else (right, left)
    first, second = value_of(percent.formula), value_of(plain.formula)
    if isinstance(first, Fraction) and isinstance(second, Fraction) and first / 100 == second:
        return Decision("right", "fraction")
    return decision


def _formulas(left: Formula, right: Formula) -> Decision:
    is_number = isinstance(left.node, Number) and isinstance(right.node, Number)
    verdict = same_formula(left, right)
    if verdict is False and left.symbols != right.symbols and (left.symbols - right.symbols) and not right.symbols:
        verdict = _depends(left)
    method = "fraction" if is_number or not (left.symbols or right.symbols) else "formula"
    return UNDECIDED if verdict is None else from_bool(verdict, method)


def _depends(formula: Formula) -> bool | None:
    """What differs from a constant at some point is another answer; kept apart as the variable may be a unit."""
    return None if formula.is_loose else False


def is_constant(answer: Answer) -> bool:
    """Whether an answer holds no variable, and could be evaluated: another shape of it is another answer."""
    if isinstance(answer, Quantity):
        formula = answer.formula
        return is_infinite(answer) or (not formula.symbols and not formula.is_loose and value_of(formula) is not None)
    if isinstance(answer, Listing | Union):
        return bool(answer.items) and all(is_constant(item) for item in answer.items)
    return isinstance(answer, Based | Empty)


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
