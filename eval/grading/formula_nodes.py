"""Evaluators of the formula grammar: each takes evaluators of its parts and returns one for the whole.

Values are exact fractions for as long as every step allows it, and complex floats from there on.
"""

from __future__ import annotations

import cmath
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_POWER_BITS = 2048
"""Exact powers stay below this many bits; larger ones are undecided."""

Value = Fraction | complex
Point = int
Node = Callable[["Run"], Value]


class Unreadable(Exception):
    """The grammar has no certain reading."""


@dataclass(slots=True)
class Run:
    """One evaluation at one point."""

    point: Point
    is_whole: bool = False
    """Variables take whole values."""
    largest: float = 1.0
    """Largest intermediate value: what cancellation must be measured against."""

    def note(self, value: Value) -> Value:
        """Pass a value on, remembering its size; what is too large for floats is unreadable."""
        size = float(abs(value)) if isinstance(value, Fraction) else abs(value)
        if not size < 1e300:
            raise Unreadable
        self.largest = max(self.largest, size)
        return value


def constant(value: Value) -> Node:
    """Return an evaluator of a fixed value."""
    return lambda run: run.note(value)


def negate(node: Node) -> Node:
    """Return −node."""
    return lambda run: -node(run)


def add(left: Node, right: Node) -> Node:
    """Return left + right."""

    def evaluate(run: Run) -> Value:
        a, b = left(run), right(run)
        return run.note(a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) + complex(b))

    return evaluate


def multiply(left: Node, right: Node) -> Node:
    """Return left · right."""

    def evaluate(run: Run) -> Value:
        a, b = left(run), right(run)
        return run.note(a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) * complex(b))

    return evaluate


def divide(left: Node, right: Node) -> Node:
    """Return left / right."""

    def evaluate(run: Run) -> Value:
        a, b = left(run), right(run)
        return run.note(a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) / complex(b))

    return evaluate


def raise_to(base: Node, exponent: Node) -> Node:
    """Return base to the power of exponent; a negative base with a fractional exponent is unreadable."""

    def evaluate(run: Run) -> Value:
        a, b = base(run), exponent(run)
        if isinstance(a, Fraction) and isinstance(b, Fraction) and b.denominator == 1:
            bits = max(a.numerator.bit_length(), a.denominator.bit_length(), 1)
            if abs(b.numerator) * bits > MAX_POWER_BITS:
                raise Unreadable
            return run.note(a**b.numerator)
        a, b = complex(a), complex(b)
        if a.real < 0 and a.imag == 0 and b != round(b.real):
            raise Unreadable  # the real root or the principal one?
        return run.note(a**b)

    return evaluate


def root(node: Node, degree: int) -> Node:
    """Return the real root; exact for squares of fractions."""

    def evaluate(run: Run) -> Value:
        value = node(run)
        if isinstance(value, Fraction) and degree == 2 and value >= 0:
            exact = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
            if exact**2 == value:
                return run.note(exact)
        inside = complex(value)
        if inside.imag == 0 and inside.real < 0 and degree != 2:
            raise Unreadable
        return run.note(cmath.sqrt(inside) if degree == 2 else inside ** (1 / degree))

    return evaluate


def absolute(node: Node) -> Node:
    """Return |node|."""

    def evaluate(run: Run) -> Value:
        inside = node(run)
        return run.note(abs(inside) if isinstance(inside, Fraction) else complex(abs(inside)))

    return evaluate


def apply(function: Callable[[complex], complex], node: Node, *, must_be_positive: bool) -> Node:
    """Return function(node)."""

    def evaluate(run: Run) -> Value:
        inside = complex(node(run))
        if must_be_positive and (inside.imag != 0 or inside.real <= 0):
            raise Unreadable
        return run.note(function(inside))

    return evaluate


def logarithm(node: Node, base: str) -> Node:
    """Return the logarithm to a whole base."""
    if not base.isdigit() or int(base) < 2:
        raise Unreadable

    def evaluate(run: Run) -> Value:
        inside = complex(node(run))
        if inside.imag != 0 or inside.real <= 0:
            raise Unreadable
        return run.note(complex(math.log(inside.real, int(base))))

    return evaluate


def rounded_to_whole(node: Node, function: Callable[[Fraction], int]) -> Node:
    """Return the floor or ceiling."""

    def evaluate(run: Run) -> Value:
        inside = node(run)
        if isinstance(inside, Fraction):
            return run.note(Fraction(function(inside)))
        nearest = round(inside.real)
        # A float that close to a whole number may lie on either side of it.
        if abs(inside.imag) > 1e-12 or abs(inside.real - nearest) < 1e-9:
            raise Unreadable
        return run.note(Fraction(function(Fraction(inside.real))))

    return evaluate


def factorial(node: Node) -> Node:
    """Return node! for whole numbers up to 150."""

    def evaluate(run: Run) -> Value:
        inside = node(run)
        if not isinstance(inside, Fraction) or inside.denominator != 1 or not 0 <= inside <= 150:
            raise Unreadable
        return run.note(Fraction(math.factorial(int(inside))))

    return evaluate


def choose(top: Node, bottom: Node) -> Node:
    """Return the binomial coefficient of whole numbers up to 500."""

    def evaluate(run: Run) -> Value:
        n, k = top(run), bottom(run)
        if not (isinstance(n, Fraction) and isinstance(k, Fraction)) or n.denominator != 1 or k.denominator != 1:
            raise Unreadable
        if not 0 <= k <= n <= 500:
            raise Unreadable
        return run.note(Fraction(math.comb(int(n), int(k))))

    return evaluate


@lru_cache(maxsize=4096)
def value_at(name: str, run_point: Point, is_whole: bool) -> Value:
    """The value of a variable at a point: 0.4 to 1.9, or 2 to 41 and whole; without pattern, the same for ever."""
    word = int.from_bytes(hashlib.blake2b(f"{name} {run_point}".encode(), digest_size=6).digest(), "big")
    return Fraction(2 + word % 40) if is_whole else complex(0.4 + 1.5 * word / 2**48)
