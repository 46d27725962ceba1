r"""Brings the spelling of an answer to one form, without touching what it says.

Commas in lists, base subscripts and the order of parts stay; spacing, fraction styles, delimiters, currency and degree
signs go. Every rewrite here is one that cannot make two different answers equal.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SPACES = re.compile(r"(?<!\\)\\[!,;:> ]|\\q?quad(?![a-zA-Z])|~|\\(?:thin|med|thick)space|[\u00a0\u2009\u202f]")
_SIZES = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr|displaystyle|textstyle|limits)(?![a-zA-Z])")
_STYLES = re.compile(r"\\(?:dfrac|tfrac|cfrac)(?![a-zA-Z])")
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mbox|hbox|mathrm|mathbf|mathit|operatorname)\s*\{([^{}]*)\}"
)
_DEGREES = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°|\\text\{\s*degrees?\s*\}|(?<=\d)\s*degrees?\b")
_MIXED = re.compile(r"(?<![\d.,/}])(\d+)\s+(\d+)/(\d+)(?![\d.])")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|sec|csc|cot)(?![a-z])")
_DEGREES_OF_NUMBER = re.compile(
    r"(\d+(?:\.\d+)?)\s*(?:\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°|\\text\{\s*degrees?\s*\})"
)
_LARGE = re.compile(r"(?<=\d)\s*(thousand|million|billion|trillion)s?\b")
_POWERS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SEGMENT = re.compile(r"\\overline\s*\{([A-Z]{2,})\}")
_GROUPED = re.compile(r"(?<![\d.])(\d{1,3})((?:[ ]\d{3})+)(?!\d)")
_GROUP_COMMA = re.compile(r"(?<=\d),\\!\s*(?=\d{3}(?!\d))")
_LISTED = re.compile(r"(?<=\d),\s+(?=\d)")
_PERCENT = re.compile(r"\\%|(?<=\d)\s*(?:percent|pct)\b")
_BRACED_ATOM = re.compile(r"([\^_])\{([A-Za-z0-9])\}")
_SQRT_ATOM = re.compile(r"\\sqrt\s*([0-9A-Za-z])")
_AND = re.compile(r",?\s*(?:\band\b|\bor\b)\s*")
_FRAC_ATOMS = re.compile(r"\\frac\s*(\d)\s*(\d)|\\frac\s*(\d)\s*\{|\\frac\s*(\{[^{}]*\})\s*(\d)")
_REPLACEMENTS = (
    ("−", "-"),
    ("–", "-"),
    ("×", r"\times "),
    ("·", r"\cdot "),
    ("π", r"\pi "),
    ("∞", r"\infty "),
    ("∪", r"\cup "),
    ("≤", r"\le "),
    ("≥", r"\ge "),
    ("√", r"\sqrt "),
    ("²", "^2"),
    ("³", "^3"),
    ("\\leqslant", r"\le"),
    ("\\geqslant", r"\ge"),
    ("\\leq", r"\le"),
    ("\\geq", r"\ge"),
    ("\\neq", r"\ne"),
    ("\\lbrace", r"\{"),
    ("\\rbrace", r"\}"),
    ("\\lbrack", "["),
    ("\\rbrack", "]"),
    ("\\colon", ":"),
    ("\\langle", "("),
    ("\\rangle", ")"),
    ("\\emptyset", r"\varnothing"),
    ("+\\infty", r"\infty"),
    ("+ \\infty", r"\infty"),
    ("infinity", r"\infty"),
    ("Infinity", r"\infty"),
)
LIST_COMMA = ",\x00"
"""A comma followed by a space between digits: a list, never thousands. Becomes a plain comma once numbers are read."""


@lru_cache(maxsize=65536)
def clean(answer: str) -> str:
    r"""Return the answer's one spelling: no spaces, no `\left`, `\frac` only, no `$`, no degree sign, no final dot."""
    text = answer.strip().strip("$").strip()
    for old, new in _REPLACEMENTS:
        if old in text:
            text = text.replace(old, new)
    text = _GROUP_COMMA.sub("", text)
    text = text.replace("\\(", "").replace("\\)", "").replace("\\[", "").replace("\\]", "")
    text = _STYLES.sub(r"\\frac", _SIZES.sub("", text)) if "\\" in text else text
    text = _SPACES.sub(" ", text) if "\\" in text or not text.isascii() or "~" in text else text
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    text = _PERCENT.sub("%", text)
    if _TRIGONOMETRIC.search(text):
        # Elsewhere a degree sign is a unit; under a sine it is π/180.
        text = _DEGREES_OF_NUMBER.sub(r"{\\frac{\1\\pi}{180}}", text)
    text = _DEGREES.sub("", text)
    text = text.replace("\\$", "").replace("$", "")
    for _ in range(3):
        if "{" not in text or not _TEXT.search(text):
            break
        text = _TEXT.sub(r" \1 ", text)
    text = _LARGE.sub(lambda match: rf"\times10^{_POWERS[match[1]]}", text)
    text = _SEGMENT.sub(r"\1", text)
    text = _AND.sub(", ", text)
    text = _GROUPED.sub(lambda match: match[1] + match[2].replace(" ", ""), text.strip())
    text = _LISTED.sub(LIST_COMMA, text)
    text = _fractions(_SQRT_ATOM.sub(r"\\sqrt{\1}", text))
    text = _BRACED_ATOM.sub(r"\1\2", text)
    text = "".join(text.split())
    return text.rstrip(".,;") if not text.endswith("..") else text


def _fractions(text: str) -> str:
    if "\\frac" not in text:
        return text

    def brace(match: re.Match[str]) -> str:
        if match[1]:
            return rf"\frac{{{match[1]}}}{{{match[2]}}}"
        if match[3]:
            return rf"\frac{{{match[3]}}}{{"
        return rf"\frac{match[4]}{{{match[5]}}}"

    return _FRAC_ATOMS.sub(brace, text)
