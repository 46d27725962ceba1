r"""Reads an answer into tokens, once: words, numbers, commands, scripts and brackets, whatever spells them.

All that depends on spelling alone is settled here, in one pass over the text: `\,` `~` `\;` are spaces, `\dfrac` is
`\frac`, `（` is `(`, `\text{ cm}` is the word cm, `10³³` is `10^{33}`. What a token means (a unit, a label, a variable)
is for the reader (`eval.grading.reading`) to say, which sees all of them. So no rewrite can spoil the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["number", "word", "command", "sign", "row"]
Style = Literal["math", "roman", "text"]

GROUPING = "{,}"
"""The sign between groups of three digits where the spelling says so: `1{,}000`, `1,\\!000`."""
MAX_NESTING = 8
"""Text inside text inside text: deeper is not read."""


class Token(NamedTuple):
    """One unit of an answer."""

    kind: Kind
    text: str
    is_spaced: bool = False
    """A space, of any kind, stands before it."""
    style: Style = "math"
    r"""`text` inside `\text{…}`, `roman` inside `\mathrm{…}`: letters there are words, not variables."""


class Unreadable(Exception):
    """There is no certain reading."""


_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta",
    "Λ": "Lambda", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega", "ℏ": "hbar",
}  # fmt: skip
_MEANINGS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ",
    "÷": "\\div ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "≤": "\\le ", "⩽": "\\le ", "≦": "\\le ",
    "≥": "\\ge ", "⩾": "\\ge ", "≧": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "±": "\\pm ", "∓": "\\mp ",
    "√": "\\surd ", "∛": "\\sqrt[3]", "°": "^\\circ ", "º": "^\\circ ", "℃": "^\\circ C", "℉": "^\\circ F",
    "∈": "\\in ", "∅": "\\emptyset ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "∠": "\\angle ", "′": "'", "’": "'",
    "‘": "'", "″": "''", "“": '"', "”": '"', "。": ".", "、": ",", "⟨": "(", "⟩": ")", "〈": "(", "〉": ")",
    "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3",
    "¼": " 1/4", "¾": " 3/4", "\u3000": " ", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2002": " ",
    "\u2003": " ", "\u200b": "", "\ufeff": "", "\u2061": "", "\u2062": "", "：": ":", "∖": "\\setminus ",
    "∨": "\\lor ", "∧": "\\land ", "⁄": "/", "∕": "/", "￥": "¥", "∗": "*",
    "\u00c5": "\\AA ", "\u212b": "\\AA ", "✓": "", "✔": "", "✅": "",
}  # fmt: skip
_CHARACTERS = str.maketrans(
    {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}
    | {letter: f"\\{name} " for letter, name in _GREEK.items()}
    | _MEANINGS
)
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n", strict=True))
_SUPERSCRIPT = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_SUBSCRIPT = re.compile(f"[{''.join(_SUBSCRIPTS)}]+")

_TEXT = frozenset("text textbf textit textrm texttt textsf textnormal textup mbox hbox emph".split())
_ROMAN = frozenset("mathrm operatorname mathsf mathit rm operatorname* mathtt".split())
_STYLES = frozenset(
    "mathbf boldsymbol bm pmb mathbin mathord mathop vec displaystyle textstyle scriptstyle limits nolimits left right "
    "big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm middle phantom mathstrut strut bf it tt sf "
    "normalsize large Large huge small underline boxed fbox ensuremath hline".split()
)
_SPACES = frozenset("quad qquad thinspace medspace thickspace enspace space nobreak hfill newline , ; : ! >".split())
_RENAMED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leqslant": "le", "geqslant": "ge", "leq": "le", "geq": "ge",
    "leqq": "le", "geqq": "ge", "neq": "ne", "lt": "<", "gt": ">", "lbrace": "{", "rbrace": "}", "lvert": "|",
    "rvert": "|", "vert": "|", "mid": "|", "colon": ":", "langle": "(", "rangle": ")", "lbrack": "[", "rbrack": "]",
    "varnothing": "emptyset", "dbinom": "binom", "tbinom": "binom", "to": "rightarrow", "bigcup": "cup",
    "degree": "circ", "lor": "vee", "land": "wedge", "backslash": "setminus", "smallsetminus": "setminus",
    "ast": "*", "slash": "/", "exponential": "exp", "lparen": "(", "rparen": ")", "varepsilon": "epsilon",
    "varphi": "phi", "vartheta": "theta", "infinity": "infty",
}  # fmt: skip
_BLACKBOARD = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}
_CJK = "\u3400-\u9fff"
_PIECE = re.compile(
    r"(?P<group>\s{0,3},\s{0,3}(?:\\,\s{0,3})?\\!\s*(?=\d{3}(?!\d))|\{,\}(?=\d{3}(?!\d)))"
    r"|(?P<space>\s+|~|\\ )"
    r"|(?P<row>\\\\(?!(?:[dtc]?frac|sqrt|pi|text|left|right|infty|cdot|times|mathbb|mathrm|angle)(?![a-z]))(?:\[[^\]\[]{0,9}\])?)"
    r"|\\?(?P<command>\\(?:operatorname\*|[A-Za-z]+|[^A-Za-z\s]))"
    r"|(?P<number>(?:\d+\.(?=/)|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?![\d.]*[A-Za-z]))?)"
    rf"|(?P<word>[A-Za-z]+|[{_CJK}]+)"
    r"|(?P<fence>[$`\"]+|\*\*(?=\*))"
    r"|(?P<sign>\*\*|<=|>=|!=|==|.)",
    re.DOTALL,
)
_EQUALS = re.compile(r"\s*=")
_DIMENSION = re.compile(r"\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm|in|mu)\s*")


@lru_cache(maxsize=65536)
def tokenise(text: str) -> tuple[Token, ...]:
    r"""Return the tokens of an answer; fences (`$`, backticks, `\(`) and styles leave no trace.

    Raises:
        Unreadable: text nested too deeply, or a group of text that does not close.
    """
    return tuple(_tokens(_plain_characters(text), "math", 0))


def _plain_characters(text: str) -> str:
    if text.isascii():
        return text
    text = _SUPERSCRIPT.sub(lambda match: f"^{{{''.join(_SUPERSCRIPTS[letter] for letter in match[0])}}}", text)
    text = _SUBSCRIPT.sub(lambda match: f"_{{{''.join(_SUBSCRIPTS[letter] for letter in match[0])}}}", text)
    return text.translate(_CHARACTERS)


def _tokens(text: str, style: Style, depth: int) -> Iterator[Token]:
    if depth > MAX_NESTING:
        raise Unreadable
    place, is_spaced, length = 0, False, len(text)
    while place < length:
        match = _PIECE.match(text, place)
        assert match is not None, "the last alternative takes any character"
        place = match.end()
        kind, piece = match.lastgroup, match[0]
        if kind in ("number", "word", "sign"):
            yield Token(kind, piece, is_spaced, style)  # type: ignore[arg-type]
            is_spaced = False
            continue
        if kind in ("space", "fence"):
            is_spaced = True
            continue
        if kind == "group":
            yield Token("sign", GROUPING, is_spaced, style)
            continue
        if kind == "command":
            name = match["command"][1:]
            if name in _SPACES or name in ("(", ")", "[", "]"):
                is_spaced = is_spaced or name != "!"
                continue
            if name in _STYLES:
                if name in ("left", "right") and text[place : place + 1] == ".":
                    place += 1
                continue
            inner = _style_of(name)
            if inner is not None:
                content, place = _group(text, place)
                nested = list(_tokens(content, inner, depth + 1))
                is_gap = content[:1] in (" ", "~")
                yield from _spaced(nested, is_first_spaced=is_spaced or is_gap)
                is_spaced = content[-1:] in (" ", "~")
                continue
            if name == "not" and (sign := _EQUALS.match(text, place)):
                name, place = "ne", sign.end()
            elif name == "mathbb":
                content, place = _group(text, place)
                name = _BLACKBOARD.get(content.strip(), content.strip())
            elif name in ("mathcal", "mathscr", "mathfrak"):
                content, place = _group(text, place)
                yield Token("word", content.strip()[:1] or "?", is_spaced)
                continue
            elif name in ("mathring", "AA"):
                place = _group(text, place)[1] if name == "mathring" else place
                yield Token("word", "angstrom", is_spaced, "roman")
                is_spaced = False
                continue
            elif name in ("hspace", "vspace", "label", "tag", "color", "textcolor"):
                _, place = _group(text, place)
                is_spaced = True
                continue
            yield _command(_RENAMED.get(name, name), is_spaced, style)
        else:
            yield Token("row", "\\\\", is_spaced, style)
        is_spaced = False


def _style_of(name: str) -> Style | None:
    return "text" if name in _TEXT else "roman" if name in _ROMAN else None


def _command(name: str, is_spaced: bool, style: Style) -> Token:
    if name in ("{", "}"):
        return Token("sign", f"\\{name}", is_spaced, style)
    if len(name) == 1 and not name.isalpha():
        return Token("sign", f"\\{name}" if name in "$" else name, is_spaced, style)
    return Token("command", name, is_spaced, style)


def _spaced(tokens: list[Token], *, is_first_spaced: bool) -> Iterator[Token]:
    for index, token in enumerate(tokens):
        yield token._replace(is_spaced=True) if index == 0 and is_first_spaced else token


def _group(text: str, place: int) -> tuple[str, int]:
    """Return what the braces at `place` hold, or the one character that stands there, and the place behind."""
    while place < len(text) and text[place] in " ~":
        place += 1
    if text[place : place + 1] != "{":
        return text[place : place + 1], place + 1
    depth = 0
    for index in range(place, len(text)):
        if text[index] in "{}" and text[index - 1] != "\\":
            depth += 1 if text[index] == "{" else -1
            if depth == 0:
                return text[place + 1 : index], index + 1
    raise Unreadable
