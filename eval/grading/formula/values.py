"""Compares formulas by value, in three values: right, wrong and undecided.

Wrong is said only of what is proved: two constants whose balls do not touch, or two functions that differ at a real
point inside both domains. Right is said of constants that agree exactly or to 25 digits, and of functions that agree
so at every point of both domains that was tried: points of both signs and several scales, one at least of each.
"""

from __future__ import annotations

import decimal
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from eval.grading.formula import balls
from eval.grading.formula.balls import Undefined, Value
from eval.grading.formula.nodes import Call, Formula, Node, Number, Symbol

MAX_FACTORIAL = 2_500
"""Larger factorials continue as balls, by Stirling's series."""
ROUNDED = Decimal("1e-6")
"""Relative difference up to which a decimal is another number rounded."""
MAX_SYMBOLS_ALONE = 6
"""Variables of which each is made to outweigh the others."""
FEWEST_POINTS = 3
"""Points inside both domains that functions must share before they are called equal."""
DOMAIN_OF_WHOLE = frozenset(("!", "binom"))
"""Operations that say a formula is about whole numbers."""
STEPS = frozenset(("floor", "ceil"))
"""Operations that a formula about whole numbers may have, as well as one about all."""
WHOLE_SYMBOLS = frozenset("ijkmnIJKMN")
"""Letters that mean whole numbers beside them."""
PIECEWISE = STEPS | {"abs", "root"}
"""Operations by which two functions can be one on a part of the line and differ on the rest."""

_SCALES = (Fraction(1, 8), Fraction(1), Fraction(64), Fraction(1, 2), Fraction(8), Fraction(1, 4), Fraction(512))
_NUM_POINTS = len(_SCALES)
_NUM_POINTS_OF_PIECES = 16
_FAR = Fraction(4099)
"""A value beside which other terms are small."""
_FIRST_MIXED_POINT = 3
"""Points before this one are positive in all variables; from it to those of pieces, signs are mixed."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a formula is evaluated."""

    number: int = 0
    is_whole: bool = False
    degree_is_radian: bool = True
    """60° counts as π/3; otherwise, outside of sines, as 60."""
    fixed: tuple[tuple[str, Value], ...] = ()
    """Variables that are given a value."""


def evaluate(node: Node, point: Point) -> Value:
    """Return the value of a formula at a point.

    Raises:
        Undefined, ArithmeticError: the point is outside its domain, or the value cannot be told.
    """
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Symbol):
        return _value_of(node.name, point)
    if node.name in _TRIGONOMETRIC or node.name == "degree":
        return _evaluate_angle(node, point)
    return _OPERATIONS[node.name](*(evaluate(argument, point) for argument in node.arguments))


def _evaluate_angle(node: Call, point: Point) -> Value:
    """Inside a sine, a degree is π/180 whatever it is outside."""
    if node.name == "degree":
        value = evaluate(node.arguments[0], point)
        return balls.product(value, _degree()) if point.degree_is_radian else value
    inner = Point(point.number, point.is_whole, True, point.fixed)
    return _TRIGONOMETRIC[node.name](evaluate(node.arguments[0], inner))


def value_of(formula: Formula, point: Point = Point()) -> Value | None:
    """Return the value of a formula, or None where it has none here."""
    if isinstance(formula.node, Number):
        return formula.node.value
    try:
        with decimal.localcontext(balls.CONTEXT):
            return evaluate(formula.node, point)
    except (ArithmeticError, ValueError, KeyError):
        return None


def same_formula(left: Formula, right: Formula) -> bool | None:
    """Return whether two formulas agree everywhere; None where that is not certain."""
    if left.node == right.node:
        return True
    if isinstance(left.node, Number) and isinstance(right.node, Number):
        return same_number(left.node, right.node)
    if ("log" in left.names) != ("log" in right.names):
        return None  # without a base, it may be either
    verdict = _same(left, right, degree_is_radian=True)
    has_degrees = "degree" in left.names or "degree" in right.names
    if verdict is not True and has_degrees:
        # 60° is also the 60 of a question that asks for degrees; 60° = π/3 was the first comparison.
        plain = _same(left, right, degree_is_radian=False)
        verdict = True if plain else None if None in (plain, verdict) else False
    return None if verdict is False and has_other_reading(left, right) else verdict


def has_other_reading(left: Formula, right: Formula) -> bool:
    r"""Whether a difference proves nothing, as one side could be read otherwise: `2^10`, `f(x)` against `xf`.

    `f(x)` and `\frac{dx}{dt}` are symbols of their own, which is certain where both sides have the same symbols.
    """
    has_calls = any("(" in symbol or "/" in symbol for symbol in left.symbols | right.symbols)
    return left.is_loose or right.is_loose or (has_calls and left.symbols != right.symbols)


def is_angle(formula: Formula) -> bool:
    """Whether a formula names π or degrees."""
    return "pi" in formula.names or "degree" in formula.names


def _same(left: Formula, right: Formula, *, degree_is_radian: bool) -> bool | None:
    has_decimals = left.has_decimals or right.has_decimals
    if not left.symbols and not right.symbols:
        point = Point(degree_is_radian=degree_is_radian)
        return _same_value(value_of(left, point), value_of(right, point), has_decimals=has_decimals)
    names = left.names | right.names
    is_whole = bool(names & DOMAIN_OF_WHOLE or (names & STEPS and left.symbols | right.symbols <= WHOLE_SYMBOLS))
    points = [Point(number, is_whole, degree_is_radian) for number in range(_NUM_POINTS)]
    if names & PIECEWISE and not is_whole:
        points += _points_of_pieces(left.symbols | right.symbols, degree_is_radian=degree_is_radian)
    verdict, num_shared = _same_at(left, right, points)
    if is_whole or verdict is True:
        return verdict
    if (verdict is None and num_shared == 0) or (verdict is False and names & STEPS):
        whole, _ = _same_at(left, right, [Point(number, True, degree_is_radian) for number in range(_NUM_POINTS)])
        # ⌊n/2⌋ = ⌈(n − 1)/2⌉ for whole n, ⌊x⌋ = x too: which numbers are meant is not said.
        return whole if verdict is None else None if whole is True else False
    return verdict


def _points_of_pieces(symbols: frozenset[str], *, degree_is_radian: bool) -> list[Point]:
    """Return points in any order of the variables, and those where one of them outweighs the rest, on either side."""
    points = [Point(number, False, degree_is_radian) for number in range(_NUM_POINTS, _NUM_POINTS_OF_PIECES)]
    for symbol in sorted(symbols)[:MAX_SYMBOLS_ALONE]:
        points += [Point(0, False, degree_is_radian, ((symbol, far),)) for far in (_FAR, -_FAR)]
    return points


def _same_at(left: Formula, right: Formula, points: Iterable[Point]) -> tuple[bool | None, int]:
    """Return the verdict over these points, and how many lie inside both domains."""
    has_decimals = left.has_decimals or right.has_decimals
    is_complex = "i" in left.names or "i" in right.names
    num_shared, is_certain = 0, True
    for point in points:
        first, second = value_of(left, point), value_of(right, point)
        if first is None or second is None or not (is_complex or _are_real(first, second)):
            continue
        num_shared += 1
        verdict = _same_value(first, second, has_decimals=has_decimals)
        if verdict is False:
            # √(a²b) = a√b where a length is meant: apart only at negative points is no proof, unless |a| is said.
            is_proof = _is_positive(point) or num_shared < _FIRST_MIXED_POINT or point.is_whole
            is_proof |= not ({"root", "^"} & (left.names | right.names)) or "abs" in left.names | right.names
            return (False if is_proof else None), num_shared
        is_certain &= verdict is True
    return (True if is_certain and num_shared >= FEWEST_POINTS else None), num_shared


def same_number(left: Number, right: Number) -> bool:
    """Compare exactly; to 1e-6 relative where either is a decimal."""
    gap, size = abs(left.value - right.value), max(abs(left.value), abs(right.value))
    return gap == 0 or ((left.is_decimal or right.is_decimal) and gap * 1_000_000 <= size)


def _are_real(first: Value, second: Value) -> bool:
    return all(isinstance(value, Fraction) or value.is_real for value in (first, second))


def _same_value(left: Value | None, right: Value | None, *, has_decimals: bool) -> bool | None:
    if left is None or right is None:
        return None
    with decimal.localcontext(balls.CONTEXT):
        try:
            if balls.are_equal(left, right):
                return True
            if has_decimals and balls.are_near(left, right, ROUNDED):
                return True
            return False if balls.are_apart(left, right) else None
        except ArithmeticError:
            return None


def proportional(left: Formula, right: Formula) -> bool | None:
    """Return whether left = c · right for a constant c ≠ 0: two equations `… = 0` are then the same.

    None where it cannot be told. False is no proof that the equations differ: y = 1/x and xy = 1 are not proportional.
    """
    ratios: list[Value] = []
    with decimal.localcontext(balls.CONTEXT):
        for point in map(Point, range(_NUM_POINTS)):
            try:
                first, second = evaluate(left.node, point), evaluate(right.node, point)
                if balls.is_zero(first) and balls.is_zero(second):
                    continue
                ratios.append(balls.quotient(first, second))
            except (ArithmeticError, ValueError, KeyError):
                continue
        if len(ratios) < FEWEST_POINTS:
            return None
        if balls.is_zero(ratios[0]):
            return False
        return all(balls.are_equal(ratio, ratios[0]) for ratio in ratios[1:])


def is_identity(formula: Formula) -> bool:
    """Whether a formula is zero at every point: the equation it stands for says nothing."""
    values = [value_of(formula, Point(number)) for number in range(_NUM_POINTS)]
    found = [value for value in values if value is not None]
    with decimal.localcontext(balls.CONTEXT):
        return bool(found) and all(balls.are_equal(value, Fraction(0)) for value in found)


def root_of_affine(formula: Formula, symbol: str, point: Point) -> Value | None:
    """Return the value of a symbol at which a formula is zero, where it depends on it as a straight line does."""
    try:
        with decimal.localcontext(balls.CONTEXT):
            values = [
                evaluate(formula.node, Point(point.number, point.is_whole, True, ((symbol, Fraction(place)),)))
                for place in (0, 1, 3)
            ]
            slope = balls.total(values[1], balls.negative(values[0]))
            reached = balls.total(values[0], balls.product(Fraction(3), slope))
            if balls.is_zero(slope) or not balls.are_equal(reached, values[2]):
                return None
            return balls.quotient(balls.negative(values[0]), slope)
    except (ArithmeticError, ValueError, KeyError):
        return None


def _value_of(name: str, point: Point) -> Value:
    for fixed, value in point.fixed:
        if fixed == name:
            return value
    return _chosen(name, point.number, point.is_whole)


@lru_cache(maxsize=8192)
def _chosen(name: str, number: int, is_whole: bool) -> Fraction:
    """The value of a variable at a point, without pattern and the same for ever.

    Whole: 2 to 41. Otherwise dyadic (exact arithmetic on it is quick), of the point's scale, and from the first mixed
    point on of either sign. At the points of pieces each variable has a scale of its own, so that no order of them, and
    no distance from a constant, is left out.
    """
    word = int.from_bytes(hashlib.blake2b(f"{name} {number}".encode(), digest_size=6).digest(), "big")
    if is_whole:
        return Fraction(2 + word % 40)
    is_of_pieces = number >= _NUM_POINTS
    size = Fraction(5 + word % 11, 8) * _SCALES[(word // 11 if is_of_pieces else number) % len(_SCALES)]
    if is_of_pieces:
        return size if word // 77 % 2 or number % 2 else -size
    # Of either sign once, which of the two first by the name, and then negative: |x| is told from x whatever its name.
    signs = (False, True) if hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % 2 else (True, False)
    mixed = number - _FIRST_MIXED_POINT
    is_negative = mixed >= 0 and (signs[mixed] if mixed < len(signs) else True)
    return -size if is_negative else size


def _is_positive(point: Point) -> bool:
    """Whether all variables are above zero at a point."""
    is_first = point.number < _FIRST_MIXED_POINT or (point.number >= _NUM_POINTS and point.number % 2 == 1)
    return is_first and all(isinstance(value, Fraction) and value > 0 for _, value in point.fixed)


def _degree() -> Value:
    return balls.product(Fraction(1, 180), balls.pi())


def _factorial(value: Value) -> Value:
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= 10**7:
        raise Undefined
    count = int(value)
    return balls.tidy(Fraction(math.factorial(count))) if count <= MAX_FACTORIAL else balls.stirling(count)


def _choose(top: Value, bottom: Value) -> Value:
    if not (isinstance(top, Fraction) and isinstance(bottom, Fraction)):
        raise Undefined
    if top.denominator != 1 or bottom.denominator != 1 or not 0 <= bottom <= top <= 2_500:
        raise Undefined
    return balls.tidy(Fraction(math.comb(int(top), int(bottom))))


def _power(base: Value, exponent: Value) -> Value:
    if balls.may_be_negative(base) and not (isinstance(exponent, Fraction) and exponent.denominator == 1):
        raise Undefined  # the real root or the principal one?
    return balls.power(base, exponent)


def _root(value: Value, degree: Value) -> Value:
    assert isinstance(degree, Fraction)
    return balls.real_root(value, int(degree))


def _log_to_base(value: Value, base: Value) -> Value:
    return balls.quotient(balls.logarithm(value), balls.logarithm(base))


def _undefined() -> Value:
    raise Undefined


def _half(value: Value, sign: int) -> Value:
    """(e^x ± e^−x) / 2."""
    minus = balls.exponential(balls.negative(value))
    whole = balls.total(balls.exponential(value), minus if sign > 0 else balls.negative(minus))
    return balls.quotient(whole, Fraction(2))


def _over(numerator: Value, denominator: Value) -> Value:
    return balls.quotient(numerator, denominator)


_ONE = Fraction(1)
_TRIGONOMETRIC: dict[str, Callable[[Value], Value]] = {
    "sin": balls.sine,
    "cos": balls.cosine,
    "tan": lambda x: _over(balls.sine(x), balls.cosine(x)),
    "sec": lambda x: _over(_ONE, balls.cosine(x)),
    "csc": lambda x: _over(_ONE, balls.sine(x)),
    "cot": lambda x: _over(balls.cosine(x), balls.sine(x)),
}
_OPERATIONS: dict[str, Callable[..., Value]] = {
    "+": balls.total,
    "*": balls.product,
    "/": balls.quotient,
    "^": _power,
    "neg": balls.negative,
    "root": _root,
    "abs": balls.absolute,
    "!": _factorial,
    "binom": _choose,
    "floor": lambda x: balls.whole_part(x, math.floor),
    "ceil": lambda x: balls.whole_part(x, math.ceil),
    "exp": balls.exponential,
    "ln": balls.logarithm,
    "log": balls.logarithm,
    "lg": lambda x: _log_to_base(x, Fraction(10)),
    "log_base": _log_to_base,
    "arcsin": balls.arc_sine,
    "arccos": balls.arc_cosine,
    "arctan": balls.arc_tangent,
    "arccot": lambda x: balls.arc_tangent(balls.quotient(_ONE, x)),
    "sinh": lambda x: _half(x, -1),
    "cosh": lambda x: _half(x, 1),
    "tanh": lambda x: _over(_half(x, -1), _half(x, 1)),
    "pi": balls.pi,
    "e": balls.base_of_logarithms,
    "i": balls.imaginary_unit,
    "infty": _undefined,
}
