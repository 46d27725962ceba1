r"""The fast path: decides most answers by exact comparison, in microseconds, or says that it cannot.

Never evaluates anything an answer says. `None` means undecided, never wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from eval.api import Problem
from eval.grading.clean import LIST_COMMA, clean
from eval.grading.formula import is_prose, parse_formula, same_formula
from eval.grading.interval import as_interval
from eval.grading.number import parse_number, same_number
from eval.grading.parts import Parts, split_parts
from eval.grading.units import are_different, split_unit

MAX_ANSWER_CHARS = 1_000
"""An answer longer than this is compared as a string and no further."""


_ASSIGNMENT = re.compile(
    r"(?:\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?'?(?:\([a-z](?:,[a-z])*\))?|\([A-Za-z](?:,[A-Za-z])+\))"
    r"(?:=(?=[^=])|\\in(?![a-z]))"
)
_BASED = re.compile(r"(\d+)_(?:(\d)|\{(\d+)\})")
_WORDS = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
_CHOICE = re.compile(r"\(?([A-Ja-j])\)?")
_CHOICE_AND_TEXT = re.compile(r"\(?([A-J])[).:]+.*", re.DOTALL)
_LABEL = re.compile(r"\([A-E]\)(?=[-\d])")
_TIME = re.compile(r"(\d{1,2}):(00)")
_PURE_TEXT = re.compile(r"\s*\\(?:text|textbf|textrm|textit|mbox|mathrm)\s*\{\s*([A-Za-z][A-Za-z .'-]+?)\s*\}\s*")
# Equal signs stand outside braces: \\sum_{k=1}^{3} k is no equation.
_EQUATION = re.compile(r"(?!.*\\approx)(?!.*\{[^{}]*=)[^=]+(?:=[^=]+)+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[A-Za-z]")
_ROUNDING = ("floor", "ceil", "mod", "lvert", "|", "\\pm")
_INFINITIES = frozenset((r"\infty", r"+\infty", r"-\infty"))


@dataclass(frozen=True, slots=True)
class Decision:
    """Verdict of the fast path and which rule gave it."""

    is_correct: bool | None
    method: str


UNDECIDED = Decision(None, "undecided")


def decide(answer: str, problem: Problem) -> Decision:
    """Compare a bare answer with a problem's gold under its declared kind.

    Args:
        answer: the inside of the box.
        problem: the gold answer, its kind, tolerance and options.
    """
    if problem.kind == "choice":
        return Decision(_choice(answer, problem), "choice")
    if len(answer) > MAX_ANSWER_CHARS or len(problem.answer) > MAX_ANSWER_CHARS:
        return Decision(answer.strip() == problem.answer.strip(), "too_long")
    if problem.tolerance is not None:
        decision = _within_tolerance(answer, problem.answer, problem.tolerance)
        if decision is not None:
            return decision
    if problem.kind == "integer":
        return _integer(answer, problem.answer)
    return compare(answer, problem.answer)


def compare(answer: str, gold: str) -> Decision:
    """Compare two answers of kind integer, numeric or expression."""
    left, right = clean(answer), clean(gold)
    if left == right:
        return Decision(True, "exact") if left else Decision(False, "empty")
    text = _PURE_TEXT.fullmatch(gold)
    if text is not None and _WORDS.fullmatch(right):
        return _text(left, right)
    decision = _compare_cleaned(left, right)
    if decision.is_correct is not None:
        return decision
    answer_value, answer_unit = split_unit(answer)
    gold_value, gold_unit = split_unit(gold)
    if are_different(answer_unit, gold_unit):
        return Decision(False, "unit")
    if answer_unit or gold_unit:
        unitless = _compare_cleaned(clean(answer_value), clean(gold_value))
        if unitless.is_correct is not None:
            return Decision(unitless.is_correct, f"{unitless.method}_unit")
    return _shape(left, right)


def _compare_cleaned(left: str, right: str) -> Decision:
    if left == right:
        return Decision(True, "exact")
    left, right = _strip_one_assignment(left, right)
    if left == right:
        return Decision(True, "exact")
    number = _numbers(left, right)
    if number is not None:
        return number
    based_left, based_right = _BASED.fullmatch(left), _BASED.fullmatch(right)
    if based_left and based_right:
        same = based_left[1].lstrip("0") == based_right[1].lstrip("0")
        return Decision(same and (based_left[2] or based_left[3]) == (based_right[2] or based_right[3]), "base")
    if based_left or based_right:
        plain = parse_number(right if based_left else left)
        based = based_left or based_right
        if plain is not None and based is not None and not _may_be(plain.value, based):
            return Decision(False, "base")
    if _TIME.fullmatch(left) and _TIME.fullmatch(right):
        return Decision(False, "time")
    words = _words(left, right)
    if words is not None:
        return words
    left_parts, right_parts = split_parts(left), split_parts(right)
    left_interval, right_interval = as_interval(left), as_interval(right)
    if (left_interval or right_interval) and (left_interval or left_parts) and (right_interval or right_parts):
        return _intervals(left_interval or left, right_interval or right)
    if left_parts and right_parts:
        return _compare_parts(left_parts, right_parts)
    return _formulas(left, right, left_parts or right_parts)


def _may_be(value: Fraction, based: re.Match[str]) -> bool:
    """Whether a number without a base is one with a base: the same value, or the same digits with the base left out."""
    digits, base = based[1], int(based[2] or based[3])
    if value == Fraction(digits):
        return True
    is_written_in_it = 2 <= base <= 36 and all(int(digit) < base for digit in digits)
    return is_written_in_it and value == int(digits, base)


def _numbers(left: str, right: str) -> Decision | None:
    left_number, right_number = parse_number(left), parse_number(right)
    if left_number is not None and right_number is not None:
        return Decision(same_number(left_number, right_number), "fraction")
    # A decimal comma is read only where the other side is a number with a point: 1,22 alone is a list of two.
    for text, other, number in ((left, right, right_number), (right, left, left_number)):
        if number is not None and "." in other and re.fullmatch(r"-?\d+,\d+", text):
            read = parse_number(text.replace(",", "."))
            if read is not None and same_number(read, number):
                return Decision(True, "fraction")
    return None


def _intervals(left: str, right: str) -> Decision:
    """Compare where at least one side is an inequality; another reading of the other side stays open."""
    decision = _compare_cleaned(left, right)
    return decision if decision.is_correct else UNDECIDED


def _formulas(left: str, right: str, parts: Parts | None) -> Decision:
    """Compare by value; several values on one side and one formula on the other are different answers."""
    left_formula, right_formula = parse_formula(left), parse_formula(right)
    if left in _INFINITIES or right in _INFINITIES:
        is_known = (left_formula is not None or left in _INFINITIES) and (right_formula or right in _INFINITIES)
        return Decision(False, "infinity") if is_known else UNDECIDED
    if parts is not None:
        is_one_formula = (left_formula or right_formula) is not None and not is_prose("|".join(parts.items))
        return Decision(False, "parts") if is_one_formula and len(set(parts.items)) > 1 else UNDECIDED
    if left_formula is None or right_formula is None:
        return UNDECIDED
    return Decision(same_formula(left_formula, right_formula), "formula")


def _shape(left: str, right: str) -> Decision:
    """Refuse pairs whose shape alone tells them apart, where nothing can be evaluated.

    Either the same text but for one number, or an equation against a constant that is neither of its ends.
    """
    if _differ_in_one_number(left, right):
        return Decision(False, "one_number")
    for equation, constant in ((left, right), (right, left)):
        if _EQUATION.fullmatch(equation) and _is_constant(constant):
            ends = (equation.split("=")[0], equation.rsplit("=", 1)[1])
            if all(end and _compare_cleaned(end, constant).is_correct is False for end in ends if _is_constant(end)):
                return Decision(False, "equation")
    return UNDECIDED


def _differ_in_one_number(left: str, right: str) -> bool:
    r"""Whether two texts with variables are alike but for one number, which is no name (`C_1`) and not rounded away."""
    if not _VARIABLE.search(left) or any(word in left for word in _ROUNDING):
        return False
    if _NUMBER.sub("#", left) != _NUMBER.sub("#", right):
        return False
    numbers = zip(_NUMBER.finditer(left), _NUMBER.finditer(right), strict=True)
    differing = [(a, b) for a, b in numbers if Fraction(a[0]) != Fraction(b[0])]
    if len(differing) != 1:
        return False
    place = differing[0][0].start()
    # A power of 0 or 1, or a factor of 0, hides the number that differs.
    return not left[:place].endswith(("_", "_{")) and not re.search(r"(?<![\d.])[01](?:\^|\\cdot|\*)", left + right)


def _words(left: str, right: str) -> Decision | None:
    left_choice, right_choice = _CHOICE.fullmatch(left), _CHOICE.fullmatch(right)
    if left_choice and right_choice and ("(" in left or "(" in right):
        return Decision(left_choice[1].upper() == right_choice[1].upper(), "choice")
    if _WORDS.fullmatch(left) and _WORDS.fullmatch(right) and len(left) > 3 and len(right) > 3:
        same = left.casefold() == right.casefold()
        # Different long words may still be products of variables; only equality is certain here.
        return Decision(True, "text") if same else None
    return None


def _text(left: str, right: str) -> Decision:
    r"""Compare with a gold that the data set marks as words, `\text{even}`: letters are no variables there."""
    if left.casefold() == right.casefold():
        return Decision(True, "text")
    is_other = left.isalpha() or not any(character.isalpha() for character in left)
    return Decision(False, "text") if is_other else UNDECIDED


def _strip_one_assignment(left: str, right: str) -> tuple[str, str]:
    left_match, right_match = _ASSIGNMENT.match(left), _ASSIGNMENT.match(right)
    if left_match and not right_match and "=" not in right:
        return left[left_match.end() :], right
    if right_match and not left_match and "=" not in left:
        return left, right[right_match.end() :]
    if left_match and right_match and left_match[0] == right_match[0]:
        return left[left_match.end() :], right[right_match.end() :]
    return left, right


def _compare_parts(left: Parts, right: Parts) -> Decision:
    if left.is_ordered and right.is_ordered:
        if left.brackets != right.brackets or len(left.items) != len(right.items):
            return _when_plain(left, right, Decision(False, "parts"))
        verdicts = [_compare_cleaned(a, b).is_correct for a, b in zip(left.items, right.items, strict=True)]
        if False in verdicts:
            return Decision(False, "parts")
        return UNDECIDED if None in verdicts else Decision(True, "parts")
    if left.is_ordered or right.is_ordered:
        return UNDECIDED
    return _compare_unordered(left.items, right.items)


def _when_plain(left: Parts, right: Parts, decision: Decision) -> Decision:
    """Give the decision only where every item is a constant: others may be equal in ways this path cannot see."""
    return decision if all(_is_constant(item) for item in (*left.items, *right.items)) else UNDECIDED


def _is_constant(item: str) -> bool:
    formula = parse_formula(item)
    return item in _INFINITIES or (formula is not None and not formula.variables)


def _compare_unordered(left: tuple[str, ...], right: tuple[str, ...]) -> Decision:
    """Compare as sets: each item has an equal on the other side; repetition counts for nothing."""
    table = [[_compare_cleaned(a, b).is_correct for b in right] for a in left]
    rows = [*table, *([row[column] for row in table] for column in range(len(right)))]
    if any(all(verdict is False for verdict in row) for row in rows):
        # p=5,q=2 may be another way to write (5,2).
        is_named = any("=" in item for item in left) != any("=" in item for item in right)
        return UNDECIDED if is_named else Decision(False, "parts")
    return Decision(True, "parts") if all(True in row for row in rows) else UNDECIDED


def _within_tolerance(answer: str, gold: str, tolerance: float) -> Decision | None:
    value = parse_number(clean(split_unit(answer)[0]).rstrip("%"))
    target = parse_number(clean(split_unit(gold)[0]).rstrip("%"))
    if value is None or target is None:
        return None
    return Decision(abs(value.value - target.value) <= Fraction(str(tolerance)), "tolerance")


def _integer(answer: str, gold: str) -> Decision:
    """Accept a written number only: `12+3` is the question again, not its answer."""
    decision = compare(answer, gold)
    if decision.is_correct is not None and decision.method != "formula":
        return decision
    last = clean(answer).rsplit("=", 1)[-1]
    label = _LABEL.match(last)
    number = _numbers(last[label.end() :] if label else last, clean(gold))
    return number or Decision(False, "not_a_number")


def _choice(answer: str, problem: Problem) -> bool:
    text = clean(answer.replace(LIST_COMMA, ","))
    match = _CHOICE.fullmatch(text) or _CHOICE_AND_TEXT.fullmatch(text)
    if match:
        return match[1].upper() == problem.answer
    same = [index for index, option in enumerate(problem.choices) if clean(option).casefold() == text.casefold()]
    return len(same) == 1 and "ABCDEFGHIJ"[same[0]] == problem.answer
