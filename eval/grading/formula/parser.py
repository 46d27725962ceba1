r"""Reads formulas: what words and commands mean, above the grammar of operators.

Nothing of an answer is ever run: what comes out is a tree of `eval.grading.formula.nodes`. What has no certain
reading raises `Unreadable`; what is read as its writer most likely meant it (`2^10`, `1/2x`, `\sqrt51`) is marked as
loose, and proves no difference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from eval.grading.formula.cursor import closing_brace
from eval.grading.formula.nodes import Formula, Node, Number, Symbol
from eval.grading.formula.operators import FUNCTIONS, Operators
from eval.grading.formula.tokens import Token, Unreadable

MAX_TOKENS = 300

_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell odot mho partial nabla".split()
)
_ACCENTS = frozenset("dot ddot bar hat tilde widehat widetilde overline vec overrightarrow angle triangle".split())
_BRACKETS = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}
_FUNCTION_LETTERS = frozenset("fghFGHPQIu")
PROSE_WORDS = frozenset(
    "is are the and or not for all any if of to in as at by it its we so no an be has have from with then than "
    "that this when where which there thus hence but yes let per".split()
)
"""Short words that are no product of variables."""


def parse_formula(tokens: Sequence[Token]) -> Formula:
    """Read all tokens as one formula.

    Raises:
        Unreadable: tokens outside the grammar, or no certain reading.
    """
    if not tokens or len(tokens) > MAX_TOKENS:
        raise Unreadable
    parser = Parser(tokens)
    node = parser.sum(0)
    if parser.place != len(parser.tokens):
        raise Unreadable
    return Formula(
        node=node,
        symbols=frozenset(parser.symbols),
        names=frozenset(parser.names),
        has_decimals=parser.has_decimals,
        is_loose=parser.is_loose,
    )


class Parser(Operators):
    """Names: functions, constants, variables, and the commands that take arguments."""

    def word(self, token: Token, depth: int) -> Node:
        """Read a run of letters: a function, a constant, or variables side by side."""
        name = token.text
        if name in FUNCTIONS:
            return self.function(FUNCTIONS[name], depth)
        if name.lower() in ("sqrt", "pi", "infinity", "infty", "inf", "oo") or name in _GREEK:
            return self.command({"infinity": "infty", "inf": "infty", "oo": "infty"}.get(name.lower(), name), depth)
        if name == "abs" and self.peek() == "(":
            return self.call("abs", self.group("(", depth))
        if not name.isascii() or name.lower() in PROSE_WORDS or (len(name) > 3 and not name.isupper()):
            raise Unreadable
        if token.style == "text" or (token.style == "roman" and len(name) > 1):
            if len(name) > 1 and not name.isupper():
                raise Unreadable
        if len(name) > 1:
            self.place -= 1
            self.split_word()
            self.place += 1
            return self.word(self.tokens[self.place - 1], depth)
        return self.letter(name)

    def letter(self, name: str) -> Node:
        """Read a constant or a variable with its index and primes."""
        if name in ("e", "i") and self.peek() != "_":
            return self.call(name)
        symbol = self.decorated(name)
        if self.peek() == "(":
            is_call = self.tokens[self.place + 1 : self.place + 2] and self.peek(2) == ")"
            inner = self.tokens[self.place + 1] if is_call else None
            is_letter = inner is not None and inner.kind != "number" and inner.text not in ("e", "pi")
            if inner is not None and (is_letter or name[0] in _FUNCTION_LETTERS):
                self.place += 3
                return self._symbol(f"{symbol}({inner.text})")
            if name[0] in _FUNCTION_LETTERS:
                raise Unreadable  # a function, or a product: it cannot be told
        return self._symbol(symbol)

    def _symbol(self, name: str) -> Symbol:
        self.symbols.add(name)
        return Symbol(name)

    def command(self, name: str, depth: int) -> Node:
        """Read a command and its arguments."""
        if name in ("pi", "infty"):
            return self.call(name)
        if name == "frac":
            return self.fraction(depth)
        if name in ("sqrt", "surd"):
            return self.root(depth, is_character=name == "surd")
        if name == "binom":
            top = self.argument_of_command(depth)
            return self.call("binom", top, self.argument_of_command(depth))
        if name in _BRACKETS:
            closing, operation = _BRACKETS[name]
            inside = self.sum(depth + 1)
            self.take(closing)
            return self.call(operation, inside)
        if name in FUNCTIONS:
            return self.function(FUNCTIONS[name], depth)
        if name in _ACCENTS:
            return self._accented(name)
        if name in _GREEK:
            return self.letter_like(name)
        raise Unreadable

    def letter_like(self, name: str) -> Node:
        """Read a Greek letter, with its index, primes and argument."""
        symbol = self.decorated(name)
        if self.peek() == "(" and self.peek(2) == ")" and self.tokens[self.place + 1].kind == "word":
            argument = self.peek(1)
            self.place += 3
            symbol += f"({argument})"
        return self._symbol(symbol)

    def _accented(self, accent: str) -> Node:
        start = self.place
        if self.peek() == "{":
            end = closing_brace(self.tokens, start)
            inner = "".join(token.text for token in self.tokens[start + 1 : end])
            self.place = end + 1
        else:
            token = self.take()
            inner = token.text
        if not re.fullmatch(r"[A-Za-z_0-9']+", inner):
            raise Unreadable
        if accent in ("overline", "overrightarrow", "angle", "triangle"):
            while accent != "overline" and self.place < len(self.tokens) and self.tokens[self.place].kind == "word":
                inner += self.take().text
            return self._symbol(self.decorated(f"{accent} {inner}"))
        return self.letter_like(f"{accent} {inner}")

    def fraction(self, depth: int) -> Node:
        """Read a fraction, or a derivative as a symbol of its own."""
        derivative = self._derivative()
        if derivative is not None:
            return self._symbol(derivative)
        top = self.argument_of_command(depth)
        return self.call("/", top, self.argument_of_command(depth))

    def _derivative(self) -> str | None:
        r"""Return the name of `\frac{d^2 x}{d t^2}`, or None for a fraction of numbers."""
        if self.peek() != "{" or self.peek(1)[:1] not in ("d", "p", ""):
            return None  # no d or partial above the line
        try:
            middle = closing_brace(self.tokens, self.place)
            if self.tokens[middle + 1 : middle + 2] == [] or self.tokens[middle + 1].text != "{":
                return None
            end = closing_brace(self.tokens, middle + 1)
        except Unreadable:
            return None
        top = "".join(token.text for token in self.tokens[self.place + 1 : middle])
        bottom = "".join(token.text for token in self.tokens[middle + 2 : end])
        order = re.fullmatch(r"(?:d|partial)(?:\^\{?(\d)\}?)?([A-Za-z]+(?:_\{?\w+\}?)?(?:\(\w\))?)", top)
        if order is None or not re.fullmatch(r"(?:d|partial)[A-Za-z]+(?:\^\{?\d\}?)?", bottom):
            return None
        self.place = end + 1
        return re.sub(r"[{}]", "", f"{top}/{bottom}")

    def root(self, depth: int, *, is_character: bool) -> Node:
        r"""Read a root and its degree; `√51` is the root of 51, `\sqrt51` most likely too."""
        degree = 2
        if self.peek() == "[":
            self.take()
            token = self.take()
            self.take("]")
            if not token.text.isdigit() or not 2 <= int(token.text) <= 100:
                raise Unreadable
            degree = int(token.text)
        if self.peek() in ("{", "("):
            inside = self.group(self.peek(), depth)
        else:
            operand = self.tokens[self.place] if self.place < len(self.tokens) else None
            if operand is not None and operand.kind == "word" and operand.text not in FUNCTIONS:
                self.split_word()
            elif operand is not None and operand.kind == "number" and len(operand.text) > 1 and not is_character:
                self.is_loose = True
            inside = self.base(depth)
        return self.call("root", inside, Number(Fraction(degree)))

    def function(self, name: str, depth: int) -> Node:
        """Read a function, its base or power, and its argument."""
        base: Node | None = None
        exponent: Node | None = None
        for _ in range(2):
            if self.peek() == "_" and name == "log":
                self.take()
                base = self.argument_of_command(depth) if self.peek() != "" else None
            elif self.peek() in ("^", "**"):
                self.take()
                exponent = self.exponent(depth)
        if exponent == Number(Fraction(-1)) and name in _INVERSE:
            name, exponent = _INVERSE[name], None
        argument = self.argument(depth)
        if base is not None:
            node = self.call("log_base", argument, base)
        else:
            node = self.call(name, argument)
        return node if exponent is None else self.call("^", node, exponent)

    def argument(self, depth: int) -> Node:
        """Read a bracketed argument, or the product that follows."""
        if self.peek() in ("(", "{", "["):
            inside = self.group(self.peek(), depth)
            return self.call("degree", inside) if self.peek() == "^" and self._degree_behind() else inside
        if self.peek() in ("+", "-"):
            self.take("-")
            return self.call("neg", self.product(depth + 1, is_argument=True))
        return self.product(depth + 1, is_argument=True)

    def _degree_behind(self) -> bool:
        self.take("^")
        if self._take_degree():
            return True
        self.place -= 1
        return False
