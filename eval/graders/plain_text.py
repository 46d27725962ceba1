r"""LaTeX as plain text: `\frac{\pi}{2}` is `π/2`, which PRIME's rules then read as arithmetic.

Braces go, so that `\frac{x+1}{2}` is `x+1/2`; a root alone has brackets. Commands that are not listed go, and leave
what their braces hold.

Source: the documentation of pylatexenc 2, `latex2text`.
"""

from __future__ import annotations

import re

_GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
        "omega".split(),
        "αβγδϵζηθικλμνξπρστυϕχψω",
        strict=True,
    )
)
_CAPITALS = {"Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Omega": "Ω"}
_SIGNS = {
    **_GREEK,
    **_CAPITALS,
    **dict.fromkeys(("le", "leq"), "≤"),
    **dict.fromkeys(("ge", "geq"), "≥"),
    **dict.fromkeys(("emptyset", "varnothing"), "∅"),
    **dict.fromkeys(("dots", "ldots", "cdots"), "…"),
    **dict.fromkeys(("to", "rightarrow"), "→"),
    **{"infty": "∞", "cup": "∪", "cap": "∩", "cdot": "·", "times": "×", "div": "÷", "pm": "±", "mp": "∓", "circ": "∘"},
    **{
        "in": "∈",
        "neq": "≠",
        "sum": "∑",
        "langle": "⟨",
        "rangle": "⟩",
        "angle": "∠",
        "lfloor": "⌊",
        "rfloor": "⌋",
        "lceil": "⌈",
        "rceil": "⌉",
    },
    **{"quad": "  ", "qquad": "    ", "approx": "≈", "sim": "∼", "Rightarrow": "⇒", "equiv": "≡", "mid": "∣"},
    **{"hbar": "ħ", "varepsilon": "ε", "varphi": "φ", "vartheta": "ϑ", "ell": "ℓ", "partial": "∂", "setminus": "∖"},
    **{name: name for name in "sin cos tan csc arcsin arccos arctan sinh cosh tanh exp log ln lg max min".split()},
    **{name: name for name in "gcd det dim lim arg deg ker inf sup".split()},
}
_SPACES = {",": " ", ":": "  ", ";": "  ", " ": " ", "!": "", "\\": "\n", "(": "", ")": "", "[": "", "]": ""}
_HIDDEN = ("mbox", "deg")
"""Commands that are dropped with what their braces hold."""
_DOUBLE = str.maketrans("RNZQCP", "ℝℕℤℚℂℙ")
_MATRICES = ("matrix", "pmatrix", "bmatrix", "vmatrix", "array", "smallmatrix")

_COMMAND = re.compile(r"\\([a-zA-Z]+)\s*|\\(.)", re.DOTALL)
_COMMENT = re.compile(r"(?<!\\)%.*(?:\n\s*)?")
_ENVIRONMENT = re.compile(r"\{(\w+)\*?\}")
_NO_BRACKET = re.compile(r"\.")
_SPACE = re.compile(r"\s+")
_OPTION = re.compile(r"\[[^\]]*\]")


def plain_text(text: str) -> str:
    """Return a text without LaTeX, whether its braces match or not."""
    return _Writer(_COMMENT.sub("", text)).until("")


class _Writer:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def until(self, closing: str) -> str:
        r"""Write up to a closing brace, to `\end`, or to the end of the text, and step over it."""
        written: list[str] = []
        while self.place < len(self.text):
            letter = self.text[self.place]
            if closing and self.text.startswith(closing, self.place):
                self.place += len(closing)
                return "".join(written)
            if letter == "\\":
                written.append(self.command())
                continue
            self.place += 1
            if letter == "{":
                written.append(self.until("}"))
            elif letter not in "$}":
                written.append("\N{NO-BREAK SPACE}" if letter == "~" else letter)
        return "".join(written)

    def command(self) -> str:
        match = _COMMAND.match(self.text, self.place)
        if match is None:  # a backslash at the end
            self.place = len(self.text)
            return ""
        self.place = match.end()
        name = match[1]
        if name is None:
            return _SPACES.get(match[2], match[2])
        if name == "frac":
            return f"{self.argument()}/{self.argument()}"
        if name == "sqrt":
            self.skip(_OPTION)
            return f"√({self.argument()})"
        if name == "begin":
            return self.environment()
        if name == "mathbb":
            return self.argument().translate(_DOUBLE)
        if name in _HIDDEN:
            self.argument()
            return ""
        if name in ("left", "right"):
            self.skip(_NO_BRACKET)
        return _SIGNS.get(name, "")

    def argument(self) -> str:
        self.skip(_SPACE)
        if self.place == len(self.text):
            return ""
        if self.text[self.place] == "\\":
            return self.command()
        self.place += 1
        letter = self.text[self.place - 1]
        return self.until("}") if letter == "{" else letter

    def environment(self) -> str:
        name = _ENVIRONMENT.match(self.text, self.place)
        if name is None:
            return ""
        self.place = name.end()
        if name[1] == "array":
            self.argument()
        inside = self.until(f"\\end{name[0]}")
        if name[1] not in _MATRICES:
            return inside
        return "[ " + "; ".join(" ".join(row.replace("&", " ").split()) for row in inside.split("\n")) + " ]"

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.place)
        self.place = match.end() if match else self.place
