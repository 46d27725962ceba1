"""Tokens by their brackets: which are inside, where a list splits, and whether one pair holds all."""

from __future__ import annotations

from collections.abc import Sequence

from eval.grading.formula.tokens import Token

OPENING, CLOSING = frozenset(("(", "[", "{", "\\{")), frozenset((")", "]", "}", "\\}"))
_SQUARE = frozenset(("[", "]"))


def with_round_brackets(tokens: Sequence[Token]) -> list[Token]:
    """Write the open ends of `]1,3[` as round brackets."""
    if not has_any(tokens, _SQUARE):
        return list(tokens)
    found, opened = list[Token](), list[bool]()
    for place, token in enumerate(tokens):
        text = token.text
        if text == "]" and not opened:
            token = token._replace(text="(")
            opened.append(True)
        elif text == "[" and opened and _ends_interval(tokens, place):
            token = token._replace(text=")")
            opened.pop()
        elif text in ("[", "("):
            opened.append(False)
        elif text in ("]", ")") and opened:
            opened.pop()
        found.append(token)
    return found


def _ends_interval(tokens: Sequence[Token], place: int) -> bool:
    behind = tokens[place + 1].text if place + 1 < len(tokens) else ""
    before = tokens[place - 1].text
    return behind in ("", "cup", ",", ")", ";") and before not in ("sqrt", "(", "[", ",")


def has_any(tokens: Sequence[Token], texts: frozenset[str]) -> bool:
    """Whether a token is one of these: a plain loop, as it runs many times an answer and most answers are short."""
    for token in tokens:
        if token.text in texts:
            return True
    return False


def with_depth(tokens: Sequence[Token]) -> list[tuple[Token, int]]:
    """Return each token with the number of brackets around it; what closes nothing stays at 0."""
    depth, found = 0, []
    for token in tokens:
        if token.text in CLOSING or token.text == "end":
            depth = max(0, depth - 1)
        found.append((token, depth))
        if token.text in OPENING or token.text == "begin":
            depth += 1
    return found


def split_at(tokens: Sequence[Token], separators: frozenset[str]) -> list[list[Token]]:
    """Split tokens at separators outside brackets."""
    if not has_any(tokens, separators):
        return [list(tokens)]
    parts = [list[Token]()]
    for token, depth in with_depth(tokens):
        if depth == 0 and token.text in separators:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def is_one_group(tokens: Sequence[Token]) -> bool:
    """Whether the first bracket is closed by the last token, and by none before it."""
    depth, last = 0, len(tokens) - 1
    for place, token in enumerate(tokens):
        if token.text in CLOSING or token.text == "end":
            depth = max(0, depth - 1)
        if depth == 0 and 0 < place < last:
            return False
        if place < last and (token.text in OPENING or token.text == "begin"):
            depth += 1
    return depth == 0
