r"""LaTeX as the reader that sympy ships has it, which the graders of others call: it knows formulas, not answers.

What a formula says there, and what readers made for answers say otherwise:

- the text is read as far as it is a formula, and the rest is dropped: `x,2` is x, `3}` is 3;
- each letter is a variable: `and` is a·n·d; a command that is no function is one too, `\text{ab}` as text·a·b and `\pi`
  as a variable called pi;
- `f(x)` and `x(y+1)` are calls of functions f and x; 12:30 is 12/30;
- a tuple, a matrix, a set of more than one and whatever begins with a sign of no formula is nothing.

The package that sympy's reader needs is held at another version by verl, hence this one. Sums, integrals, limits and
derivatives are not read.

Source: the documentation of `sympy.parsing.latex`, and the grammar `LaTeX.g4` in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy

_SKIPPED = re.compile(
    r"(?:\s+|\\(?:,|:|;|!|[*\-./\"(=])|\\(?:thinspace|medspace|thickspace|quad|qquad|negthinspace|negmedspace|"
    r"negthickspace|left|right|vrule|vcenter|vbox|vskip|vspace|hfil)(?![a-zA-Z|]))+"
)
_TOKEN = re.compile(
    r"\\right\||\\left\||\\[a-zA-Z]+|\\[{}]|d\s*(?:\\[a-zA-Z]+|[a-zA-Z])|[a-zA-Z]|"
    r"[0-9]|'+|&\s*=|=\s*&|[-+*/()\[\]{}|_^:=<>!.,]"
)
_RELATIONS: dict[str, Callable[..., Any]] = {
    "=": sympy.Eq,
    "<": sympy.StrictLessThan,
    ">": sympy.StrictGreaterThan,
    r"\neq": sympy.Ne,
    **dict.fromkeys((r"\le", r"\leq", r"\leqq", r"\leqslant"), sympy.LessThan),
    **dict.fromkeys((r"\ge", r"\geq", r"\geqq", r"\geqslant"), sympy.GreaterThan),
}
_TIMES = ("*", r"\times", r"\cdot")
_OVER = ("/", r"\div", ":")
_CLOSED_BY = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
_ROUNDED = {r"\lfloor": (r"\rfloor", sympy.floor), r"\lceil": (r"\rceil", sympy.ceiling)}
_FRACTIONS = (r"\frac", r"\dfrac", r"\tfrac")
_BINOMIALS = (r"\binom", r"\dbinom", r"\tbinom")
_LOGARITHMS = {r"\log": sympy.E, r"\ln": sympy.E, r"\lg": sympy.Integer(10)}
_POWERS_INVERT = ("sin", "cos", "tan", "csc", "sec", "cot", "sinh", "cosh", "tanh")
"""Functions whose power of -1 is the inverse function; any other is a power."""
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"\\{name}": getattr(sympy, name) for name in (*_POWERS_INVERT, "exp")},
    **{f"\\arc{name}": getattr(sympy, f"a{name}") for name in _POWERS_INVERT[:6]},
    **{f"\\ar{name}": getattr(sympy, f"a{name}") for name in _POWERS_INVERT[6:]},
}
_NO_VARIABLES = {
    *(r"\int \sum \prod \lim \langle \rangle \left| \right| \to \rightarrow \Rightarrow \longrightarrow").split(),
    *(r"\Longrightarrow \sqrt \overline \mathit \rfloor \rceil \{ \}").split(),
    *(*_TIMES, *_OVER, *_RELATIONS, *_FRACTIONS, *_BINOMIALS, *_ROUNDED, *_FUNCTIONS, *_LOGARITHMS),
}
"""Commands that are words of the language here; any other is a variable."""

_END = ""
_UNKNOWN = "?"


def read(text: str) -> Any:
    """Return the formula that a text begins with, nothing in it computed.

    Raises:
        ValueError: it begins with none.
    """
    try:
        return _Reader(text).relation()
    except (TypeError, AttributeError, RecursionError) as error:  # sympy makes no relation of relations
        raise ValueError(f"no formula: {error}") from error


class _Unknown(ValueError):
    """A sign of no formula was met: nothing of the text is read."""


class _Reader:
    """Reads the tokens of a text from the loosest operators to the tightest.

    What goes on a formula and cannot be read to its end is left: `more` returns to where it began.
    """

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text.strip())
        self.place = 0
        self.open_bars = 0

    def relation(self) -> Any:
        left = self.sum()
        while (sign := self.next.replace("&", "").strip()) in _RELATIONS:
            self.place += 1
            left = _RELATIONS[sign](left, self.sum())
        return left

    def sum(self) -> Any:
        left = self.product()
        while self.next in ("+", "-"):
            sign = self.next
            right = self.more(self.product)
            if right is None:
                break
            if sign == "-":
                right = -right if right.is_Atom else sympy.Mul(-1, right, evaluate=False)
            left = sympy.Add(left, right, evaluate=False)
        return left

    def product(self, *, has_functions: bool = True) -> Any:
        left = self.signed(has_functions)
        while self.next in _TIMES or self.next in _OVER:
            is_over = self.next in _OVER
            right = self.more(lambda: self.signed(has_functions))
            if right is None:
                break
            left = sympy.Mul(left, _inverse(right) if is_over else right, evaluate=False)
        return left

    def signed(self, has_functions: bool) -> Any:
        if self.next in ("+", "-"):
            return self.signed(has_functions) if self.take() == "+" else -self.signed(has_functions)
        factors = [self.factorial(has_functions)]
        while self.begins_factor(has_functions):
            factor = self.more(lambda: self.factorial(has_functions), skipping=0)
            if factor is None:
                break
            factors.append(factor)
        return _juxtaposed(factors)

    def more(self, read_next: Callable[[], Any], *, skipping: int = 1) -> Any | None:
        """Read on behind an operator; None, and back before it, where no formula follows."""
        place, bars = self.place, self.open_bars
        self.place += skipping
        try:
            return read_next()
        except _Unknown:
            raise
        except ValueError:
            self.place, self.open_bars = place, bars
            return None

    def begins_factor(self, has_functions: bool) -> bool:
        token = self.next
        if token == "|":
            return self.open_bars == 0
        if token in _FUNCTIONS or token in _LOGARITHMS or token in (r"\sqrt", r"\overline"):
            return has_functions
        is_other = token in _CLOSED_BY or token in _ROUNDED or token in _FRACTIONS or token in _BINOMIALS
        return is_other or token.isdecimal() or _is_variable(token)

    def factorial(self, has_functions: bool) -> Any:
        value = self.power(has_functions)
        while self.next == "!":
            self.place += 1
            value = sympy.factorial(value, evaluate=False)
        return value

    def power(self, has_functions: bool) -> Any:
        value = self.group(has_functions)
        while self.next == "^":
            exponent = self.more(self.script)
            if exponent is None:
                break
            value = sympy.Pow(value, exponent, evaluate=False)
            if self.next == "_":
                self.subscript()
        return value

    def group(self, has_functions: bool) -> Any:
        token = self.next
        if token in _CLOSED_BY:
            return self.inside(self.take(), _CLOSED_BY[token])
        if token == "|":
            self.open_bars += 1
            value = self.inside(self.take(), "|")
            self.open_bars -= 1
            return sympy.Abs(value, evaluate=False)
        if token in _ROUNDED:
            closing, rounding = _ROUNDED[token]
            return rounding(self.inside(self.take(), closing), evaluate=False)
        if has_functions and (token in _FUNCTIONS or token in _LOGARITHMS):
            return self.function(self.take())
        if has_functions and token in (r"\sqrt", r"\overline"):
            return self.root() if self.take() == r"\sqrt" else sympy.conjugate(self.braced(), evaluate=False)
        return self.call() if has_functions and _is_variable(token) else self.atom()

    def inside(self, opening: str, closing: str) -> Any:
        bars, self.open_bars = self.open_bars, int(opening == "|")
        value = self.sum()
        self.open_bars = bars
        self.expect(closing)
        return value

    def braced(self) -> Any:
        self.expect("{")
        return self.inside("{", "}")

    def function(self, name: str) -> Any:
        base, power = None, None
        while self.next in ("_", "^"):
            if self.take() == "_":
                base = self.script()
            else:
                power = self.script()
        argument = self.argument()
        if name in _LOGARITHMS:
            value = sympy.log(argument, _LOGARITHMS[name] if base is None else base, evaluate=False)
        elif power == -1 and name[1:] in _POWERS_INVERT:
            return getattr(sympy, f"a{name[1:]}")(argument, evaluate=False)
        else:
            value = _FUNCTIONS[name](argument, evaluate=False)
        return value if power is None else sympy.Pow(value, power, evaluate=False)

    def argument(self) -> Any:
        """Of a function: in round brackets, or the product up to the next function."""
        if self.next != "(":
            return self.product(has_functions=False)
        return self.arguments()[0]

    def arguments(self) -> list[Any]:
        self.expect("(")
        bars, self.open_bars = self.open_bars, 0
        values = [self.sum()]
        while self.next == ",":
            self.place += 1
            values.append(self.sum())
        self.open_bars = bars
        self.expect(")")
        return values

    def root(self) -> Any:
        if self.next != "[":
            return sympy.sqrt(self.braced(), evaluate=False)
        degree = self.inside(self.take(), "]")
        return sympy.root(self.braced(), degree, evaluate=False)

    def call(self) -> Any:
        """Read a variable, or a function of that name where a list in round brackets follows."""
        start = self.place
        variable = self.atom()
        if self.next == "(" and not self.tokens[start].startswith("d"):
            values = self.more(self.arguments, skipping=0)
            if values is not None:
                return sympy.Function(str(variable))(*values)
        return variable

    def script(self) -> Any:
        return self.braced() if self.next == "{" else self.atom()

    def subscript(self) -> str:
        """Return `_{…}` and primes, in either order, as part of a name."""
        below = primes = ""
        while self.next == "_" or self.next.startswith("'"):
            if self.next == "_":
                self.place += 1
                try:
                    below = f"_{{{self.script()}}}"
                except ValueError as error:
                    raise _Unknown("an index that is no formula") from error
            else:
                primes = self.take()
        return below + primes

    def atom(self) -> Any:
        token = self.take()
        if token.isdecimal():
            return self.number(token)
        if token in _FRACTIONS:
            above, below = self.part(), self.part()
            return _inverse(below) if above == 1 else sympy.Mul(above, _inverse(below), evaluate=False)
        if token in _BINOMIALS:
            return sympy.binomial(self.braced(), self.braced(), evaluate=False)
        if token == r"\infty":
            return sympy.oo
        if not _is_variable(token):
            raise ValueError(f"{token!r} begins no formula")
        name = "".join(token.split()).replace("\\", "")
        return sympy.Symbol(name if token[0] == "d" and len(name) > 1 else name + self.subscript())

    def part(self) -> Any:
        """Return one side of a fraction: in braces, or one digit."""
        return sympy.Integer(self.take()) if self.next.isdecimal() else self.braced()

    def number(self, digits: str) -> Any:
        digits += self.digits()
        while self.next == ",":
            following = self.tokens[self.place + 1 : self.place + 4]
            length = next((i for i, token in enumerate(following) if not token.isdecimal()), 3)
            if _UNKNOWN in following[length:][:1]:
                raise _Unknown("a sign of no formula")
            if length < 3:
                break
            digits += "".join(following)
            self.place += 4
        if self.next == ".":
            self.place += 1
            decimals = self.digits()
            if not decimals:
                raise _Unknown("a point without decimals")
            if self.next == "." and len(decimals) > 1:  # 1.23.4 is 1.2 times 3.4
                self.place, decimals = self.place - 1, decimals[:-1]
            digits += "." + decimals
        return sympy.Number(digits)

    def digits(self) -> str:
        start = self.place
        while self.next.isdecimal():
            self.place += 1
        return "".join(self.tokens[start : self.place])

    @property
    def next(self) -> str:
        token = self.tokens[self.place]
        if token == _UNKNOWN:
            raise _Unknown("a sign of no formula")
        return token

    def take(self) -> str:
        token = self.next
        if token == _END:
            raise ValueError("the formula is cut off")
        self.place += 1
        return token

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise ValueError(f"no {token}")


def _tokens(text: str) -> list[str]:
    """Return the tokens up to the first sign of no formula, then that or the end."""
    tokens: list[str] = []
    place = 0
    while True:
        skipped = _SKIPPED.match(text, place)
        place = skipped.end() if skipped else place
        if place == len(text):
            return [*tokens, _END]
        token = _TOKEN.match(text, place)
        if token is None:
            return [*tokens, _UNKNOWN]
        tokens.append(token[0])
        place = token.end()


def _is_variable(token: str) -> bool:
    return bool(re.match(r"\\?[a-zA-Z]", token)) and token not in _NO_VARIABLES


def _inverse(value: Any) -> Any:
    return sympy.Pow(value, -1, evaluate=False)


def _juxtaposed(factors: list[Any]) -> Any:
    """Multiply what stands side by side; an x between two numbers is a sign of multiplication."""
    kept = [
        factor
        for place, factor in enumerate(factors)
        if not (
            str(factor) == "x"
            and 0 < place < len(factors) - 1
            and not factors[place - 1].free_symbols
            and not factors[place + 1].free_symbols
        )
    ]
    value = kept[-1]
    for factor in reversed(kept[:-1]):
        value = sympy.Mul(factor, value, evaluate=False)
    return value
