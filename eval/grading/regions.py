r"""Sets of real numbers: intervals, inequalities in any variable, their unions; `2<\lambda\le7` is `(2,7]`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from eval.grading.formula.nodes import (
    Answer,
    Call,
    Chain,
    Empty,
    Formula,
    Listing,
    Node,
    Number,
    Quantity,
    Relation,
    Symbol,
    Union,
)
from eval.grading.formula.values import Point, root_of_affine, value_of
from eval.grading.reading import REALS

_FLIPPED: dict[Relation, Relation] = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_MINUS_INFINITY, _INFINITY = REALS.items


@dataclass(frozen=True, slots=True)
class Piece:
    """One interval."""

    low: Answer
    high: Answer
    has_low: bool
    has_high: bool


Region = tuple[Piece, ...]


def as_region(answer: Answer) -> Region | None:
    """Return the set of numbers an answer names, or None for what names none for certain (a tuple may)."""
    if isinstance(answer, Empty):
        return ()
    if isinstance(answer, Union):
        return _union(answer)
    if isinstance(answer, Listing):
        return _interval(answer) if answer.brackets else _conditions(answer)
    if isinstance(answer, Chain):
        return _condition(answer)
    return None


def is_certain(answer: Answer) -> bool:
    """Whether an answer cannot be anything but a set of numbers: `(1,2)` may be a point."""
    if isinstance(answer, Listing):
        return answer.brackets in ("", "(]", "[)") or any(is_infinite(item) for item in answer.items)
    return isinstance(answer, Union | Chain)


def is_infinite(answer: Answer) -> bool:
    """Whether an answer is ∞ or −∞."""
    return isinstance(answer, Quantity) and "infty" in answer.formula.names and answer in (_INFINITY, _MINUS_INFINITY)


def _union(answer: Union) -> Region | None:
    pieces: list[Piece] = []
    for item in answer.items:
        if isinstance(item, Listing) and item.brackets == "{}":
            pieces += [Piece(point, point, True, True) for point in item.items]
            continue
        region = as_region(item)
        if region is None:
            return None
        pieces += region
    return tuple(pieces)


def _interval(answer: Listing) -> Region | None:
    if answer.brackets not in ("()", "[]", "(]", "[)") or len(answer.items) != 2:
        return None
    low, high = answer.items
    if not (isinstance(low, Quantity) and isinstance(high, Quantity)):
        return None
    return (Piece(low, high, answer.brackets[0] == "[", answer.brackets[1] == "]"),)


def _conditions(answer: Listing) -> Region | None:
    """Return what `x>2, x<7` says: both, or one of them where both cannot be."""
    if len(answer.items) != 2 or not all(isinstance(item, Chain) for item in answer.items):
        return None
    regions = [as_region(item) for item in answer.items]
    pieces = [region[0] for region in regions if region is not None and len(region) == 1]
    upper = [piece for piece in pieces if is_infinite(piece.low)]
    lower = [piece for piece in pieces if is_infinite(piece.high)]
    if len(upper) != 1 or len(lower) != 1:
        return None
    ends = [value_of(end.formula) for end in (lower[0].low, upper[0].high) if isinstance(end, Quantity)]
    first, last = ends if len(ends) == 2 else (None, None)
    if not isinstance(first, Fraction) or not isinstance(last, Fraction):
        return None
    if first > last:
        return upper[0], lower[0]
    return (Piece(lower[0].low, upper[0].high, lower[0].has_low, upper[0].has_high),)


def _condition(answer: Chain) -> Region | None:
    relations, sides = answer.relations, answer.sides
    if relations == ("in",):
        return as_region(sides[1]) if _is_variable(sides[0]) else None
    if all(relation in (">", ">=") for relation in relations):
        flipped: tuple[Relation, ...] = tuple(_FLIPPED[relation] for relation in reversed(relations))
        relations, sides = flipped, sides[::-1]
    if relations == ("!=",) and _is_variable(sides[0]):
        point = sides[1]
        return Piece(_MINUS_INFINITY, point, False, False), Piece(point, _INFINITY, False, False)
    if not all(relation in ("<", "<=") for relation in relations):
        return None
    if len(sides) == 2 and (region := _distance(sides, has_end=relations[0] == "<=")) is not None:
        return region
    if len(sides) == 3 and _is_variable(sides[1]):
        return (Piece(sides[0], sides[2], relations[0] == "<=", relations[1] == "<="),)
    return _half_line(sides, has_end=relations[0] == "<=") if len(sides) == 2 else None


def _half_line(sides: tuple[Answer, ...], *, has_end: bool) -> Region | None:
    """Return the half-line of `left < right`, solved for the variable where it stands alone or in a straight line."""
    left, right = sides
    if _is_variable(left) and not _symbols(right):
        return (Piece(_MINUS_INFINITY, right, False, has_end),)
    if _is_variable(right) and not _symbols(left):
        return (Piece(left, _INFINITY, has_end, False),)
    if not (isinstance(left, Quantity) and isinstance(right, Quantity)):
        return None
    symbols = _symbols(left) | _symbols(right)
    if len(symbols) != 1:
        return None
    (symbol,) = symbols
    gap = difference(left.formula, right.formula)
    end = root_of_affine(gap, symbol, Point())
    before = value_of(gap, Point(fixed=((symbol, end - 1),))) if isinstance(end, Fraction) else None
    if not isinstance(end, Fraction) or not isinstance(before, Fraction):
        return None
    point = _number(end)
    # Left of the end the gap is negative, so `left < right` holds there.
    if before < 0:
        return (Piece(_MINUS_INFINITY, point, False, has_end),)
    return (Piece(point, _INFINITY, has_end, False),)


def _distance(sides: tuple[Answer, ...], *, has_end: bool) -> Region | None:
    """Return what `|inside| < size` says, the interval, or `size < |inside|`, two half-lines."""
    for place, other in ((0, 1), (1, 0)):
        side, size = sides[place], sides[other]
        if not (isinstance(side, Quantity) and isinstance(size, Quantity)) or _symbols(size):
            continue
        node = side.formula.node
        if not (isinstance(node, Call) and node.name == "abs"):
            continue
        inside = Quantity(formula=replace(side.formula, node=node.arguments[0]))
        minus = Quantity(formula=replace(size.formula, node=Call("neg", (size.formula.node,))))
        pairs = ((inside, size), (minus, inside)) if place == 0 else ((inside, minus), (size, inside))
        halves = [_half_line(pair, has_end=has_end) for pair in pairs]
        pieces = [half[0] for half in halves if half is not None]
        if len(pieces) != 2:
            return None
        lower, upper = sorted(pieces, key=lambda piece: is_infinite(piece.high))
        if place == 1:
            return lower, upper
        return (Piece(upper.low, lower.high, has_end, has_end),)
    return None


def difference(left: Formula, right: Formula) -> Formula:
    """Return left − right."""
    node: Node = Call("+", (left.node, Call("neg", (right.node,))))
    return Formula(
        node=node,
        symbols=left.symbols | right.symbols,
        names=left.names | right.names | {"+", "neg"},
        has_decimals=left.has_decimals or right.has_decimals,
        is_loose=left.is_loose or right.is_loose,
    )


def _number(value: Fraction) -> Quantity:
    node = Number(value)
    return Quantity(
        formula=Formula(node=node, symbols=frozenset(), names=frozenset(), has_decimals=False, is_loose=False)
    )


def _is_variable(answer: Answer) -> bool:
    r"""Whether an answer is one variable, or a function of one: `x`, `\lambda`, `f(x)`."""
    return isinstance(answer, Quantity) and isinstance(_main(answer).node, Symbol)


def _main(quantity: Quantity) -> Formula:
    return quantity.with_unit_as_symbols or quantity.formula


def _symbols(answer: Answer) -> frozenset[str]:
    return _main(answer).symbols if isinstance(answer, Quantity) else frozenset()
