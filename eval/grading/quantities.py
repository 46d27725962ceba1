"""Reads a single value with its unit, and digits in a base."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from eval.grading.formula.nodes import Based, Formula, Quantity
from eval.grading.formula.operators import FUNCTIONS
from eval.grading.formula.parser import PROSE_WORDS, parse_formula
from eval.grading.formula.tokens import Token, Unreadable
from eval.grading.units import PLAIN_UNITS, is_known

_NOT_UNITS = frozenset("pi base mod sqrt times sin cos tan log ln e i infinity choose".split()) | PROSE_WORDS - {
    "per",
    "in",
}
_CURRENCY = {"\\$": "$", "€": "€", "£": "£", "¥": "¥", "usd": "$", "rs": "rs"}
_UNIT_SIGNS = frozenset(("/", "cdot", "*", "times", "-", ".", "(", ")", "mu", "Omega", "AA", "circ", "^", "{", "}"))
_BASES = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
    )
} | {"bin": 2, "oct": 8, "dec": 10, "hex": 16, "binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16}


def read_quantity(tokens: Sequence[Token]) -> Quantity:
    """Read a formula with a percent sign, a currency sign or a unit.

    Raises:
        Unreadable: the value before the unit is no formula.
    """
    if is_written_number(tokens):
        return _written("".join(token.text for token in tokens))
    tokens, currency = _without_currency(_with_flat_units(tokens))
    if tokens and tokens[-1].text == "%":
        return Quantity(formula=parse_formula(tokens[:-1]), is_percent=True)
    start = _start_of_unit(tokens)
    if start is None:
        return Quantity(formula=parse_formula(tokens), unit=currency)
    value = tokens[:start]
    while value and value[-1].text in ("cdot", "*", "times", "-"):
        value = value[:-1]
    unit = _text_of(tokens[start:])
    if value and value[-1].text == "%":
        return Quantity(formula=parse_formula(value[:-1]), is_percent=True)
    symbols: Formula | None = None
    if tokens[start].style == "math":
        try:
            symbols = parse_formula(tokens)
        except Unreadable:
            symbols = None
    return Quantity(formula=parse_formula(value), unit=unit, with_unit_as_symbols=symbols)


def is_written_number(tokens: Sequence[Token]) -> bool:
    """Whether tokens are digits alone, with a minus or without: what most values are."""
    if not tokens or tokens[-1].kind != "number":
        return False
    return len(tokens) == 1 or (len(tokens) == 2 and tokens[0].text == "-")


@lru_cache(maxsize=16384)
def _written(number: str) -> Quantity:
    sign, digits = ("-", number[1:]) if number[0] == "-" else ("", number)
    tokens = [Token("sign", "-"), Token("number", digits)] if sign else [Token("number", digits)]
    return Quantity(formula=parse_formula(tokens))


def _with_flat_units(tokens: Sequence[Token]) -> list[Token]:
    r"""Write `\frac{\mathrm{m}}{\mathrm{s}^2}` behind a value as `m/s^2`."""
    found = list(tokens)
    texts = [token.text for token in found]
    if "frac" not in texts[1:] or texts[-1] not in ("}", "circ"):
        return found
    start = len(texts) - 1 - texts[::-1].index("frac")
    words = [token for token in found[start + 1 :] if token.kind == "word"]
    if start == 0 or not words or any(token.style == "math" or token.text in _NOT_UNITS for token in words):
        return found
    middle = next((place for place in range(start, len(texts) - 1) if texts[place : place + 2] == ["}", "{"]), None)
    if middle is None or texts[start + 1] != "{":
        return found
    slash = found[middle]._replace(text="/")
    return [*found[:start], *found[start + 2 : middle], slash, *found[middle + 2 : -1]]


def _without_currency(tokens: list[Token]) -> tuple[list[Token], str]:
    for place in (0, -1, 1):
        if len(tokens) > 1 and tokens[place].text.lower() in _CURRENCY and (place != 1 or tokens[0].text == "-"):
            currency = _CURRENCY[tokens.pop(place).text.lower()]
            return tokens, currency
    return tokens, ""


def _text_of(tokens: Sequence[Token]) -> str:
    text = " ".join(token.text for token in tokens)
    text = re.sub(r"\^ circ ([CF])\b|\^ \{ circ \} ([CF])\b", r"°\1\2", text)
    return re.sub(r"\s*\^\s*\{?\s*(-?)\s*(\d+)\s*\}?", r"^\1\2", text).strip(" .")


def _start_of_unit(tokens: Sequence[Token]) -> int | None:
    """Return where the unit behind a value starts: the first place from which on all tokens belong to one."""
    start = len(tokens)
    while start > 1 and _is_unit_token(tokens, start - 1):
        start -= 1
    while start < len(tokens) and not _begins_unit(tokens, start):
        start += 1
    if start >= len(tokens) or start == 0:
        return None
    if tokens[start].kind == "word" and tokens[start].style == "math" and _is_inside(tokens, start):
        return None
    return start


def _is_inside(tokens: Sequence[Token], place: int) -> bool:
    before = [token.text for token in tokens[:place]]
    return before.count("{") != before.count("}") or before.count("(") != before.count(")")


def _is_unit_token(tokens: Sequence[Token], place: int) -> bool:
    token = tokens[place]
    if token.kind == "number":
        before = [part.text for part in tokens[max(0, place - 3) : place]]
        return bool(before) and (
            before[-1] == "^" or before[-2:] in (["^", "{"], ["^", "-"]) or before == ["^", "{", "-"]
        )
    if token.kind == "word":
        return _is_unit_word(tokens, place)
    if token.text in ("(", ")", "{", "}"):
        return True
    if token.text == "circ":
        return place + 1 < len(tokens) and any(part.text in ("C", "F") for part in tokens[place + 1 : place + 3])
    return token.text in _UNIT_SIGNS


def _is_unit_word(tokens: Sequence[Token], place: int) -> bool:
    token = tokens[place]
    word = token.text
    if word.lower() in _NOT_UNITS or word in FUNCTIONS:
        return False
    if not word.isascii() or word in PLAIN_UNITS or (is_known(word) and len(word) > 1):
        return True
    if token.style != "math":
        return True
    # A noun: 575 students
    return len(word) > 2 and word.islower() and token.is_spaced


def _begins_unit(tokens: Sequence[Token], place: int) -> bool:
    token, before = tokens[place], tokens[place - 1]
    if before.text in ("+", "-", "=", "^", "_", "frac", "sqrt", "{", "(") and token.kind == "word":
        return False
    if token.text == "^":
        behind = [part.text for part in tokens[place + 1 : place + 5]]
        return (behind[:1] == ["circ"] and behind[1:2] in (["C"], ["F"])) or (
            behind[:3] == ["{", "circ", "}"] and behind[3:4] in (["C"], ["F"])
        )
    if token.text in ("mu", "Omega", "AA"):
        return any(part.style != "math" for part in tokens[place + 1 :])
    if token.kind != "word":
        return False
    is_after_value = before.kind in ("number", "command") or before.text in (")", "}", "]", "!", "%", "|", "-", "cdot")
    is_after_value |= before.kind == "word" and before.style == "math"
    return is_after_value and (before.text != "-" or token.style != "math" or len(token.text) > 2)


def read_based(tokens: Sequence[Token]) -> Based | None:
    r"""Read `4343_6`, `(52)_8`, `52_{\text{eight}}`, `52 base 8`, `A3_{16}`; None for anything else."""
    if not any(token.text in ("_", "base") for token in tokens):
        return None
    is_negative = bool(tokens) and tokens[0].text == "-"
    texts = [token.text for token in tokens[is_negative:] if token.text not in ("(", ")", "{", "}")]
    if "base" in texts and "_" not in texts:
        texts[texts.index("base")] = "_"
    texts = [text for text in texts if text not in ("base", "text", "in", "cdot")]
    if "_" not in texts:
        return None
    place = texts.index("_")
    digits, base = "".join(texts[:place]), texts[place + 1 :]
    if len(base) != 1 or not re.fullmatch(r"[0-9A-F]*\d[0-9A-F]*(?:\.[0-9A-F]+)?", digits):
        return None
    number = int(base[0]) if base[0].isdigit() and len(base[0]) < 3 else _BASES.get(base[0].lower())
    return None if number is None or not 2 <= number <= 36 else Based(digits.lstrip("0") or "0", number, is_negative)
