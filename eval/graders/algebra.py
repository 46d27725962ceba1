r"""Numbers and formulas for the graders that compare by sympy: within a relative tolerance, percent or not.

Called only inside a killable worker. Where those graders run an answer as Python code, it is read here as arithmetic of
sympy's: names of elementary functions, operators, brackets and commas. Attributes, text, indices and any other call are
not read, hence nothing of an answer is run.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import Any

import sympy
from sympy.parsing import sympy_parser

TOLERANCE = 1e-4
"""Relative, between numbers: 3.1416 is π, 0.3333 is not quite 1/3."""

_ARITHMETIC = re.compile(r"[\w\s+\-*/^().,!<>=%|&~\[\]{}]*")
_BUILT = ("Symbol", "Integer", "Float", "Rational", "Function", "factorial", "factorial2")
"""What sympy's own reader puts around names and numbers."""
_ELEMENTARY = (
    "sin cos tan csc sec cot asin acos atan acsc asec acot sinh cosh tanh asinh acosh atanh exp log ln sqrt cbrt root "
    "Abs floor ceiling gamma beta zeta binomial sign re im arg conjugate gcd lcm Max Min Point Matrix Interval Eq "
    "pi E I oo zoo nan S N O Q"
).split()
_NAMES: dict[str, Any] = {
    **{name: getattr(sympy, name) for name in (*_BUILT, *_ELEMENTARY)},
    "abs": abs,
    "max": sympy.Max,
    "min": sympy.Min,
}
_NODES = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.expr_context,
)


def are_near(left: float, right: float) -> bool:
    """Whether two numbers agree within the tolerance."""
    return math.isclose(left, right, rel_tol=TOLERANCE)


def are_near_as_percent(answer: float, gold: float) -> bool:
    """Whether an answer is a gold, a hundredth of it, or a hundred times it: a percent sign may have been lost."""
    return any(are_near(answer, value) for value in (gold, gold / 100, gold * 100))


def arithmetic(text: str, *, multiplies_neighbours: bool = False) -> Any:
    """Return what a text says as Python's arithmetic over sympy.

    Args:
        text: the text; `^` is no power here.
        multiplies_neighbours: `2 x` is 2·x, and a word the product of its letters.

    Raises:
        ValueError: it says nothing in it.
    """
    if not _ARITHMETIC.fullmatch(text):
        raise ValueError("signs that arithmetic has not")
    rules = sympy_parser.standard_transformations
    if multiplies_neighbours:
        rules += (sympy_parser.implicit_multiplication_application,)
    try:
        code = sympy_parser.stringify_expr(text, {}, _NAMES, rules)
        for node in ast.walk(ast.parse(code.strip(), mode="eval")):
            _check(node)
        return sympy_parser.eval_expr(code, {}, dict(_NAMES))
    except Exception as error:  # whatever the text makes Python or sympy raise
        raise ValueError(f"no arithmetic: {error}") from error


def _check(node: ast.AST) -> None:
    is_known_call = not isinstance(node, ast.Call) or isinstance(node.func, ast.Name | ast.Call)
    is_known_name = not isinstance(node, ast.Name) or node.id in _NAMES
    if not (isinstance(node, _NODES) and is_known_call and is_known_name):
        raise ValueError(f"{type(node).__name__} is not read")


def attempt(question: Callable[[], bool]) -> bool:
    """Ask sympy something that it may have no answer to: then no."""
    try:
        return bool(question())
    except Exception:  # sympy raises anything on what it cannot do
        return False


def value(formula: Any) -> float:
    """Return the number that a formula without variables is."""
    return float(sympy.N(formula))
