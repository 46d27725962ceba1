"""Numbers with a proved error bound: a decimal centre of 50 digits and a radius that the true value cannot leave.

Two balls that do not touch are different numbers: that is a proof. Two that touch may be equal; they are called equal
when the radius leaves no room for a difference anybody writes. Decimals have an exponent of millions, so nothing
underflows: 1/1998! and 1/2001! stay apart.

Source: van der Hoeven, Ball arithmetic (2009); the error of each rule stands beside it.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from math import isqrt

PRECISION = 50
LARGEST_EXPONENT = 1_000_000
"""Larger numbers are left undecided: nobody answers with them, and computing on them can take for ever."""
CONTEXT = decimal.Context(
    prec=PRECISION,
    Emax=LARGEST_EXPONENT,
    Emin=-LARGEST_EXPONENT,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Underflow, decimal.Subnormal],
)
MAX_BITS = 8_192
"""Exact fractions with a longer numerator or denominator continue as balls."""
EQUAL = Decimal("1e-25")
"""Relative radius up to which two balls that touch are called equal."""

_ULP = Decimal(10) ** (2 - PRECISION)
_SAFETY = Decimal("1.001")
_ZERO, _ONE, _TWO = Decimal(0), Decimal(1), Decimal(2)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


class Undefined(ArithmeticError):
    """There is no real value here, or none that can be told with certainty."""


@dataclass(frozen=True, slots=True)
class Ball:
    """All complex numbers within `radius` of `re + im·i`."""

    re: Decimal
    im: Decimal
    radius: Decimal

    @property
    def is_real(self) -> bool:
        """Whether it was computed from real numbers alone."""
        return self.im == 0

    @property
    def size(self) -> Decimal:
        """Upper bound of the centre's absolute value, at most √2 times too large."""
        return abs(self.re) + abs(self.im)


Value = Fraction | Ball
"""Exact for as long as every step allows it."""


def ball(value: Value | Decimal) -> Ball:
    """Return a value as a ball."""
    if isinstance(value, Ball):
        return value
    if isinstance(value, Decimal):
        return _rounded(value)
    return _rounded(Decimal(value.numerator) / Decimal(value.denominator))


def tidy(value: Fraction) -> Value:
    """Return an exact value as it is, or as a ball where exact arithmetic would get slow."""
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    return value if bits <= MAX_BITS else ball(value)


def are_apart(left: Value, right: Value) -> bool:
    """Whether two values are proved to be different."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left != right
    a, b = ball(left), ball(right)
    gap = max(abs(a.re - b.re), abs(a.im - b.im))
    return gap > (a.radius + b.radius) * _SAFETY


def are_equal(left: Value, right: Value) -> bool:
    """Whether two values are equal: exactly, or as far as 25 digits tell."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    a, b = ball(left), ball(right)
    return not are_apart(a, b) and a.radius + b.radius <= EQUAL * max(a.size, b.size, _ONE)


def are_near(left: Value, right: Value, relative: Decimal) -> bool:
    """Whether the centres differ by at most a relative amount."""
    a, b = ball(left), ball(right)
    return max(abs(a.re - b.re), abs(a.im - b.im)) <= relative * max(a.size, b.size)


def is_zero(value: Value) -> bool:
    """Whether a value may be zero."""
    return not are_apart(value, Fraction(0))


def negative(value: Value) -> Value:
    """Return −value."""
    return -value if isinstance(value, Fraction) else Ball(-value.re, -value.im, value.radius)


def total(left: Value, right: Value) -> Value:
    """Return left + right; the radii add up."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return tidy(left + right)
    a, b = ball(left), ball(right)
    return _rounded(a.re + b.re, a.im + b.im, a.radius + b.radius)


def product(left: Value, right: Value) -> Value:
    """Return left · right; |ab − a₀b₀| ≤ |a₀|s + |b₀|r + rs."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return tidy(left * right)
    a, b = ball(left), ball(right)
    radius = a.size * b.radius + b.size * a.radius + a.radius * b.radius
    if a.is_real and b.is_real:
        return _rounded(a.re * b.re, _ZERO, radius)
    slack = a.size * b.size * _ULP  # cancellation between the two products
    return _rounded(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re, radius + slack)


def quotient(left: Value, right: Value) -> Value:
    """Return left / right; undefined where the divisor may be zero."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        if right == 0:
            raise Undefined
        return tidy(left / right)
    return product(left, _inverse(ball(right)))


def power(base: Value, exponent: Value) -> Value:
    """Return base^exponent: whole exponents of anything, others of positive numbers."""
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        return _whole_power(base, exponent.numerator)
    if isinstance(exponent, Fraction) and exponent.denominator == 2 and not may_be_negative(base):
        return _whole_power(square_root(base), exponent.numerator)
    if is_zero(base):
        if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent > 0:
            return base
        raise Undefined
    return exponential(product(exponent, logarithm(base)))


def may_be_negative(value: Value) -> bool:
    """Whether a value may be a negative real number; never for what is truly complex."""
    if isinstance(value, Fraction):
        return value < 0
    return value.is_real and value.re - value.radius < 0


def square_root(value: Value) -> Value:
    """Return the principal square root, exact for squares; |√z − √z₀| ≤ r/|√z₀|."""
    if isinstance(value, Fraction) and value >= 0:
        exact = Fraction(isqrt(value.numerator), isqrt(value.denominator))
        if exact * exact == value:
            return exact
    z = ball(value)
    if z.re == 0 and z.im == 0 and z.radius == 0:
        return Fraction(0)
    if z.radius * 2 >= z.size:
        raise Undefined
    if z.is_real:
        root = abs(z.re).sqrt(CONTEXT)
        return _rounded(root, _ZERO, z.radius / root) if z.re > 0 else _rounded(_ZERO, root, z.radius / root)
    modulus = (z.re * z.re + z.im * z.im).sqrt(CONTEXT)
    re, im = ((modulus + z.re) / 2).sqrt(CONTEXT), ((modulus - z.re) / 2).sqrt(CONTEXT)
    size = re + im
    return _rounded(re, im.copy_sign(z.im), 2 * z.radius / size + size * _ULP * 1000)


def real_root(value: Value, degree: int) -> Value:
    """Return the real root of a positive number, or of a negative one where the degree is odd."""
    if degree == 2:
        return square_root(value)
    if may_be_negative(value):
        if degree % 2 == 0:
            raise Undefined
        return negative(real_root(negative(value), degree))
    return power(value, Fraction(1, degree))


def exponential(value: Value) -> Value:
    """Return e^value; |e^z − e^z₀| ≤ |e^z₀|(e^r − 1)."""
    if value == 0:
        return Fraction(1)
    z = ball(value)
    if abs(z.re) > 3 * LARGEST_EXPONENT or z.radius > 1:
        raise Undefined
    growth = z.re.exp(CONTEXT)
    spread = 2 * z.radius + _ULP
    if z.is_real:
        return _rounded(growth, _ZERO, growth * spread)
    sine, cosine = _sine_and_cosine(z.im)
    return _rounded(growth * cosine, growth * sine, growth * (spread + abs(z.im) * _ULP))


def logarithm(value: Value) -> Value:
    """Return the natural logarithm of a positive number; |ln z − ln z₀| ≤ r/(z₀ − r)."""
    if value == 1:
        return Fraction(0)
    x = _positive(value)
    return _rounded(_logarithm(x.re), _ZERO, x.radius / (x.re - x.radius) + _ULP)


def sine(value: Value) -> Value:
    """Return the sine of a real number, which moves by at most the radius."""
    x = _real(value)
    return _rounded(_sine_and_cosine(x.re)[0], _ZERO, x.radius + (1 + abs(x.re)) * _ULP)


def cosine(value: Value) -> Value:
    """Return the cosine of a real number."""
    x = _real(value)
    return _rounded(_sine_and_cosine(x.re)[1], _ZERO, x.radius + (1 + abs(x.re)) * _ULP)


def arc_tangent(value: Value) -> Value:
    """Return the arc tangent of a real number."""
    if value == 0:
        return Fraction(0)
    x = _real(value)
    return _rounded(_arc_tangent(x.re), _ZERO, x.radius + _ULP * 10)


def arc_sine(value: Value) -> Value:
    """Return the arc sine of a number from −1 to 1, by the arc tangent of x/√(1 − x²)."""
    if isinstance(value, Fraction) and abs(value) == 1:
        return product(Fraction(value / 2), pi())
    x = _real(value)
    if abs(x.re) + x.radius >= 1:
        raise Undefined
    return arc_tangent(quotient(x, square_root(total(Fraction(1), negative(product(x, x))))))


def arc_cosine(value: Value) -> Value:
    """Return the arc cosine of a number from −1 to 1."""
    return total(product(Fraction(1, 2), pi()), negative(arc_sine(value)))


def absolute(value: Value) -> Value:
    """Return |value|."""
    if isinstance(value, Fraction):
        return abs(value)
    if value.is_real:
        return Ball(abs(value.re), _ZERO, value.radius)
    return square_root(_rounded(value.re**2 + value.im**2, _ZERO, 2 * value.size * value.radius + value.radius**2))


def whole_part(value: Value, function: Callable[[Fraction | Decimal], int]) -> Fraction:
    """Return the floor or ceiling; undefined where the radius reaches over a whole number."""
    if isinstance(value, Fraction):
        return Fraction(function(value))
    x = _real(value)
    low, high = function(x.re - x.radius * 2), function(x.re + x.radius * 2)
    if low != high:
        raise Undefined
    return Fraction(low)


@cache
def pi() -> Ball:
    """Return π."""
    with decimal.localcontext(CONTEXT):
        return _rounded(_PI)


@cache
def base_of_logarithms() -> Value:
    """Return e."""
    with decimal.localcontext(CONTEXT):
        return exponential(Fraction(1))


def imaginary_unit() -> Ball:
    """Return i."""
    return Ball(_ZERO, _ONE, _ZERO)


def stirling(count: int) -> Ball:
    """Return count! for a large count; the first left-out term of the series bounds the error.

    Source: Robbins (1955): ln n! lies within 1/(360n³) below n ln n − n + ½ ln 2πn + 1/(12n).
    """
    n = Decimal(count)
    series = n * n.ln(CONTEXT) - n + (2 * _PI * n).ln(CONTEXT) / 2 + 1 / (12 * n)
    result = exponential(Ball(+series, _ZERO, 1 / (360 * n**3) + series * _ULP))
    assert isinstance(result, Ball)
    return result


def _rounded(re: Decimal, im: Decimal = _ZERO, radius: Decimal = _ZERO) -> Ball:
    """Return a ball whose radius also covers the rounding of its centre."""
    return Ball(+re, +im, radius + (abs(re) + abs(im)) * _ULP)


def _inverse(z: Ball) -> Ball:
    """Return 1/z; |1/z − 1/z₀| ≤ r/(|z₀|(|z₀| − r))."""
    if z.is_real:
        room = abs(z.re) - z.radius
        if room <= 0:
            raise Undefined
        return _rounded(1 / z.re, _ZERO, z.radius / (abs(z.re) * room))
    squared = z.re * z.re + z.im * z.im
    modulus = squared.sqrt(CONTEXT)
    if modulus <= 2 * z.radius:
        raise Undefined
    return _rounded(z.re / squared, -z.im / squared, z.radius / (modulus * (modulus - z.radius)) * _SAFETY)


def _whole_power(base: Value, exponent: int) -> Value:
    if exponent == 0:
        return Fraction(1)
    if isinstance(base, Fraction):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) <= MAX_BITS or abs(base) in (0, 1):
            if base == 0 and exponent < 0:
                raise Undefined
            return base ** (exponent if abs(base) != 1 else exponent % 2)
    if exponent < 0:
        return quotient(Fraction(1), _whole_power(base, -exponent))
    if exponent <= 64:
        half = _whole_power(base, exponent // 2)
        squared = product(half, half)
        return product(squared, base) if exponent % 2 else squared
    x = _real(base)
    grown = exponential(product(Fraction(exponent), logarithm(absolute(x))))
    return negative(grown) if x.re < 0 and exponent % 2 else grown


def _real(value: Value) -> Ball:
    z = ball(value)
    if not z.is_real:
        raise Undefined
    return z


def _positive(value: Value) -> Ball:
    x = _real(value)
    if x.re - x.radius <= 0:
        raise Undefined
    return x


@lru_cache(maxsize=4096)
def _logarithm(x: Decimal) -> Decimal:
    """Kept, as it is the dearest of all steps, and the same few bases (e, 2, 10) are raised at every point."""
    return x.ln(CONTEXT)


def _sine_and_cosine(angle: Decimal) -> tuple[Decimal, Decimal]:
    """Return both by their series, after the angle is brought to within π/4 of zero."""
    if abs(angle) > 10**12:
        raise Undefined
    quarter = (angle / (_PI / 2)).to_integral_value()
    x = angle - quarter * (_PI / 2)
    sine_, cosine_ = _series(x, x), _series(x, _ONE)
    turn = int(quarter) % 4
    return ((sine_, cosine_), (cosine_, -sine_), (-sine_, -cosine_), (-cosine_, sine_))[turn]


def _series(x: Decimal, first: Decimal) -> Decimal:
    """Sum first · Σ (−x²)^k / … : the sine for first = x, the cosine for first = 1."""
    squared, term, result = x * x, first, first
    factor = 2 if first == x and x != 1 else 1
    while abs(term) > _ULP * _ULP or term == first:
        term = -term * squared / (factor * (factor + 1))
        result += term
        factor += 2
        if term == 0:
            break
    return result


def _arc_tangent(x: Decimal) -> Decimal:
    if abs(x) > 1:
        return (_PI / 2).copy_sign(x) - _arc_tangent(1 / x)
    for _ in range(3):  # atan x = 2 atan(x / (1 + √(1 + x²)))
        x = x / (1 + (1 + x * x).sqrt(CONTEXT))
    squared, term, result, odd = x * x, x, x, 1
    while abs(term) > _ULP * _ULP:
        term = -term * squared
        odd += 2
        result += term / odd
    return 8 * result
