r"""The rules of PRIME's reward for mathematics, restated: two graders of which one has to agree.

1. The answer (`_found`): what follows "answer:" or "answer is", what stands before "is the answer"; in it the last box;
   in that what stands before the last ". " and behind "be", "is", "are", "=", ":" or "get": `x=5` is 5.
2. Right is what the grader of PRM800K takes: the same text as Hendrycks et al. respell it (`_respelled`), or as PRM800K
   does (`_plain`: percent, dollars and units go, LaTeX becomes text, "million" is a factor); tuples in the same
   brackets place by place; a formula of at most two letters, and without powers like `^{` or `^12`, that sympy
   simplifies to the gold, unless one of them is a whole number and the other is not, or both are fractions of digits.
3. Or what the comparison of values takes (`_same_value`): the same text without braces and round brackets; within 1e-4
   relative, percent lost or not; lists with commas place by place; formulas whose difference is 0 or which are within
   1e-4; π once as itself and once as 3.14; a number with a base (`43_8`) is that number, and any other index is wrong.

Not restated: answers that are run as Python code beyond arithmetic, and the names of sympy's own sets and matrices as
answers (`Interval(1, 2)`).

Source: Cui et al. (2025), Process reinforcement through implicit rewards (arXiv:2502.01456), section 4; Lightman et al.
(2023), Let's verify step by step (arXiv:2305.20050), appendix on grading. Compared with its code: docs/evaluation.md.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import sympy

from eval.api import Problem
from eval.graders import latex
from eval.graders.algebra import TOLERANCE, are_near_as_percent, arithmetic, attempt
from eval.graders.plain_text import plain_text
from eval.graders.pooled import Question
from eval.graders.spelling import inside_braces, slash_as_fraction, with_braces, with_zero, without_name

MAX_LETTERS = 2
"""Formulas with more different letters are compared as text by PRM800K's grader."""
MAX_CHARS = 1000
"""Of an answer, in the comparison of values."""
MAX_DEPTH = 4
"""Tuples inside tuples are compared this far."""

_BEFORE_ANSWER = ("answer:", "answer is", "answers are")
_BEHIND_ANSWER = ("is answer", "is the answer", "are answers", "are the answers")
_BEFORE_VALUE = ("be ", "is ", "are ", "=", ": ", "get ", "be\n", "is\n", "are\n", ":\n", "get\n")

_ALL_TEXT = re.compile(r"\\text\{(.+?)\}$")
_SIMPLER = {r"\!": "", "\\\\": "\\", "tfrac": "frac", "dfrac": "frac", r"\left": "", r"\right": "", r"\$": ""}
_DEGREES = re.compile(r"\^(?:\\circ|\{\\circ\})")
_SHORT_ROOT = re.compile(r"\\sqrt([^{])")

_PLAIN = {r"\%": "", r"\$": "", "$": "", "%": "", " or ": " , ", " and ": " , "}
_FACTORS = {"million": "*10^6", "billion": "*10^9", "trillion": "*10^12"}
_UNITS = re.compile(
    r"(?:centimeter|meter|cm|inch|foot|feet|yard|mile|liter|degree|second|minute|hour|day|week|month|year)"
    r"(?:es)?s? *(?:\^[0-9]+)?|\^ *\\circ"
)
_AS_ARITHMETIC = str.maketrans({"√": "sqrt", "π": "pi", "∞": "inf", "∪": "U", "·": "*", "×": "*"})
_MIXED = re.compile(r"(?<=[0-9]) +(?=[0-9])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TUPLE = re.compile(r"([(\[)\]])([^()\[\]]+)([(\[)\]])")
_FRACTION = re.compile(r"-?[0-9]+.?/0*[1-9][0-9]*.?")
_POWERS = re.compile(r"\^[{(]|\^[0-9]+\^|\^[0-9][0-9]+")
_PERCENT = re.compile(r"\d+(?:\.\d+)?\\?%")
_DOLLARS = re.compile(r"\$\d+")
_BRACES = str.maketrans("", "", "{}()")


def prepare(response: str, problem: Problem) -> Question | None:
    """Find the answer as these rules do; they respell it in two ways, each when it judges."""
    found = _found(response)
    return Question(answer=found, gold=problem.answer, found=found) if found else None


def _found(response: str) -> str:
    for words in _BEFORE_ANSWER:
        response = _behind(response, words)
    for words in _BEHIND_ANSWER:
        place = response.lower().rfind(words)
        response = response[:place].strip() if place >= 0 else response
    response = _boxed(response) or response
    before, sentence_ends, _ = response.rpartition(". ")
    response = before.strip() if sentence_ends else response
    for words in _BEFORE_VALUE:
        response = _behind(response, words)
    return response


def _behind(text: str, words: str) -> str:
    place = text.lower().rfind(words)
    return text[place + len(words) :].strip() if place >= 0 else text


def _boxed(text: str) -> str | None:
    """Return what the last box holds; None where it is not closed."""
    place = text.rfind(r"\boxed")
    place = place if place >= 0 else text.rfind(r"\fbox")
    opening = text.find("{", place)
    inside = inside_braces(text[opening:], has_to_close=True) if place >= 0 and opening >= 0 else None
    return None if inside is None else inside.strip()


def judge(answer: str, gold: str) -> Literal["right", "wrong"]:
    """Compare an answer as it was found with a gold as it is."""
    return "right" if _is_same_text(answer, gold) or _is_same_for_any_circle(answer, gold) else "wrong"


def _is_same_text(answer: str, gold: str) -> bool:
    if _respelled(answer) == _respelled(gold):
        return True
    answer, gold = _plain(answer), _plain(gold)
    if answer == gold:
        return True
    if not answer:
        return False
    parts, gold_parts = _parts(answer), _parts(gold)
    if len(gold_parts) > 1 and (answer[0], answer[-1]) != (gold[0], gold[-1]):
        return False
    return len(parts) == len(gold_parts) and all(map(_is_same_part, parts, gold_parts))


def _respelled(text: str) -> str:
    """Rewrite an answer as the data set's authors do; as it is where that fails."""
    text = text.strip()
    all_text = _ALL_TEXT.match(text)
    text = start = all_text[1].strip() if all_text else text
    text = text.replace("\n", "")
    for one, other in _SIMPLER.items():
        text = text.replace(one, other)
    without_unit, *units = _DEGREES.sub("", text).split(r"\text{ ")
    text = without_name(with_zero(without_unit.replace(r"\%", "")))
    if len(units) > 1 or text.endswith((r"\sqrt", r"\frac")):
        return start
    text = with_braces(_SHORT_ROOT.sub(r"\\sqrt{\1}", text).replace(" ", ""))
    return r"\frac{1}{2}" if text == "0.5" else slash_as_fraction(text)


def _plain(text: str) -> str:
    """Rewrite an answer as PRM800K's grader does."""
    all_text = _ALL_TEXT.match(text)
    text = all_text[1] if all_text else text
    for one, other in (_PLAIN | _FACTORS).items():
        text = text.replace(one, other)
    text = _UNITS.sub("", text)
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    text = _as_whole(text)
    if "\\" in text:
        text = _without_latex(text)
    text = _MIXED.sub("+", re.sub(r"- *", "-", text)).lower()
    return str(int(_float(text.replace(",", "")))) if _is_whole(text) else text


def _without_latex(text: str) -> str:
    spaced = text.replace("tfrac", "frac").replace("dfrac", "frac").replace(r"\frac", r" \frac")
    try:
        return plain_text(spaced).translate(_AS_ARITHMETIC).strip()
    except RecursionError:
        return text


def _as_whole(text: str) -> str:
    number = _float(text)
    return str(round(number)) if math.isfinite(number) and abs(number - round(number)) <= 1e-7 else text


def _float(text: str) -> float:
    """Return what Python makes of a number; NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_whole(text: str) -> bool:
    number = _float(_THOUSANDS.sub("", text))
    return math.isfinite(number) and abs(number - round(number)) <= 1e-7


def _parts(text: str) -> list[str]:
    text = _THOUSANDS.sub("", text)
    inside = _TUPLE.fullmatch(text)
    return [part.strip() for part in inside[2].split(",")] if inside else [text]


def _is_same_part(answer: str, gold: str) -> bool:
    if _FRACTION.fullmatch(answer) and _FRACTION.fullmatch(gold):
        return answer == gold  # in lowest terms, or not
    if _is_whole(answer) != _is_whole(gold):
        return False
    difference = f"({gold})-({answer})"
    letters = {letter for letter in difference.replace("sqrt", "").replace("frac", "") if letter.isalpha()}
    if len(letters) > MAX_LETTERS or _POWERS.search(difference):
        return False
    text = difference.replace("^", "**")
    return attempt(lambda: sympy.simplify(arithmetic(text, multiplies_neighbours=True)) == 0)


def _is_same_for_any_circle(answer: str, gold: str) -> bool:
    circles = (math.pi, 3.14) if r"\pi" in answer or r"\pi" in gold else (math.pi,)
    try:
        return any([_is_same_value(answer, gold, circle, MAX_DEPTH) for circle in circles])
    except _Index:
        return False


class _Index(ValueError):
    """An index that is no base: nothing is compared."""


def _is_same_value(answer: str, gold: str, circle: float, depth: int) -> bool:
    answer, gold = _number_or_text(answer, circle)[:MAX_CHARS], _number_or_text(gold, circle)
    if answer.strip().lower() == gold.strip().lower() or answer.replace(" ", "") == gold.replace(" ", ""):
        return True
    first, second = _number(answer), _number(gold)
    if first is not None and second is not None:
        return are_near_as_percent(first, second)
    answer, gold = answer.strip(), gold.strip()
    if not answer or depth == 0:
        return False
    if _is_same_without_brackets(answer, gold):
        return True
    pairs = _tuple_pairs(answer, gold)
    if pairs is not None and all(_is_same_value(*pair, math.pi, depth - 1) for pair in pairs):
        return True
    if "," in answer and "," in gold:
        pairs = _paired(answer, gold)
        if pairs is not None:
            return all(_is_same_value(*pair, math.pi, depth - 1) for pair in pairs)
    return _is_same_formula(answer, gold)


def _number_or_text(text: str, circle: float) -> str:
    """Return an answer without a dollar, a percent sign or a base, and with a number for π."""
    if _DOLLARS.match(text):
        return text[1:]
    if _PERCENT.fullmatch(text):
        return text.rstrip("\\%")
    if "_" in text:
        number = _float(text.partition("_")[0])
        if not math.isfinite(number):
            raise _Index("an index that is no base")
        return str(int(number))
    if r"\pi" not in text:
        return text
    text = re.sub(r"(?<=\d)\\pi", f"*{circle}", text)
    text = text.replace(r"\pi", f"1*{circle}")
    try:
        return str(text if "^" in text else arithmetic(text))
    except ValueError:
        return text


def _number(text: str) -> float | None:
    joined = text.replace("{,}", "") if "{,}" in text else text.replace(",", "")
    try:
        return float(joined)
    except ValueError:
        return None


def _is_same_without_brackets(answer: str, gold: str) -> bool:
    kind = answer[0] + answer[-1]
    if (kind == "[]" and gold[:1] != "(") or (kind == "()" and gold[:1] != "["):
        answer, gold = answer.strip("[]()"), gold.strip("[]()")
    return answer.translate(_BRACES) == gold.translate(_BRACES)


def _tuple_pairs(answer: str, gold: str) -> list[tuple[str, str]] | None:
    """Return the parts of two tuples in the same brackets, place by place."""
    is_tuple = answer[0] in "([" and answer[-1] in ")]"
    has_same_brackets = (answer[0], answer[-1]) == (gold[:1], gold[-1:])
    return _paired(answer[1:-1], gold[1:-1]) if is_tuple and has_same_brackets else None


def _paired(answer: str, gold: str) -> list[tuple[str, str]] | None:
    first, second = answer.split(","), gold.split(",")
    return list(zip(first, second, strict=True)) if len(first) == len(second) else None


def _is_same_formula(answer: str, gold: str) -> bool:
    first, second = _formula(answer), _formula(gold)
    if isinstance(first, str) or isinstance(second, str):  # sympy would run a text as Python
        return False
    return attempt(lambda: math.isclose(sympy.N(first), sympy.N(second), rel_tol=TOLERANCE)) or attempt(
        lambda: sympy.simplify(first - second) == 0
    )


def _formula(text: str) -> Any:
    """Return what the first reader that reads it makes of a text, else the text."""
    for read in (arithmetic, latex.read):
        try:
            return read(text)
        except ValueError:
            continue
    return text
