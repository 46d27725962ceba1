"""A place in a list of tokens: what the formula parser steps along, and how it reads names."""

from __future__ import annotations

from collections.abc import Sequence

from eval.grading.formula.tokens import Token, Unreadable


class Cursor:
    """Tokens and the place of the next one."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.place = list(tokens), 0

    def peek(self, ahead: int = 0) -> str:
        """Return the text of the next token, or nothing at the end."""
        place = self.place + ahead
        return self.tokens[place].text if place < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> Token:
        """Return the next token and step over it."""
        if self.place >= len(self.tokens) or (expected is not None and self.peek() != expected):
            raise Unreadable
        self.place += 1
        return self.tokens[self.place - 1]

    def split_word(self) -> None:
        """Make letters of the run of letters that is next."""
        token = self.tokens[self.place]
        self.tokens[self.place : self.place + 1] = [token._replace(text=letter) for letter in token.text]

    def decorated(self, name: str) -> str:
        """Read the index and the primes behind a name."""
        while True:
            if self.peek() == "_":
                self.take()
                name += "_" + self.script()
            elif self.peek() == "'":
                self.take()
                name += "'"
            elif self.peek() == "^" and self.peek(1) == "prime":
                self.place += 2
                name += "'"
            elif self.peek() == "^" and self.peek(1) == "{" and self.peek(2) == "prime":
                self.take("^"), self.take("{")
                while self.peek() == "prime":
                    self.take()
                    name += "'"
                self.take("}")
            else:
                return name

    def script(self) -> str:
        """Return an index as text."""
        if self.peek() != "{":
            token = self.take()
            if token.kind == "word" and len(token.text) > 1 and token.style == "math":
                self.place -= 1
                self.split_word()
                return self.take().text
            return token.text
        start, end = self.place, closing_brace(self.tokens, self.place)
        self.place = end + 1
        return "".join(token.text for token in self.tokens[start + 1 : end])


def closing_brace(tokens: Sequence[Token], start: int) -> int:
    """Return the place of the brace that closes the one at `start`."""
    depth = 0
    for place in range(start, len(tokens)):
        if tokens[place].text == "{":
            depth += 1
        elif tokens[place].text == "}":
            depth -= 1
            if depth == 0:
                return place
    raise Unreadable
