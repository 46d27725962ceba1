"""Reads a whole answer: takes the prose, label, name and unit off, and says which shape the rest has.

`read` is the one place where the meaning of words is decided. It returns a tree of `eval.grading.formula.nodes`, or
no answer where the reading is not certain; nothing is compared here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from eval.grading.brackets import CLOSING, OPENING, is_one_group, split_at, with_depth, with_round_brackets
from eval.grading.formula.nodes import (
    Answer,
    Call,
    Chain,
    Empty,
    Formula,
    Listing,
    Matrix,
    Number,
    Quantity,
    Relation,
    Symbol,
    Union,
    Words,
)
from eval.grading.formula.tokens import Token, Unreadable, tokenise
from eval.grading.prose import (
    join_numbers,
    label_of,
    number_in_sentence,
    take_words_off,
    tidy_tokens,
)
from eval.grading.quantities import is_written_number, read_based, read_quantity

MAX_PARTS = 64

_RELATIONS: dict[str, Relation] = {
    "=": "=", "==": "=", "equiv": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "le": "<=", "ge": ">=",
    "!=": "!=", "ne": "!=", "in": "in", "approx": "~", "simeq": "~", "cong": "=", ":": ":",
}  # fmt: skip
_ORDERS = frozenset(("<", ">", "<=", ">=", "!="))
_ARROWS = frozenset("implies Rightarrow Longrightarrow iff Leftrightarrow".split())
_NONE = frozenset(
    (
        "no solution", "no solutions", "no real solution", "no real solutions", "there is no solution",
        "there are no solutions", "the empty set", "empty set", "none", "no such solution", "no real roots", "无解",
        "空集", "no solution exists", "no solutions exist", "does not have a solution", "no real number solutions",
    )
)  # fmt: skip
_ALL_REAL = frozenset(
    ("all real numbers", "all reals", "real numbers", "any real number", "the real numbers", "全体实数", "all real")
)
_MATRICES = frozenset("matrix pmatrix bmatrix vmatrix Vmatrix Bmatrix smallmatrix array".split())
_ALIGNED = frozenset("align align* aligned gather gather* gathered equation equation* split".split())
_OF_GROUPS = frozenset((";", "\\\\", "wedge"))
_OF_ITEMS = frozenset((",", ";", "\\\\", "and", "or", "And", "Or", "AND", "OR", "和", "或", "与", "或者", "vee"))
_OF_COORDINATES, _COMMA, _CUP = frozenset((",", ";")), frozenset((",",)), frozenset(("cup",))
_OF_ROWS, _OF_CELLS = frozenset(("\\\\",)), frozenset(("&",))
_INFINITE = Formula(
    node=Call("infty"), symbols=frozenset(), names=frozenset(("infty",)), has_decimals=False, is_loose=False
)
_NO_NAMES = frozenset[str]()
_UNNAMED = Quantity(
    formula=Formula(node=Symbol("?"), symbols=frozenset("?"), names=_NO_NAMES, has_decimals=False, is_loose=False)
)
"""What `> 7` speaks of."""
_WRITTEN_NUMBER = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?")
"""What most answers are: read without a token."""
_MINUS_INFINITE = replace(_INFINITE, node=Call("neg", (Call("infty"),)), names=frozenset(("neg", "infty")))
REALS = Listing(brackets="()", items=(Quantity(formula=_MINUS_INFINITE), Quantity(formula=_INFINITE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a text says as an answer."""

    answer: Answer | None
    """None where the reading is not certain, or where nothing is said."""
    words: str = ""
    """The letters and digits of the text, in one case: for golds that are words."""
    label: str = ""
    """The letter of an option in front of the answer."""
    has_prose: bool = False
    """A tail of prose was left out."""
    is_empty: bool = False
    """Nothing but spaces and punctuation."""
    num_parts: int = 1
    """Items between commas, or beside one another: a list of hundreds is no answer."""
    num_beside: int = 0
    """Numbers that follow another without a sign between them: math_verify adds those up."""
    num_tokens: int = 1
    text: str = ""
    """What is compared, without what stands around it."""


@lru_cache(maxsize=65536)
def read(text: str) -> Reading:
    """Read an answer."""
    if _WRITTEN_NUMBER.fullmatch(text):
        is_decimal = "." in text
        number = Number(Fraction(text) if is_decimal else Fraction(int(text)), is_decimal)
        formula = Formula(node=number, symbols=_NO_NAMES, names=_NO_NAMES, has_decimals=is_decimal, is_loose=False)
        return Reading(answer=Quantity(formula=formula), words=text)
    try:
        tokens = tidy_tokens(tokenise(text))
    except (Unreadable, RecursionError):
        return Reading(answer=None)
    if not any(token.kind in ("number", "word", "command") or token.text in ("\\{", "{") for token in tokens):
        return Reading(answer=None, is_empty=True)
    taken = take_words_off(tokens)
    label, rest = label_of(taken.tokens)
    words = fold(rest)
    try:
        if taken.is_uncertain:
            raise Unreadable
        answer: Answer | None = _read_all(with_round_brackets(rest))
    except (Unreadable, ArithmeticError, ValueError, RecursionError):
        answer = _words(rest)
    is_plain = all(token.kind in ("number", "word") or token.text in ("-", ".", ",") for token in rest)
    num_beside = sum(a.kind == b.kind == "number" for a, b in pairwise(rest)) if is_plain else 0
    num_parts = 1 + num_beside + sum(token.text in _OF_ITEMS for token in rest)
    return Reading(
        answer=answer,
        words=words,
        label=label,
        has_prose=taken.has_tail,
        num_parts=num_parts,
        num_beside=num_beside,
        num_tokens=len(rest),
        text="".join(f"\\{token.text} " if token.kind == "command" else token.text for token in rest),
    )


def fold(tokens: Sequence[Token]) -> str:
    """Return the letters and digits of tokens in one case, as words."""
    pieces = [("" if token.text == "'" else " ") + token.text for token in tokens if token.kind != "sign"]
    kept = " ".join("".join(pieces).casefold().split())
    kept = kept.replace("a m", "am").replace("p m", "pm") if kept.endswith((" a m", " p m")) else kept
    return kept.removeprefix("the ").removeprefix("overline ")


def _words(tokens: Sequence[Token]) -> Answer | None:
    """Return an answer in words; formulas that could not be read are none."""
    signs = [token.text for token in tokens if token.kind == "sign"]
    has_word = any(token.kind == "word" and (len(token.text) > 1 or token.style != "math") for token in tokens)
    is_plain = all(sign in ",.:;'-()/&{}" for sign in signs)
    if not has_word or not is_plain or any(token.kind in ("command", "row") for token in tokens):
        return None
    folded = fold(tokens)
    if folded in _NONE:
        return Empty()
    return REALS if folded in _ALL_REAL else Words(folded)


def _read_all(tokens: Sequence[Token]) -> Answer:
    """Read a list, or what is none."""
    if not tokens:
        raise Unreadable
    arrows = [place for place, token in enumerate(tokens) if token.text in _ARROWS]
    if arrows:
        tokens = tokens[arrows[-1] + 1 :]
    alternative = _list_of_digits(tokens)
    joined = join_numbers(tokens, is_inside=False)
    groups = [group for group in split_at(joined, _OF_GROUPS) if group]
    if len(groups) > 1 and any(_has_comma(group) for group in groups) and not _has_matrix(joined):
        # p=5,q=2;p=7,q=2: answers of several values each
        return Listing(brackets="", items=tuple(_read_list(group) for group in groups))
    answer = _read_list(joined)
    if isinstance(answer, Quantity) and alternative is not None:
        return replace(answer, alternative=alternative)
    return answer


def _list_of_digits(tokens: Sequence[Token]) -> Listing | None:
    """Return the list that `12,345` also is."""
    if len(tokens) < 3 or any(token.text != "," for token in tokens[1::2]) or len(tokens) % 2 == 0:
        return None
    if any(token.kind != "number" for token in tokens[::2]):
        return None
    return Listing(brackets="", items=tuple(read_quantity((token,)) for token in tokens[::2]))


def _read_list(tokens: Sequence[Token]) -> Answer:
    parts = [part for part in split_at(tokens, _OF_ITEMS) if part]
    if len(parts) > MAX_PARTS or not parts:
        raise Unreadable
    items = tuple(item for part in parts for item in _flat(_read_item(part)))
    kept = tuple(item for item in items if not _is_about_index(item)) or items
    if len(kept) == 1:
        return kept[0]
    is_or = any(token.text.lower() in ("or", "或", "vee", "或者") for token in tokens)
    if is_or and all(isinstance(item, Chain | Union) and _is_condition(item) for item in kept):
        return Union(kept)
    return Listing(brackets="", items=kept)


def _flat(answer: Answer) -> tuple[Answer, ...]:
    r"""Return the items of a list without brackets (`1\pm2`), else the answer alone."""
    return answer.items if isinstance(answer, Listing) and not answer.brackets else (answer,)


def _is_condition(answer: Answer) -> bool:
    relations = answer.relations if isinstance(answer, Chain) else ()
    return isinstance(answer, Union) or any(relation in _ORDERS or relation == "in" for relation in relations)


def _is_about_index(answer: Answer) -> bool:
    r"""Whether an item only says what an index runs over: `k\in\mathbb{Z}`."""
    if not isinstance(answer, Chain) or answer.relations != ("in",):
        return False
    return isinstance(answer.sides[1], Words) or answer.sides[1] == REALS


def _has_comma(tokens: Sequence[Token]) -> bool:
    return len(split_at(tokens, _COMMA)) > 1


def _has_matrix(tokens: Sequence[Token]) -> bool:
    return any(token.text == "begin" for token in tokens)


def _read_item(tokens: Sequence[Token]) -> Answer:
    """Read one item of a list: a chain of relations, or a value."""
    if is_written_number(tokens):
        return read_quantity(tokens)
    texts = [token.text for token in tokens]
    num_signs = texts.count("pm")
    if num_signs == 1:
        both = (_read_item([_with_sign(token, sign) for token in tokens]) for sign in "+-")
        return Listing(brackets="", items=tuple(both))
    if num_signs or "mp" in texts:
        raise Unreadable
    if _RELATIONS.keys().isdisjoint(texts):
        return _read_value(tokens)
    sides, relations = [list[Token]()], list[Relation]()
    for token, depth in with_depth(tokens):
        relation = _RELATIONS.get(token.text) if depth == 0 and token.style != "text" else None
        if relation is None or (token.text == "in" and token.kind == "word"):
            sides[-1].append(token)
        else:
            relations.append(relation)
            sides.append([])
    if not relations:
        return _read_value(tokens)
    if not sides[0] and relations[0] in ("=", "~") and len(sides) == 2:
        return _read_value(sides[1])
    if not sides[0] and relations[0] in _ORDERS and len(sides) == 2:
        return Chain((_UNNAMED, _read_value(sides[1])), (relations[0],))
    if len(relations) > 12 or not all(sides):
        raise Unreadable
    return Chain(tuple(_read_value(side) for side in sides), tuple(relations))


def _with_sign(token: Token, sign: str) -> Token:
    return token._replace(kind="sign", text=sign) if token.text == "pm" else token


def _read_value(tokens: Sequence[Token]) -> Answer:
    """Read a union, a set, a tuple, an interval, a matrix or a single value."""
    if is_written_number(tokens):
        return read_quantity(tokens)
    pieces = split_at(tokens, _CUP)
    if len(pieces) > 1:
        return Union(tuple(_read_value(piece) for piece in pieces))
    if not tokens:
        raise Unreadable
    first = tokens[0].text
    if len(tokens) == 1 and first in ("reals", "emptyset"):
        return REALS if first == "reals" else Empty()
    if len(tokens) == 1 and first in ("integers", "naturals", "rationals", "complexes"):
        return Words(first)
    if first == "reals" and tokens[1].text in ("setminus", "-"):
        return _without_points(_read_value(tokens[2:]))
    if _has_matrix(tokens):
        return _read_matrix(tokens)
    if len(first) == 1 and first.isalpha() and tokens[1:] and tokens[1].text + tokens[-1].text in ("(]", "[)"):
        tokens = tokens[1:]  # t(0,4]: what only an interval can follow is a name
    bracketed = _read_bracketed(tokens)
    if bracketed is not None:
        return bracketed
    based = read_based(tokens)
    if based is not None:
        return based
    try:
        return read_quantity(tokens)
    except Unreadable:
        number = number_in_sentence(tokens)
        if number is not None:
            return read_quantity((number,))
        words = _words(tokens)
        if words is None:
            raise
        return words


def _without_points(points: Answer) -> Answer:
    r"""Return `\mathbb{R}\setminus\{a\}` as a condition."""
    if not isinstance(points, Listing) or points.brackets != "{}" or len(points.items) != 1:
        raise Unreadable
    low, high = REALS.items
    return Union(
        (Listing(brackets="()", items=(low, *points.items)), Listing(brackets="()", items=(*points.items, high)))
    )


def _read_bracketed(tokens: Sequence[Token]) -> Answer | None:
    """Read brackets around the whole value; None where it has none, or where they only group."""
    opening, closing = tokens[0].text, tokens[-1].text
    if len(tokens) < 2 or opening not in OPENING or closing not in CLOSING or not is_one_group(tokens):
        return None
    inner = join_numbers(tokens[1:-1], is_inside=True)
    if opening in ("\\{", "{") and closing in ("\\}", "}"):
        return _read_set(inner, is_escaped=opening == "\\{")
    parts = split_at(inner, _OF_COORDINATES)
    if len(parts) < 2 or not all(parts):
        return None
    if len(parts) > MAX_PARTS:
        raise Unreadable
    items = tuple(_read_item(part) for part in parts)
    if any(isinstance(item, Listing) and not item.brackets for item in items):
        raise Unreadable  # which of (1±2, 3±4) belong together?
    if opening + closing not in ("()", "[]", "(]", "[)"):
        return None
    return Listing(brackets=opening + closing, items=items)  # type: ignore[arg-type]


def _read_set(inner: Sequence[Token], *, is_escaped: bool) -> Answer | None:
    if not inner:
        return Empty()
    for place, (token, depth) in enumerate(with_depth(inner)):
        # \{x | x > 3\}, \{x \in R : x > 3\}: the condition is the set
        if depth == 0 and token.text in ("|", ":") and 0 < place <= 5 and inner[0].kind in ("word", "command"):
            return _read_list(inner[place + 1 :])
    parts = [part for part in split_at(inner, _OF_ITEMS) if part]
    if len(parts) > MAX_PARTS:
        raise Unreadable
    if len(parts) < 2 and not is_escaped:
        return None  # braces that only group
    items = tuple(item for part in parts for item in _flat(_read_item(part)))
    return Listing(brackets="{}", items=items)


def _read_matrix(tokens: Sequence[Token]) -> Answer:
    """Read a matrix; of aligned lines, the last."""
    if tokens[0].text in ("[", "(") and tokens[-1].text in ("]", ")"):
        tokens = tokens[1:-1]
    place = 0
    if [token.text for token in tokens[:2]] != ["begin", "{"]:
        raise Unreadable
    name = tokens[2].text + ("*" if tokens[3].text == "*" else "")
    while tokens[place].text != "}":
        place += 1
    end = max(index for index, token in enumerate(tokens) if token.text == "end")
    if len(tokens) - end > 5:
        raise Unreadable
    body = list(tokens[place + 1 : end])
    if name == "array" and body and body[0].text == "{":
        body = body[next(index for index, token in enumerate(body) if token.text == "}") + 1 :]
    rows = [row for row in split_at(body, _OF_ROWS) if row]
    if name in _ALIGNED and rows:
        return _read_all([token for token in rows[-1] if token.text != "&"])
    if name not in _MATRICES or not rows:
        raise Unreadable
    cells = [split_at(row, _OF_CELLS) for row in rows]
    if len({len(row) for row in cells}) != 1 or sum(map(len, cells)) > MAX_PARTS:
        raise Unreadable
    return Matrix(tuple(tuple(_read_value(join_numbers(cell, is_inside=True)) for cell in row) for row in cells))
