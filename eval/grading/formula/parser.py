r"""The formula grammar: numbers, letters, six operators and a table of functions, by recursive descent over tokens.

Nothing of an answer is ever run: what comes out is a tree of `eval.grading.formula.nodes`. What has no certain
reading raises `Unreadable`; what is read as its writer most likely meant it (`2^10`, `1/2x`, `\sqrt51`) is marked as
loose, and proves no difference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from eval.grading.formula.cursor import Cursor, closing_brace
from eval.grading.formula.nodes import Call, Formula, Node, Number, Symbol
from eval.grading.formula.tokens import Token, Unreadable

MAX_DEPTH = 40
MAX_DIGITS = 400
MAX_TOKENS = 300

FUNCTIONS = {
    name: name for name in "sin cos tan sec csc cot arcsin arccos arctan arccot sinh cosh tanh exp ln log".split()
} | {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan",
    "cosec": "csc", "arcctg": "arccot", "lg": "lg",
}  # fmt: skip
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell odot mho partial nabla".split()
)
_ACCENTS = frozenset("dot ddot bar hat tilde widehat widetilde overline vec overrightarrow angle triangle".split())
_BRACKETS = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}
_GROUPS = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}
_TIMES, _DIVIDES = frozenset(("*", "cdot", "times")), frozenset(("/", "div"))
_ENDS = frozenset(("rfloor", "rceil", "cdot", "times", "div", "circ", "prime", "%"))
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


class Parser(Cursor):
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


def _is_whole(text: str) -> bool:
    return text.isdigit()
