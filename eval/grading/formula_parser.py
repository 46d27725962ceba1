r"""The formula grammar: numbers, letters, six operators and a table of functions, by recursive descent.

What has no certain reading (`f(x)`, `2^10`, `1/2x`, a mixed number inside a product) raises `Unreadable`.
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable
from fractions import Fraction

from eval.grading.formula_nodes import (
    Node,
    Unreadable,
    absolute,
    add,
    apply,
    choose,
    constant,
    divide,
    factorial,
    logarithm,
    multiply,
    negate,
    raise_to,
    root,
    rounded_to_whole,
    value_at,
)

MAX_DEPTH = 40

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
_BRACKETS = {r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_COMMANDS = sorted(
    (
        *_FUNCTIONS,
        *_GREEK,
        r"\pi",
        r"\frac",
        r"\sqrt",
        r"\binom",
        *_BRACKETS,
        *_BRACKETS.values(),
        r"\cdot",
        r"\times",
        r"\div",
    ),
    key=len,
    reverse=True,
)
_SUBSCRIPT = r"(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9,]*\}))?'*"
# Cleaning took the space out of `\pi x`: the longest command that is known is meant.
_TOKEN = re.compile(
    rf"(?:{'|'.join(map(re.escape, _COMMANDS))}){_SUBSCRIPT}|"
    rf"\d+(?:\.\d*)?|\.\d+|[A-Za-z]{_SUBSCRIPT}|[-+*/^(){{}}\[\]|!]"
)
_TIMES = ("*", r"\cdot", r"\times")
_GROUPS = {"(": ")", "{": "}", "[": "]"}
_WHOLE = ("!", r"\binom", r"\lfloor", r"\lceil")
_DIVIDES = ("/", r"\div")
_STARTS_FACTOR = re.compile(r"[\dA-Za-z.(\\]")
_CLOSING = frozenset(_BRACKETS.values())
_ENDS_FACTOR = frozenset((*_TIMES, *_DIVIDES, *_CLOSING))


def parse(text: str) -> Parser:
    """Read a whole text; the parser then holds the evaluator and what it met.

    Raises:
        Unreadable: characters outside the grammar, or no certain reading.
    """
    tokens = _TOKEN.findall(text)
    if sum(map(len, tokens)) != len(text):
        raise Unreadable
    parser = Parser(tokens)
    parser.node = parser.sum(0)
    if parser.place != len(tokens):
        raise Unreadable
    return parser


class Parser:
    """Recursive descent over tokens; each method reads one level of the grammar and returns its evaluator."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place = tokens, 0
        self.node: Node = constant(Fraction(0))
        self.variables: set[str] = set()
        self.is_whole = any(token in _WHOLE for token in tokens)

    def peek(self) -> str:
        """Return the next token, or nothing at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        """Return the next token and step over it."""
        token = self.peek()
        if not token or (expected is not None and token != expected):
            raise Unreadable
        self.place += 1
        return token

    def sum(self, depth: int) -> Node:
        """Read term (('+' | '-') term)*."""
        if depth > MAX_DEPTH:
            raise Unreadable
        node = self.signed(depth)
        while self.peek() in ("+", "-"):
            node = add(node, self.signed(depth))
        return node

    def signed(self, depth: int) -> Node:
        """Read any signs, then a product."""
        is_negative = False
        while self.peek() in ("+", "-"):
            is_negative ^= self.take() == "-"
        node = self.product(depth)
        return negate(node) if is_negative else node

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
                right = negate(right) if sign < 0 else right
                if token == "/" and self.peek() not in _ENDS_FACTOR and _STARTS_FACTOR.match(self.peek()):
                    raise Unreadable  # 1/2x: is x above or below the line?
                node = divide(node, right) if token in _DIVIDES else multiply(node, right)
            elif token and _STARTS_FACTOR.match(token) and token not in _CLOSING:
                if is_argument and (token in _FUNCTIONS or token == "("):
                    return node
                # Two numbers side by side, or a mixed number, have no certain reading here.
                before = self.tokens[self.place - 1]
                if (token[0].isdigit() and before not in ")}") or (token == r"\frac" and before[0].isdigit()):
                    raise Unreadable
                node = multiply(node, self.power(depth))
            else:
                return node

    def power(self, depth: int) -> Node:
        """Read base ('^' exponent)? '!'?."""
        node = self.base(depth)
        if self.peek() == "!":
            self.take()
            node = factorial(node)
        if self.peek() == "^":
            self.take()
            node = raise_to(node, self.exponent(depth))
        return node

    def exponent(self, depth: int) -> Node:
        """Read what a `^` raises to: a group or one token."""
        if self.peek() == "{":
            return self.group("{", "}", depth)
        token = self.peek()
        if token and token[0].isdigit() and len(token) > 1:
            raise Unreadable  # 2^10 is 2^1·0 in LaTeX and 2^{10} to whoever wrote it
        return self.base(depth)

    def base(self, depth: int) -> Node:
        """Read a number, letter, command or group."""
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return constant(Fraction(token))
        if token in _GROUPS:
            self.place -= 1
            return self.group(token, _GROUPS[token], depth)
        if token == "|":
            inside = self.sum(depth + 1)
            self.take("|")
            return absolute(inside)
        if token[0] == "\\":
            return self.command(token, depth)
        if token[0].isalpha():
            return self.letter(token)
        raise Unreadable

    def group(self, opening: str, closing: str, depth: int) -> Node:
        """Read a sum between brackets."""
        self.take(opening)
        node = self.sum(depth + 1)
        self.take(closing)
        return node

    def letter(self, name: str) -> Node:
        """Read a constant or a variable."""
        if name == "e":
            return constant(complex(math.e))
        if name == "i":
            return constant(1j)
        is_call = self.peek() == "(" and self.tokens[self.place + 2 : self.place + 3] == [")"]
        if is_call or (self.peek() == "(" and name[0] in "fghFGHPQIu"):
            raise Unreadable  # a function, or a product: it cannot be told
        self.variables.add(name)
        return lambda run: value_at(name, run.point, run.is_whole)

    def command(self, name: str, depth: int) -> Node:
        """Read a command and its arguments."""
        if name == r"\pi":
            return constant(complex(math.pi))
        if name == r"\frac":
            top = self.group("{", "}", depth)
            return divide(top, self.group("{", "}", depth))
        if name == r"\sqrt":
            return self.root(depth)
        if name == r"\binom":
            top = self.group("{", "}", depth)
            return choose(top, self.group("{", "}", depth))
        if name in _BRACKETS:
            inside = self.sum(depth + 1)
            self.take(_BRACKETS[name])
            return rounded_to_whole(inside, math.floor if name == r"\lfloor" else math.ceil)
        if name.startswith(r"\log_"):
            return logarithm(self.argument(depth), name[len(r"\log_") :].strip("{}"))
        if name in _FUNCTIONS:
            return self.function(name, depth)
        if name.partition("_")[0].rstrip("'") in _GREEK:
            self.variables.add(name)
            return lambda run: value_at(name, run.point, run.is_whole)
        raise Unreadable

    def root(self, depth: int) -> Node:
        r"""Read `\sqrt` and its degree."""
        if self.peek() == "[":
            self.take()
            token = self.take()
            self.take("]")
            if token not in ("2", "3", "4", "5", "6"):
                raise Unreadable
            return root(self.group("{", "}", depth), int(token))
        return root(self.group("{", "}", depth), 2)

    def function(self, name: str, depth: int) -> Node:
        """Read a function, its power and its argument."""
        exponent: Node | None = None
        if self.peek() == "^":
            self.take()
            exponent = self.exponent(depth)
        node = apply(_FUNCTIONS[name], self.argument(depth), must_be_positive=name in (r"\ln", r"\log"))
        return node if exponent is None else raise_to(node, exponent)

    def argument(self, depth: int) -> Node:
        """Read a bracketed argument, or the product that follows."""
        if self.peek() == "(":
            return self.group("(", ")", depth)
        if self.peek() == "{":
            return self.group("{", "}", depth)
        return self.product(depth + 1, is_argument=True)
