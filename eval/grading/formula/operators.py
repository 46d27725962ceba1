"""The grammar of operators: sums, products, powers, groups and numbers, by recursive descent over tokens.

What a word or a command means is for `eval.grading.formula.parser` to say, which builds on this.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from eval.grading.formula.cursor import Cursor
from eval.grading.formula.nodes import Call, Node, Number
from eval.grading.formula.tokens import Token, Unreadable

MAX_DEPTH = 40
MAX_DIGITS = 400

FUNCTIONS = {
    name: name for name in "sin cos tan sec csc cot arcsin arccos arctan arccot sinh cosh tanh exp ln log".split()
} | {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan",
    "cosec": "csc", "arcctg": "arccot", "lg": "lg",
}  # fmt: skip
_GROUPS = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}
_TIMES, _DIVIDES = frozenset(("*", "cdot", "times")), frozenset(("/", "div"))
_ENDS = frozenset(("rfloor", "rceil", "cdot", "times", "div", "circ", "prime", "%"))


class Operators(Cursor):
    """Recursive descent; each method reads one level of the grammar and returns its tree."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__(tokens)
        self.symbols: set[str] = set()
        self.names: set[str] = set()
        self.has_decimals = self.is_loose = False
        self._num_bars = 0

    def call(self, name: str, *arguments: Node) -> Call:
        """Build an operation and note its name."""
        self.names.add(name)
        return Call(name, arguments)

    def sum(self, depth: int) -> Node:
        """Read term (('+' | '-') term)*."""
        if depth > MAX_DEPTH:
            raise Unreadable
        node = self.signed(depth)
        while self.peek() in ("+", "-"):
            node = self.call("+", node, self.signed(depth))
        return node

    def signed(self, depth: int) -> Node:
        """Read any signs, then a product."""
        is_negative = False
        while self.peek() in ("+", "-"):
            is_negative ^= self.take().text == "-"
        node = self.product(depth)
        if is_negative and isinstance(node, Number):
            return replace(node, value=-node.value)
        return self.call("neg", node) if is_negative else node

    def product(self, depth: int, *, is_argument: bool = False) -> Node:
        r"""Read factors, with signs of multiplication or none; in an argument like `\sin 2x`, no brackets follow."""
        node = self.power(depth)
        while self.place < len(self.tokens):
            text = self.peek()
            if text in _TIMES or text in _DIVIDES:
                if is_argument and text in _DIVIDES:
                    return node
                self.take()
                node = self._factor(node, is_division=text in _DIVIDES, depth=depth)
            elif self._starts_factor():
                if is_argument and (text in FUNCTIONS or text == "("):
                    return node
                node = self._side_by_side(node, depth)
            else:
                break
        return node

    def _factor(self, node: Node, *, is_division: bool, depth: int) -> Node:
        is_negative = self.peek() == "-" and bool(self.take())
        start = self.place
        right = self.power(depth)
        if is_negative:
            right = self.call("neg", right)
        if not is_division:
            return self.call("*", node, right)
        # 1/2x: is x above or below the line? `1/3 π`, with a space, is a fraction of π.
        is_apart = isinstance(node, Number) and isinstance(right, Number) and self.place - start == 1
        if self._starts_factor() and not (is_apart and self.tokens[self.place].is_spaced):
            self.is_loose = True
        return self.call("/", node, right)

    def _side_by_side(self, node: Node, depth: int) -> Node:
        token, before = self.tokens[self.place], self.tokens[self.place - 1]
        if before.kind == "number" and isinstance(node, Number):
            if token.text == "frac":
                return self._mixed(node, self.power(depth))
            if token.kind == "number" and token.is_spaced and self.peek(1) == "/" and _is_whole(self.peek(2)):
                top, _, bottom = self.take(), self.take(), self.take()
                return self._mixed(node, self.call("/", self._number(top.text), self._number(bottom.text)))
        if token.kind == "number" and before.text not in (")", "}", "]", "!"):
            raise Unreadable  # two numbers side by side
        return self.call("*", node, self.power(depth))

    def _mixed(self, whole: Number, fraction: Node) -> Node:
        r"""Read `1\frac{4}{5}` as 9/5, and nothing else that looks alike."""
        if not isinstance(fraction, Call) or fraction.name != "/" or whole.is_decimal:
            raise Unreadable
        if not all(isinstance(part, Number) and not part.is_decimal for part in fraction.arguments):
            raise Unreadable
        return self.call("+", whole, fraction)

    def _starts_factor(self) -> bool:
        if self.place >= len(self.tokens):
            return False
        token = self.tokens[self.place]
        if token.kind in ("number", "word"):
            return True
        if token.kind == "command":
            return token.text not in _ENDS
        return token.text in ("(", "{", "[") or (token.text == "|" and not self._num_bars)

    def power(self, depth: int) -> Node:
        """Read base, then '!', primes, degrees and '^' exponent behind it."""
        node = self.base(depth)
        while self.place < len(self.tokens):
            text = self.peek()
            if text == "!":
                self.take()
                if self.peek() == "!":
                    raise Unreadable
                node = self.call("!", node)
            elif text in ("^", "**"):
                self.take()
                if self._take_degree():
                    node = self.call("degree", node)
                    continue
                exponent = self.exponent(depth)
                return self.call("^", node, exponent)
            elif text == "circ":
                self.take()
                node = self.call("degree", node)
            else:
                break
        return node

    def _take_degree(self) -> bool:
        if self.peek() == "circ":
            self.take()
            return True
        if self.peek() == "{" and self.peek(1) == "circ" and self.peek(2) == "}":
            self.place += 3
            return True
        return False

    def exponent(self, depth: int) -> Node:
        """Read what a `^` raises to: a group or one token."""
        if self.peek() == "{":
            return self.group("{", depth)
        if self.peek() in ("-", "+"):
            self.is_loose = True
            is_negative = self.take().text == "-"
            node = self.base(depth)
            if is_negative and isinstance(node, Number):
                return replace(node, value=-node.value)
            return self.call("neg", node) if is_negative else node
        token = self.tokens[self.place] if self.place < len(self.tokens) else None
        if token is not None and token.kind == "number" and len(token.text) > 1:
            self.is_loose = True  # 2^10 is 2^1·0 in LaTeX and 2^{10} to whoever wrote it
        if token is not None and token.kind == "word" and len(token.text) > 1 and token.text not in FUNCTIONS:
            self.split_word()
        return self.base(depth)

    def base(self, depth: int) -> Node:
        """Read a number, letter, command or group."""
        token = self.take()
        if token.kind == "number":
            return self._number(token.text)
        if token.kind == "word":
            return self.word(token, depth)
        if token.kind == "command":
            return self.command(token.text, depth)
        if token.text in _GROUPS and token.text != "\\{":
            self.place -= 1
            return self.group(token.text, depth)
        if token.text == "|":
            self._num_bars += 1
            inside = self.sum(depth + 1)
            self._num_bars -= 1
            self.take("|")
            return self.call("abs", inside)
        raise Unreadable

    def _number(self, text: str) -> Number:
        if len(text) > MAX_DIGITS:
            raise Unreadable
        if text.isdigit():
            return Number(Fraction(int(text)))  # Fraction(text) parses by a pattern
        mantissa, _, exponent = text.lower().partition("e")
        if abs(int(exponent or 0)) > MAX_DIGITS:
            raise Unreadable
        is_decimal = "." in mantissa.rstrip(".") or bool(exponent)
        self.has_decimals |= is_decimal
        return Number(Fraction(mantissa.rstrip(".")) * Fraction(10) ** int(exponent or 0), is_decimal)

    def group(self, opening: str, depth: int) -> Node:
        """Read a sum between brackets."""
        number = self._lone_number(opening) if depth < MAX_DEPTH else None
        if number is not None:
            return number
        self.take(opening)
        bars, self._num_bars = self._num_bars, 0
        node = self.sum(depth + 1)
        self._num_bars = bars
        self.take(_GROUPS[opening])
        return node

    def _lone_number(self, opening: str) -> Number | None:
        """Read `{3}` without going through the levels of the grammar: most groups hold no more."""
        inside = self.tokens[self.place + 1 : self.place + 3]
        if len(inside) < 2 or inside[0].kind != "number" or inside[1].text != _GROUPS[opening]:
            return None
        self.place += 3
        return self._number(inside[0].text)

    def argument_of_command(self, depth: int) -> Node:
        r"""Read a braced argument, or the one character that `\frac43` takes."""
        if self.peek() == "{":
            return self.group("{", depth)
        token = self.take()
        if token.kind == "number" and token.text.isdigit():
            if len(token.text) > 1:
                self.place -= 1
                self.tokens[self.place : self.place + 1] = [
                    token._replace(text=token.text[0]),
                    token._replace(text=token.text[1:], is_spaced=False),
                ]
                self.place += 1
            return self._number(token.text[0])
        self.place -= 1
        if token.kind == "word":
            self.split_word()
        return self.base(depth)

    @abstractmethod
    def word(self, token: Token, depth: int) -> Node:
        """Read what a run of letters stands for."""

    @abstractmethod
    def command(self, name: str, depth: int) -> Node:
        """Read what a command stands for, with its arguments."""


def _is_whole(text: str) -> bool:
    return text.isdigit()
