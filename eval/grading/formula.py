r"""Compares formulas by value: parsed by a small grammar, evaluated at fixed points, exactly where that is possible.

Decides most of what string and fraction comparison leave open, `-2+2\sqrt{3}` against `2\sqrt3-2`, in tens of
microseconds. What it does not know for certain how to read (text, equations, `f(x)`, `\pm`, sums with limits) it
leaves undecided. Nothing of an answer is ever run: the grammar knows numbers, letters, six operators and a table of
functions, with caps on length, depth and size.
"""

from __future__ import annotations

import cmath
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

MAX_CHARS = 400
MAX_DEPTH = 40
MAX_POWER_BITS = 2048
"""Exact powers stay below this many bits; larger ones are undecided."""
NUM_POINTS = 3
EQUAL = 1e-10
"""Relative difference up to which two values of floating point are the same."""
DIFFERENT = 1e-6
"""Relative difference from which on they are not; between the two, undecided."""
LARGEST_FOR_FLOATS = 1e5
"""Above this, agreement to 1e-10 could hide a difference in the units: undecided."""

Value = Fraction | complex
Point = int
Node = Callable[["_Run"], Value]

_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    r"\sin": cmath.sin,
    r"\cos": cmath.cos,
    r"\tan": cmath.tan,
    r"\sec": lambda x: 1 / cmath.cos(x),
    r"\csc": lambda x: 1 / cmath.sin(x),
    r"\cot": lambda x: 1 / cmath.tan(x),
    r"\arcsin": cmath.asin,
    r"\arccos": cmath.acos,
    r"\arctan": cmath.atan,
    r"\sinh": cmath.sinh,
    r"\cosh": cmath.cosh,
    r"\tanh": cmath.tanh,
    r"\ln": cmath.log,
    r"\log": cmath.log,
    r"\exp": cmath.exp,
}
_GREEK = frozenset(
    "\\" + name
    for name in (
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
        "phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell"
    ).split()
)
_COMMANDS = sorted(
    (*_FUNCTIONS, *_GREEK, r"\pi", r"\frac", r"\sqrt", r"\binom", r"\cdot", r"\times", r"\div"), key=len, reverse=True
)
_SUBSCRIPT = r"(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9,]*\}))?'*"
# Cleaning took the space out of `\pi x`: the longest command that is known is meant.
_TOKEN = re.compile(
    rf"(?:{'|'.join(map(re.escape, _COMMANDS))}){_SUBSCRIPT}|"
    rf"\d+(?:\.\d*)?|\.\d+|[A-Za-z]{_SUBSCRIPT}|[-+*/^(){{}}\[\]|!]"
)
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_TIMES = ("*", r"\cdot", r"\times")
_DIVIDES = ("/", r"\div")
_STARTS_FACTOR = re.compile(r"[\dA-Za-z.(|\\]")


class _Unreadable(Exception):
    """The grammar has no certain reading."""


@dataclass(slots=True)
class _Run:
    """One evaluation at one point."""

    point: Point
    largest: float = 1.0
    """Largest intermediate value: what cancellation must be measured against."""

    def note(self, value: Value) -> Value:
        size = float(abs(value)) if isinstance(value, Fraction) else abs(value)
        if not size < 1e300:
            raise _Unreadable
        self.largest = max(self.largest, size)
        return value


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed answer."""

    node: Node
    variables: frozenset[str]
    is_sum: bool
    """Has a plus or minus between terms."""
    has_decimals: bool
    has_bare_log: bool
    r"""`\log` without a base may mean either."""
    last_letters: int = field(default=0)
    """Letters at the very end, which may be a unit: `5cm`."""


@lru_cache(maxsize=16384)
def parse_formula(text: str) -> Formula | None:
    """Parse a cleaned answer, or return None where the reading is not certain."""
    if not text or len(text) > MAX_CHARS or "\\\\" in text or is_prose(text):
        return None
    tokens = _TOKEN.findall(text)
    if sum(map(len, tokens)) != len(text):
        return None
    parser = _Parser(tokens)
    try:
        node = parser.sum(0)
        if parser.place != len(tokens):
            return None
        node(_Run(0))
    except (_Unreadable, ArithmeticError, ValueError, RecursionError):
        return None
    ending = re.search(r"[A-Za-z]*$", text)
    return Formula(
        node=node,
        variables=frozenset(parser.variables),
        is_sum=parser.is_sum,
        has_decimals="." in text,
        has_bare_log=r"\log" in text and r"\log_" not in text,
        last_letters=len(ending[0]) if ending else 0,
    )


def is_prose(text: str) -> bool:
    """Whether letters run on as in words: `not10it's`. A product of so many variables is left to others too."""
    return _PROSE.search(text) is not None


def same_formula(left: Formula, right: Formula) -> bool | None:
    """Return whether two formulas agree at every point; None where that cannot be told."""
    if left.has_bare_log != right.has_bare_log:
        return None
    if left.variables != right.variables:
        return _with_other_variables(left, right)
    verdicts = []
    for point in range(NUM_POINTS if left.variables else 1):
        try:
            first, second = _Run(point), _Run(point)
            values = left.node(first), right.node(second)
        except (_Unreadable, ArithmeticError, ValueError):
            return None
        has_decimals = left.has_decimals or right.has_decimals
        verdicts.append(_same_value(*values, largest=max(first.largest, second.largest), has_decimals=has_decimals))
    return False if False in verdicts else None if None in verdicts else True


def _with_other_variables(left: Formula, right: Formula) -> bool | None:
    """A sum with a variable that the other side lacks is another answer; anything else may be a unit."""
    for one, other in ((left, right), (right, left)):
        if one.variables - other.variables and one.is_sum and one.last_letters < 2:
            try:
                # The variable may cancel: 1+x-x.
                values = {_rounded(one.node(_Run(point))) for point in range(NUM_POINTS)}
            except (_Unreadable, ArithmeticError, ValueError):
                return None
            return False if len(values) > 1 else None
    return None


def _rounded(value: Value) -> complex:
    number = complex(value)
    return complex(float(f"{number.real:.6g}"), float(f"{number.imag:.6g}"))


def _same_value(left: Value, right: Value, *, largest: float, has_decimals: bool) -> bool | None:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        if left == right:
            return True
        return has_decimals and abs(left - right) <= Fraction(DIFFERENT) * max(abs(left), abs(right))
    first, second = complex(left), complex(right)
    gap, size = abs(first - second), max(abs(first), abs(second))
    if gap > DIFFERENT * size and gap > 1e-9 * largest:
        return False
    if has_decimals:
        return True if gap <= DIFFERENT * size else None
    return True if gap <= EQUAL * size and size < LARGEST_FOR_FLOATS and largest < LARGEST_FOR_FLOATS else None


def _at(name: str, point: Point) -> float:
    """The value of a variable at a point: between 0.4 and 1.9, without pattern, the same for ever."""
    word = int.from_bytes(hashlib.blake2b(f"{name} {point}".encode(), digest_size=6).digest(), "big")
    return 0.4 + 1.5 * word / 2**48


class _Parser:
    """Recursive descent over tokens; each method reads one level of the grammar and returns its evaluator."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place = tokens, 0
        self.variables: set[str] = set()
        self.is_sum = False

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if not token or (expected is not None and token != expected):
            raise _Unreadable
        self.place += 1
        return token

    def sum(self, depth: int) -> Node:
        """Read term (('+' | '-') term)*."""
        if depth > MAX_DEPTH:
            raise _Unreadable
        node = self.signed(depth)
        while self.peek() in ("+", "-"):
            self.is_sum = True
            node = _add(node, self.signed(depth))
        return node

    def signed(self, depth: int) -> Node:
        """Read any signs, then a product."""
        is_negative = False
        while self.peek() in ("+", "-"):
            is_negative ^= self.take() == "-"
        node = self.product(depth)
        return _negate(node) if is_negative else node

    def product(self, depth: int, *, is_argument: bool = False) -> Node:
        r"""Read factors, with signs of multiplication or none; in an argument like `\sin 2x`, no brackets follow."""
        node = self.power(depth)
        while True:
            token = self.peek()
            if token in _TIMES or token in _DIVIDES:
                if is_argument and token in _DIVIDES:
                    return node
                self.take()
                sign = -1 if self.peek() == "-" and self.take() else 1
                right = self.power(depth)
                right = _negate(right) if sign < 0 else right
                if token == "/" and self.peek() not in (*_TIMES, *_DIVIDES) and _STARTS_FACTOR.match(self.peek()):
                    raise _Unreadable  # 1/2x: is x above or below the line?
                node = _divide(node, right) if token in _DIVIDES else _multiply(node, right)
            elif token and _STARTS_FACTOR.match(token) and token != "|":
                if is_argument and (token in _FUNCTIONS or token == "("):
                    return node
                # Two numbers side by side, or a mixed number, have no certain reading here.
                if token[0].isdigit() or (token == r"\frac" and self.tokens[self.place - 1][0].isdigit()):
                    raise _Unreadable
                node = _multiply(node, self.power(depth))
            else:
                return node

    def power(self, depth: int) -> Node:
        """Read base ('^' exponent)? '!'?."""
        node = self.base(depth)
        if self.peek() == "!":
            self.take()
            node = _factorial(node)
        if self.peek() == "^":
            self.take()
            node = _raise(node, self.exponent(depth))
        return node

    def exponent(self, depth: int) -> Node:
        if self.peek() == "{":
            return self.group("{", "}", depth)
        token = self.peek()
        if token and token[0].isdigit() and len(token) > 1:
            raise _Unreadable  # 2^10 is 2^1·0 in LaTeX and 2^{10} to whoever wrote it
        return self.base(depth)

    def base(self, depth: int) -> Node:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return _constant(Fraction(token))
        if token in "({":
            self.place -= 1
            return self.group(token, ")" if token == "(" else "}", depth)
        if token == "|":
            inside = self.sum(depth + 1)
            self.take("|")
            return _absolute(inside)
        if token[0] == "\\":
            return self.command(token, depth)
        if token[0].isalpha():
            return self.letter(token)
        raise _Unreadable

    def group(self, opening: str, closing: str, depth: int) -> Node:
        self.take(opening)
        node = self.sum(depth + 1)
        self.take(closing)
        return node

    def letter(self, name: str) -> Node:
        if name == "e":
            return _constant(complex(math.e))
        if name == "i":
            return _constant(1j)
        is_call = self.peek() == "(" and self.tokens[self.place + 2 : self.place + 3] == [")"]
        if is_call or (self.peek() == "(" and name[0] in "fghFGHPQIu"):
            raise _Unreadable  # a function, or a product: it cannot be told
        self.variables.add(name)
        return lambda run: complex(_at(name, run.point))

    def command(self, name: str, depth: int) -> Node:
        if name == r"\pi":
            return _constant(complex(math.pi))
        if name == r"\frac":
            top = self.group("{", "}", depth)
            return _divide(top, self.group("{", "}", depth))
        if name == r"\sqrt":
            return self.root(depth)
        if name == r"\binom":
            top = self.group("{", "}", depth)
            return _choose(top, self.group("{", "}", depth))
        if name in _FUNCTIONS:
            return self.function(name, depth)
        if name.partition("_")[0].rstrip("'") in _GREEK:
            self.variables.add(name)
            return lambda run: complex(_at(name, run.point))
        raise _Unreadable

    def root(self, depth: int) -> Node:
        if self.peek() == "[":
            self.take()
            token = self.take()
            self.take("]")
            if token not in ("2", "3", "4", "5", "6"):
                raise _Unreadable
            return _root(self.group("{", "}", depth), int(token))
        return _root(self.group("{", "}", depth), 2)

    def function(self, name: str, depth: int) -> Node:
        exponent: Node | None = None
        if self.peek() == "^":
            self.take()
            exponent = self.exponent(depth)
        if self.peek() == "(":
            argument = self.group("(", ")", depth)
        elif self.peek() == "{":
            argument = self.group("{", "}", depth)
        else:
            argument = self.product(depth + 1, is_argument=True)
        node = _apply(_FUNCTIONS[name], argument, must_be_positive=name in (r"\ln", r"\log"))
        return node if exponent is None else _raise(node, exponent)


def _constant(value: Value) -> Node:
    return lambda run: run.note(value)


def _negate(node: Node) -> Node:
    return lambda run: -node(run)


def _add(left: Node, right: Node) -> Node:
    def evaluate(run: _Run) -> Value:
        a, b = left(run), right(run)
        return run.note(a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) + complex(b))

    return evaluate


def _multiply(left: Node, right: Node) -> Node:
    def evaluate(run: _Run) -> Value:
        a, b = left(run), right(run)
        return run.note(a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) * complex(b))

    return evaluate


def _divide(left: Node, right: Node) -> Node:
    def evaluate(run: _Run) -> Value:
        a, b = left(run), right(run)
        return run.note(a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) / complex(b))

    return evaluate


def _raise(base: Node, exponent: Node) -> Node:
    def evaluate(run: _Run) -> Value:
        a, b = base(run), exponent(run)
        if isinstance(a, Fraction) and isinstance(b, Fraction) and b.denominator == 1:
            bits = max(a.numerator.bit_length(), a.denominator.bit_length(), 1)
            if abs(b.numerator) * bits > MAX_POWER_BITS:
                raise _Unreadable
            return run.note(a**b.numerator)
        a, b = complex(a), complex(b)
        if a.real < 0 and a.imag == 0 and b != round(b.real):
            raise _Unreadable  # the real root or the principal one?
        return run.note(a**b)

    return evaluate


def _root(node: Node, degree: int) -> Node:
    def evaluate(run: _Run) -> Value:
        inside = complex(node(run))
        if inside.imag == 0 and inside.real < 0 and degree != 2:
            raise _Unreadable
        return run.note(cmath.sqrt(inside) if degree == 2 else inside ** (1 / degree))

    return evaluate


def _absolute(node: Node) -> Node:
    def evaluate(run: _Run) -> Value:
        inside = node(run)
        return run.note(abs(inside) if isinstance(inside, Fraction) else complex(abs(inside)))

    return evaluate


def _apply(function: Callable[[complex], complex], node: Node, *, must_be_positive: bool) -> Node:
    def evaluate(run: _Run) -> Value:
        inside = complex(node(run))
        if must_be_positive and (inside.imag != 0 or inside.real <= 0):
            raise _Unreadable
        return run.note(function(inside))

    return evaluate


def _factorial(node: Node) -> Node:
    def evaluate(run: _Run) -> Value:
        inside = node(run)
        if not isinstance(inside, Fraction) or inside.denominator != 1 or not 0 <= inside <= 150:
            raise _Unreadable
        return run.note(Fraction(math.factorial(int(inside))))

    return evaluate


def _choose(top: Node, bottom: Node) -> Node:
    def evaluate(run: _Run) -> Value:
        n, k = top(run), bottom(run)
        if not (isinstance(n, Fraction) and isinstance(k, Fraction)) or n.denominator != 1 or k.denominator != 1:
            raise _Unreadable
        if not 0 <= k <= n <= 500:
            raise _Unreadable
        return run.note(Fraction(math.comb(int(n), int(k))))

    return evaluate
