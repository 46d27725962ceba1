r"""The rules of Qwen2.5-Math's evaluation, restated: what many papers' tables of Minerva and MATH-500 were graded by.

1. The answer is what stands between "final answer is $" and "$. I hope"; without that the last `\boxed`; then what
   follows the last "he answer is", the last "final answer is", the first 答案是; then the last number of the response.
2. Both sides are respelled (`_respelled`): words at the end, units (not on Minerva; single letters such as `m` and `a`
   are units too), degrees, percent and dollar signs go; words for numbers are numbers; `a/b` is a fraction.
3. Right is, of what follows, the first that holds:
   - the same text in any case; for a gold that is a letter from A to E, the last such letter of the answer;
   - two numbers within 1e-4 relative, where one may be a hundredth or a hundred times the other (other numbers are
     wrong here and now; all commas go, so that `1,2` is 12);
   - the same text without braces and round brackets;
   - two texts in round or square brackets, of any kind, or two matrices: part by part;
   - `a = b` against `c = d`, where a − b is plus or minus c − d; `x = b` against a gold without `=`: b, and so turned;
   - two formulas: read by `_formula`, then the same as written, equal, equal when simplified, or numbers within 1e-4.

A formula is read up to where it is one (`eval.graders.latex`): `x,2` and `x,3` are right, and `π` is a variable.

Not restated: answers that are run as Python code beyond arithmetic; rare commands of the third reader, which is
latex2sympy2_extended here; decimals in words ("two point five").

Source: Yang et al. (2024), Qwen2.5-Math technical report (arXiv:2409.12122), section 5, and the README of its
evaluation. Compared with its code: docs/evaluation.md.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import sympy
from latex2sympy2_extended import latex2sympy

from eval.api import Problem
from eval.graders import latex
from eval.graders.algebra import are_near, are_near_as_percent, arithmetic, attempt, value
from eval.graders.pooled import Question
from eval.graders.spelling import last_box, slash_as_fraction, with_braces, with_zero, without_name
from eval.graders.word_numbers import as_digits

KEEPS_UNITS = ("minerva_math",)
"""Benchmarks on which words are not taken for units."""
MAX_DEPTH = 4
"""Tuples inside tuples are compared this far."""

_MINERVA = re.compile(r"final answer is \$(.*?)\$\. I hope", re.DOTALL)
_SAID = ("he answer is", "final answer is")
_LAST_NUMBER = re.compile(r"-?\d*\.?\d+")
_LETTER = re.compile(r"\b([A-E])\b")

_UNIT_WORDS = (
    "acre apple coin cube cubic day decrease deg degree east excess feet ft gain gal gallon hectare hour hr "
    "inch inches increase kg km kmh kmph less liter litre loss lb lt mark man men meter metre mile min minute "
    "minw monkey month more mp mph mt mtr noon number ohm percent per pie prime profit pure ratio rd rise "
    "rounds rs rupee sec second soldier sq square st th tile toy unit way west woman women yard year yr "
    "Surface am are ab bc by cc cm dm gm mm pm a c d g h l m o s t"
).split()
_UNIT_PHRASES = (
    r"m sqaure| m east|sq m|q .|profit of rs|p . m|no change|a . m|sq . m|° f|cu cm|sq inch|cu . m|cm 2|rs .|pi sq m|"
    r"π r 2|[a-hs] ."
)
_UNITS = re.compile(rf"(?<!\w)(?:(?:{_UNIT_PHRASES})s?|(?:{'|'.join(_UNIT_WORDS)})s?)(?!\w)")
_SAME = {
    r"\!": "",
    "bmatrix": "pmatrix",
    "tfrac": "frac",
    "dfrac": "frac",
    r"\neq": r"\ne",
    r"\leq": r"\le",
    r"\geq": r"\ge",
    r"\left": "",
    r"\right": "",
    r"\{": "{",
    r"\}": "}",
}
_WORDS_AT_END = re.compile(r"\\text\{.*?\}$")
_SIGNS = re.compile(r"\^\\circ|\^\{\\circ\}|\\?\$|\\\(|\\\)")
_TEXT = re.compile(r"\\text\{(.*?)\}")
_NAMED = re.compile(r"[xyz](?:=|\\in|\\to)")
_DROPPED = re.compile(r"and|\\mathbf|\\mbox\{.*?\}")
_ZERO_DECIMALS = re.compile(r"(\d+)\.0*(?!\d)")
_SHORT_ROOT = re.compile(r"\\sqrt(\w+)")

_IN_BRACKETS = re.compile(r"[(\[].+[)\]]")
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)
_BRACES = str.maketrans("", "", "{}()")


def prepare(response: str, problem: Problem) -> Question | None:
    """Find and respell the answer as these rules do."""
    if problem.kind == "choice":
        letters = _LETTER.findall(last_box(response) or response.rstrip(" .:/"))
        return Question(answer=letters[-1], gold=problem.answer, found=letters[-1]) if letters else None
    found = _found(response)
    if not found:
        return None
    keeps_units = problem.id.startswith(KEEPS_UNITS)
    answer = re.sub(r"\n\s*", "", found).removeprefix(":").removesuffix(".").removesuffix("/")
    for _ in range(2):  # once where it is found and once where it is scored, which is not always the same
        answer = _respelled(answer, keeps_units=keeps_units)
    return Question(answer=answer, gold=_respelled(problem.answer, keeps_units=keeps_units), found=found)


def _found(response: str) -> str:
    minerva = _MINERVA.search(response)
    if minerva:
        return minerva[1].strip()
    box = last_box(response)
    if box is not None:
        return box
    for words in _SAID:
        if words in response:
            return response.rpartition(words)[2].strip()
    if "答案是" in response:
        return response.split("答案是")[1].strip().partition("\n\n")[0].strip()
    numbers = _LAST_NUMBER.findall(response.replace(",", ""))
    return numbers[-1] if numbers else ""


def _respelled(text: str, *, keeps_units: bool) -> str:
    """Rewrite an answer into the one spelling that is compared; each rule is a rewrite, so their order matters."""
    text = text.strip().replace("\n", "").rstrip(".")
    text = re.sub(r"\\begin\{array\}\{.*?\}", r"\\begin{pmatrix}", text).replace(r"\end{array}", r"\end{pmatrix}")
    for one, other in _SAME.items():
        text = text.replace(one, other)
    text = _WORDS_AT_END.sub("", text).strip() or text
    if not keeps_units:
        text = _without_units(text)
    text = _TEXT.sub(r"\1", as_digits(_SIGNS.sub("", text)))
    text = _NAMED.sub("", text).replace(r"\emptyset", "{}").replace(r"(-\infty,\infty)", r"\mathbb{R}")
    text = text.replace(r"\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    text = text.replace("infinity", r"\infty")
    text = _DROPPED.sub("", text if r"\infty" in text else text.replace("inf", r"\infty"))
    text = text if "i" in text else text.replace("j", "i")
    text = without_name(with_zero(_ZERO_DECIMALS.sub(r"\1", text)))
    text = with_braces(_SHORT_ROOT.sub(r"\\sqrt{\1}", text).replace(" ", ""))
    return slash_as_fraction(text, allows_roots=True)


def _without_units(text: str) -> str:
    """Take units off, but where nothing else is left."""
    for _ in range(2):
        text = _UNITS.sub("", text) or text
    return text


def judge(answer: str, gold: str) -> Literal["right", "wrong"]:
    """Compare two respelled answers."""
    return "right" if _is_equal(answer, gold, MAX_DEPTH) else "wrong"


def _is_equal(answer: str, gold: str, depth: int) -> bool:
    if answer.strip().lower() == gold.strip().lower():
        return True
    if _LETTER.fullmatch(gold) and _LETTER.findall(answer.upper())[-1:] == [gold]:
        return True
    first, second = _number(answer), _number(gold)
    if first is not None and second is not None:
        return are_near_as_percent(first, second)
    answer, gold = answer.strip(), gold.strip()
    if not answer or depth == 0 or ("pmatrix" in answer and "pmatrix" not in gold):
        return False
    if _without_brackets(answer, gold):
        return True
    for pairs in (_tuple_pairs(answer, gold), _matrix_pairs(answer, gold)):
        if pairs is not None and all(_is_equal(one, other, depth - 1) for one, other in pairs):
            return True
    return _same_equation(answer, gold, depth) or _same_formula(answer, gold)


def _number(text: str) -> float | None:
    """Return a written number, thousands and percent allowed; None for anything else."""
    plain = text.replace(",", "")
    percent = plain.removesuffix("%").removesuffix("\\") if plain.endswith("%") else plain
    try:
        return float(percent) / (100 if plain.endswith("%") else 1)
    except ValueError:
        return None


def _without_brackets(answer: str, gold: str) -> bool:
    """Whether two texts are one without brackets; square ones count unless they hold the answer, and not the gold."""
    kind = answer[0] + answer[-1]
    if (kind == "[]" and gold[:1] != "(") or (kind == "()" and gold[:1] != "["):
        answer, gold = answer.strip("[]()"), gold.strip("[]()")
    return answer.translate(_BRACES).lower() == gold.translate(_BRACES).lower()


def _tuple_pairs(answer: str, gold: str) -> list[tuple[str, str]] | None:
    """Return the parts of two tuples of one length, place by place; what stands behind a bracket counts as in it."""
    if not (_IN_BRACKETS.match(answer) and _IN_BRACKETS.match(gold)):
        return None
    return _paired(answer[1:-1].split(","), gold[1:-1].split(","))


def _matrix_pairs(answer: str, gold: str) -> list[tuple[str, str]] | None:
    """Return the entries of two matrices of one shape, place by place."""
    matrices = _MATRIX.fullmatch(answer), _MATRIX.fullmatch(gold)
    if not (matrices[0] and matrices[1]):
        return None
    first, second = ([row for row in re.split(r"\\\\", match[1]) if row.strip()] for match in matrices if match)
    if [row.count("&") for row in first] != [row.count("&") for row in second]:
        return None
    return _paired("&".join(first).split("&"), "&".join(second).split("&"))


def _paired(first: list[str], second: list[str]) -> list[tuple[str, str]] | None:
    return list(zip(first, second, strict=True)) if len(first) == len(second) else None


def _same_equation(answer: str, gold: str, depth: int) -> bool:
    sides, gold_sides = answer.split("="), gold.split("=")
    if len(sides) == len(gold_sides) == 2:
        difference, gold_difference = (f"{one.strip()} - ({other.strip()})" for one, other in (sides, gold_sides))
        return _same_formula(difference, gold_difference) or _same_formula(f"-({difference})", gold_difference)
    if len(sides) == 2 and len(gold_sides) == 1 and len(sides[0].strip()) <= 2:
        return _is_equal(sides[1], gold, depth - 1)
    if len(gold_sides) == 2 and len(sides) == 1 and len(gold_sides[0].strip()) <= 2:
        return _is_equal(answer, gold_sides[1], depth - 1)
    return False


def _same_formula(answer: str, gold: str) -> bool:
    first, second = _formula(answer), _formula(gold)
    if isinstance(first, str) or isinstance(second, str):  # sympy would run a text as Python
        return str(first) == str(second)
    return any(
        attempt(rule)
        for rule in (
            lambda: str(first) == str(second) or first == second,
            lambda: first.equals(second),
            lambda: sympy.simplify(first - second) == 0,
            lambda: abs(first.lhs - first.rhs).equals(abs(second.lhs - second.rhs)),
            lambda: are_near(value(first), value(second)),
            lambda: _rounded(first).equals(_rounded(second)),
        )
    )


def _rounded(matrix: Any) -> Any:
    return matrix.applyfunc(lambda entry: round(entry, 3))


def _formula(text: str) -> Any:
    """Return what the first reader that reads it makes of a text, else the text."""
    for read in (latex.read, arithmetic, _other_formula):
        for written in (text.replace("\\\\", "\\"), text):
            try:
                return read(written)
            except Exception:  # latex2sympy raises bare exceptions of its own on whatever it does not read
                continue
    return text


def _other_formula(text: str) -> Any:
    """Return a formula or a matrix; the sets, tuples and intervals of this version are none to theirs."""
    formula = latex2sympy(text)
    if not isinstance(formula, sympy.Expr | sympy.MatrixBase | sympy.Rel):
        raise ValueError("a set or a tuple")
    return formula
