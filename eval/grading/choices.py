"""Answers to multiple-choice questions: the letter, in any common dress, or the text of exactly one option."""

from __future__ import annotations

import re

from eval.api import Problem
from eval.grading.formula.tokens import Token, Unreadable, tokenise
from eval.grading.prose import take_words_off, tidy_tokens

LETTERS = "ABCDEFGHIJ"
_SEPARATORS = frozenset((")", ".", ":", "-"))


def is_choice(answer: str, problem: Problem) -> bool:
    """Whether an answer names the right option and no other."""
    if len(answer) > 4_000:
        return False
    try:
        tokens = take_words_off(tidy_tokens(tokenise(answer))).tokens
        options = [fold_all(option) for option in problem.choices]
    except (Unreadable, RecursionError):
        return False
    letter, rest = _letter(tokens)
    if letter is None:
        same = [index for index, option in enumerate(options) if option and option == _folded(tokens)]
        return len(same) == 1 and LETTERS[same[0]] == problem.answer
    if letter != problem.answer:
        return False
    named = [LETTERS[index] for index, option in enumerate(options) if option and option == _folded(rest)]
    if rest and named:
        return problem.answer in named
    return not _names_another(rest, LETTERS[: len(options)] or LETTERS)


def fold_all(text: str) -> str:
    """Return a text as it is compared: letters, digits and signs in one case."""
    return _folded(tidy_tokens(tokenise(text)))


def _folded(tokens: tuple[Token, ...]) -> str:
    return re.sub(r"[{}\s]", "", "".join(token.text for token in tokens)).casefold()


def _letter(tokens: tuple[Token, ...]) -> tuple[str | None, tuple[Token, ...]]:
    """Return the letter in front and what stands behind it."""
    texts = [token.text for token in tokens]
    if len(tokens) >= 3 and texts[0] in ("(", "[") and texts[2] in (")", "]") and _is_letter(texts[1]):
        return texts[1].upper(), _rest(tokens[3:])
    if tokens and _is_letter(texts[0]):
        if len(tokens) == 1:
            return texts[0].upper(), ()
        if texts[1] in _SEPARATORS and (texts[0].isupper() or texts[1] == ")"):
            return texts[0].upper(), _rest(tokens[2:])
        if texts[0].isupper() and tokens[1].is_spaced and texts[0] != "A" and not _is_letter(texts[1]):
            return texts[0], tokens[1:]
    return None, tokens


def _rest(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    while tokens and tokens[0].text in _SEPARATORS | {"**", "*"}:
        if tokens[0].text in ("-", ".") and tokens[1:] and not tokens[1].is_spaced:
            break  # a number: (C) -1
        tokens = tokens[1:]
    return tokens


def _is_letter(text: str) -> bool:
    return len(text) == 1 and text.upper() in LETTERS


def _names_another(rest: tuple[Token, ...], letters: str) -> bool:
    """Whether what follows names more options: `A, B, C`, `B or C`, `B) … C) …`."""
    for place, token in enumerate(rest):
        if token.kind != "word" or not (len(token.text) == 1 and token.text in letters):
            continue
        before = rest[place - 1].text.lower() if place else ""
        behind = rest[place + 1].text if place + 1 < len(rest) else ""
        if before in (",", "or", "and", "(", ";", "/", "not") or behind in (")", ":", "."):
            return True
    return False
