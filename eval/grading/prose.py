"""Takes off what stands around an answer: lead-ins, labels of options, remarks, emphasis, final dots.

Also settles words that are signs: `percent`, `degrees`, `million`, and groups of digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from eval.grading.formula.tokens import GROUPING, Token

_LEAD_INS = frozenset(
    "the final answer answers ans result results solution solutions value values correct option choice so thus "
    "therefore hence is are equals equal to we get have obtain it its be that exactly approximately about roughly "
    "total must of number boxed simplified expression simplifies becomes conclude which in form root roots set "
    "our your here finally has area length probability sum product approx around only".split()
)
_CHINESE_LEAD_IN = re.compile(r"(?:最终|正确|所以|因此|故|则|答案|结果|选项|选|约|等于|应该|应|即|的|为|是|答)+")
_TAILS = frozenset(
    "for where when whenever if with because since which such given assuming provided as after using while although "
    "by whose but".split()
)
_CHINESE_TAIL = re.compile(r"(?:其中|因为|当|如果|若)")
_SECOND_CASE = frozenset("otherwise else or if for when respectively 或 否则 not".split())
_PERCENT, _DEGREE = frozenset(("percent", "pct", "percentage")), frozenset(("degree", "degrees", "deg", "度"))
_SAYING = frozenset("is are there was were equals total exactly needs has have".split())
_DENYING = frozenset("not no or than least most over under between if unless never except".split())
_LARGE = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8}
_EMPHASIS = frozenset(("**", "*", "_", "#", "'"))
_FINAL = frozenset((".", ",", ";", ":", "?"))
_PERIODS = frozenset(("overline", "dot", "bar"))
_NUMPY = frozenset(("np", "math", "numpy"))
_SETTLED_SIGNS = frozenset((".", "surd"))
"""What beside words may be read otherwise for what stands before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An answer without the prose around it."""

    tokens: tuple[Token, ...]
    has_tail: bool
    is_uncertain: bool
    """The tail names another case: what was left is not the whole answer."""


def tidy_tokens(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """Replace words that are signs by the signs, and drop emphasis and final punctuation."""
    found: list[Token] = []
    for token in _with_periods(tokens):
        if token.kind != "word" and token.text not in _SETTLED_SIGNS:
            found.append(token)
            continue
        word = token.text.lower() if token.kind == "word" else ""
        before = found[-1] if found else None
        if word in _PERCENT and before is not None:
            found.append(token._replace(kind="sign", text="%"))
        elif word in _DEGREE and before is not None and (before.kind == "number" or before.text in (")", "}", "pi")):
            found += [token._replace(kind="sign", text="^", style="math"), Token("command", "circ")]
        elif word in _LARGE and before is not None and before.kind == "number" and "e" not in before.text.lower():
            found[-1] = before._replace(text=f"{before.text}e{_LARGE[word]}")
        elif token.text == "." and before is not None and before.text in _NUMPY:
            found.pop()
        elif token.text == "surd" and before is not None and before.text == "surd":
            continue
        else:
            found.append(token)
    return _trimmed(found)


def _with_periods(tokens: Sequence[Token]) -> list[Token]:
    r"""Write `0.1\overline{6}` as the fraction it is: 1/6."""
    found = list(tokens)
    if _PERIODS.isdisjoint(token.text for token in found):
        return found
    for place in range(len(found) - 4, 0, -1):
        texts = [token.text for token in found[place : place + 4]]
        if texts[0] not in _PERIODS or texts[1] != "{" or texts[3] != "}" or not texts[2].isdigit():
            continue
        start = place - 2 if found[place - 1].text == "." and place > 1 else place - 1
        fixed = "".join(token.text for token in found[start:place])
        if re.fullmatch(r"\d*\.\d*", fixed) and len(fixed) + len(texts[2]) < 100:
            value = _periodic(fixed, texts[2])
            spelled = ("{", str(value.numerator), "/", str(value.denominator), "}")
            found[start : place + 4] = [
                Token("number" if text.isdigit() else "sign", text, found[start].is_spaced) for text in spelled
            ]
    return found


def _periodic(fixed: str, period: str) -> Fraction:
    whole, digits = fixed.split(".")
    scale = 10 ** len(digits)
    return Fraction(int(whole + digits or "0"), scale) + Fraction(int(period), (10 ** len(period) - 1) * scale)


def _trimmed(tokens: Sequence[Token]) -> tuple[Token, ...]:
    start, end = 0, len(tokens)
    while start < end and (tokens[start].text in _EMPHASIS or tokens[start].text in (":", ",", ".", "\\\\")):
        start += 1
    while end > start and (tokens[end - 1].text in _FINAL or tokens[end - 1].text in ("**", "*", "_", "\\\\")):
        end -= 1
    return tuple(tokens[start:end])


def take_words_off(tokens: Sequence[Token]) -> Taken:
    """Take the lead-in and the tail of prose off."""
    rest = _without_lead_in(_trimmed(tokens))
    place = _start_of_tail(rest)
    if place is None:
        return Taken(tokens=rest, has_tail=False, is_uncertain=False)
    tail = rest[place + (2 if rest[place].text == "(" else 1) :]
    is_uncertain = any(token.text.lower() in _SECOND_CASE or token.text == ";" for token in tail)
    return Taken(tokens=_trimmed(rest[:place]), has_tail=True, is_uncertain=is_uncertain)


def _without_lead_in(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    place = 0
    while place < len(tokens) and _leads_in(tokens[place]):
        place += 1
    if not 0 < place < len(tokens) or tokens[place].text in ("=", "<", ">", "^", "_", "/", "("):
        if place == 0 or place >= len(tokens) or tokens[place].text in ("^", "_", "/"):
            return tokens
    return _trimmed(tokens[place:])


def _leads_in(token: Token) -> bool:
    if token.kind != "word":
        return False
    return token.text.lower() in _LEAD_INS or _CHINESE_LEAD_IN.fullmatch(token.text) is not None


def _start_of_tail(tokens: Sequence[Token]) -> int | None:
    """Return where the prose behind an answer starts."""
    depth = 0
    for place, token in enumerate(tokens):
        if token.text in ("(", "[", "{", "\\{"):
            if depth == 0 and place > 0 and token.text == "(" and is_remark(tokens[place:]):
                return place
            depth += 1
        elif token.text in (")", "]", "}", "\\}"):
            depth -= 1
        elif place > 0 and depth <= 0 and token.kind == "word":
            if token.text.lower() in _TAILS or _CHINESE_TAIL.match(token.text):
                return place
    return None


def is_remark(tokens: Sequence[Token]) -> bool:
    """Whether brackets to the end hold prose: `(approximately)`, `(since x > 0)`."""
    if len(tokens) < 3 or tokens[-1].text != ")" or tokens[1].kind != "word":
        return False
    word = tokens[1].text
    if word.lower() in _TAILS:
        return True
    return (
        len(word) > 3
        and word not in ("base", "sqrt", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh")
        and word.islower()
    )


def label_of(tokens: Sequence[Token]) -> tuple[str, tuple[Token, ...]]:
    """Return the letter of an option in front of an answer, `(C) 42` or `B: 42`, and the rest."""
    texts = [token.text for token in tokens[:4]]
    if len(tokens) > 3 and texts[0] in ("(", "[") and texts[2] in (")", "]") and _is_letter(tokens[1]):
        rest = tokens[4:] if texts[3] in (":", ".") else tokens[3:]
        is_product = (
            rest and rest[0].text in ("=", "^", "_", "/", "(", "+", "*", "cup", ",", "!") and not rest[0].is_spaced
        )
        if rest and not is_product and (rest[0].is_spaced or rest[0].style == "text" or rest[0].kind == "number"):
            if rest[0].text not in ("=", "+", ",", ";", "cup"):
                return texts[1].upper(), _trimmed(rest)
    if len(tokens) > 2 and _is_letter(tokens[0]) and texts[1] in (")", ":", "."):
        rest = tokens[2:]
        is_ratio = texts[1] == ":" and not rest[0].is_spaced and rest[0].kind == "word"
        has_colon = any(token.text == ":" for token in rest)
        if not is_ratio and not has_colon:
            return texts[0].upper(), _trimmed(rest)
    return "", tuple(tokens)


def number_in_sentence(tokens: Sequence[Token]) -> Token | None:
    """Return the one number of a sentence that says what it is: `there are 42 ways`; None for any other text."""
    numbers = [token for token in tokens if token.kind == "number"]
    words = {token.text.lower() for token in tokens if token.kind == "word"}
    is_plain = all(token.kind in ("number", "word") or token.text in ("-", "'", ",") for token in tokens)
    if len(numbers) != 1 or not is_plain or not words & _SAYING or words & _DENYING:
        return None
    return numbers[0]


def _is_letter(token: Token) -> bool:
    return token.kind == "word" and len(token.text) == 1 and token.text in "ABCDEFGHIJ"


def join_numbers(tokens: Sequence[Token], *, is_inside: bool) -> list[Token]:
    """Join the groups of three digits of a number: `1,234`, `1{,}234`, `1 234`.

    Inside brackets a plain comma joins only where another one, with a space, separates: (1,234, 5,678) has two items.
    """
    if not _may_have_groups(tokens):
        return list(tokens)
    has_spaced = any(
        token.text == "," and place + 1 < len(tokens) and tokens[place + 1].is_spaced
        for place, token in enumerate(tokens)
    )
    joined, place, depth = list[Token](), 0, 0
    while place < len(tokens):
        token = tokens[place]
        depth += (token.text in ("(", "[", "\\{")) - (token.text in (")", "]", "\\}"))
        comma_joins = depth <= 0 and (has_spaced or not is_inside)
        end = _end_of_groups(tokens, place, comma_joins=comma_joins)
        if end > place:
            digits = "".join(part.text for part in tokens[place : end + 1] if part.kind == "number")
            joined.append(token._replace(text=digits))
            place = end + 1
        else:
            joined.append(token)
            place += 1
    return joined


def _may_have_groups(tokens: Sequence[Token]) -> bool:
    """Whether a number has as many digits as a group of three: most answers have none, and need no further look."""
    for token in tokens:
        if token.kind == "number" and (len(token.text) == 3 or token.text[3:4] == "."):
            return True
    return False


def _end_of_groups(tokens: Sequence[Token], start: int, *, comma_joins: bool) -> int:
    """Return the place of the last group of the number that starts here, or `start`."""
    first = tokens[start]
    if first.kind != "number" or not re.fullmatch(r"[1-9]\d{0,2}", first.text):
        return start
    if start and tokens[start - 1].text == "," and not first.is_spaced:
        return start  # in the middle of a list
    end, kind = start, ""
    while end + 1 < len(tokens):
        sign = tokens[end + 1]
        if sign.text == GROUPING or (sign.text == "," and comma_joins):
            kind, step = kind or "comma", 2
        elif sign.kind == "number" and sign.is_spaced and kind != "comma":
            kind, step = "space", 1
        else:
            break
        group = tokens[end + step] if end + step < len(tokens) else None
        if (
            group is None
            or not re.fullmatch(r"\d{3}(?:\.\d+)?", group.text)
            or (step == 2 and group.is_spaced and group.text != "000")
        ):
            # 1,234,56 is a list: either all groups have three digits, or none is one
            is_list = step == 2 and sign.text == "," and group is not None and not group.is_spaced
            return start if is_list else end
        if kind == "space" and tokens[end + step + 1 : end + step + 2] and tokens[end + step + 1].text == "/":
            return end
        end += step
    return end
