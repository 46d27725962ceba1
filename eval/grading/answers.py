"""Compares two answers as they were read: values, words, lists, sets of numbers, equations, matrices.

Each rule says right, wrong or undecided. Wrong needs a proof: other constants, another shape of constants, other words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeVar

from eval.grading.equations import is_tautology, same_equation, value_side
from eval.grading.formula.nodes import (
    Answer,
    Based,
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
from eval.grading.formula.values import same_formula, same_number, value_of
from eval.grading.regions import Piece, Region, as_region, is_certain, is_infinite
from eval.grading.units import measure
from eval.grading.verdicts import EXACT, RIGHT, UNDECIDED, WRONG, Decision, all_of, from_bool

T = TypeVar("T")


def compare_answers(left: Answer, right: Answer) -> Decision:
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
    """Whether an answer is a number, or three or more of them, which no interval is; two may be its ends."""
    is_list = isinstance(answer, Listing) and not answer.is_ordered and len(answer.items) > 2
    return (is_list or isinstance(answer, Quantity)) and is_constant(answer)


def _pieces(left: Piece, right: Piece) -> Decision:
    if (left.has_low, left.has_high) != (right.has_low, right.has_high):
        return WRONG
    return all_of([compare_answers(left.low, right.low), compare_answers(left.high, right.high)])


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
    return compare_answers(value, right) if chain is left else compare_answers(left, value)


def _ordered_pair(left: Answer, right: Answer, value: Answer, other: Listing) -> Decision:
    return compare_answers(value, other) if isinstance(left, Chain) else compare_answers(other, value)


def _two_chains(left: Chain, right: Chain) -> Decision:
    first, second = value_side(left), value_side(right)
    if first is not None and set(right.relations) == {":"}:
        return compare_answers(first, right)
    if second is not None and set(left.relations) == {":"}:
        return compare_answers(left, second)
    if first is not None and second is not None:
        has_same_name = left.sides[0] == right.sides[0]
        decision = compare_answers(first, second)
        if has_same_name:
            return decision
    if left.relations == right.relations and len(left.sides) == len(right.sides):
        decision = all_of(compare_answers(a, b) for a, b in zip(left.sides, right.sides, strict=True))
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
        compare_answers(a, b)
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
        return all_of(compare_answers(a, b) for a, b in pairs) if same_length else Decision("wrong", "parts")
    if first.is_ordered and second.is_ordered:
        return _ordered(first, second, first_items, second_items)
    if first.is_ordered or second.is_ordered:
        return _mixed_order(first, second, first_items, second_items)
    if len(first_items) == len(second_items):
        # What stands on both sides in the same form needs no comparison: a table of n² of them would be slow.
        first_items, second_items = _without_common(first_items, second_items)
    return _matched(first_items, second_items, compare_answers, one_to_one=False)


def _without_common(left: Sequence[Answer], right: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
    """Take off the items that both sides have, as often as both have them."""
    lone, rest = list[Answer](), list(right)
    for item in left:
        if item in rest:
            rest.remove(item)
        else:
            lone.append(item)
    return lone, rest


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
    return all_of(compare_answers(a, b) for a, b in zip(first, second, strict=True))


def _mixed_order(left: Listing, right: Listing, first: Sequence[Answer], second: Sequence[Answer]) -> Decision:
    """A tuple against a list: `x=3, y=-2` is `(3,-2)`; one value is no tuple."""
    named = any(isinstance(item, Chain) for item in (*left.items, *right.items))
    if len(first) == len(second) and len(first) > 1:
        decision = all_of(compare_answers(a, b) for a, b in zip(first, second, strict=True))
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
    first, second = left.formula.node, right.formula.node
    is_plain = not (left.unit or right.unit or left.is_percent or right.is_percent)
    if is_plain and isinstance(first, Number) and isinstance(second, Number):
        return from_bool(same_number(first, second), "fraction")
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
    names, others = dict(first.dimensions), dict(second.dimensions)
    if "unit" in names or "unit" in others:
        # `units` may be any, and the square of them is often left out.
        is_same = names.keys() != others.keys() or 1 in (names["unit"], others["unit"])
        return None if is_same else Decision("wrong", "unit")
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
