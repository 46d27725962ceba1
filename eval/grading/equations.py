"""Named values and equations: which side is the answer, and when two equations say the same."""

from __future__ import annotations

import decimal
from fractions import Fraction

from eval.grading.formula import balls
from eval.grading.formula.nodes import Answer, Chain, Formula, Listing, Node, Number, Quantity, Symbol
from eval.grading.formula.values import Point, has_other_reading, is_identity, proportional, root_of_affine, value_of
from eval.grading.regions import difference
from eval.grading.verdicts import UNDECIDED, Decision


def is_name(answer: Answer) -> bool:
    r"""Whether a side only names what follows: `x`, `f(n)`, `|AB|`, `(p,q)`, `\\frac{NO}{BO}`; not `2x+z`."""
    if isinstance(answer, Listing):
        return bool(answer.items) and all(is_name(item) for item in answer.items)
    if isinstance(answer, Chain):
        return answer.relations == (":",) and all(is_name(side) for side in answer.sides)
    if not isinstance(answer, Quantity):
        return False
    return _is_name((answer.with_unit_as_symbols or answer.formula).node)


def _is_name(node: Node) -> bool:
    if isinstance(node, Symbol):
        return True
    if isinstance(node, Number) or node.name not in ("*", "/", "abs", "e", "i"):
        return False
    return all(_is_name(argument) for argument in node.arguments)


def is_tautology(chain: Chain) -> bool:
    """Whether a chain says the same on all sides, and so nothing: `1=1`."""
    return set(chain.relations) <= {"=", "~"} and all(side == chain.sides[0] for side in chain.sides)


def is_empty_equation(chain: Chain) -> bool:
    """Whether an equation holds at every point."""
    zero = _zero(chain)
    return is_tautology(chain) or (zero is not None and is_identity(zero))


def value_side(chain: Chain) -> Answer | None:
    r"""Return what a chain gives as its answer, or None for a condition or an equation.

    The last side of `x=2+3=5`, the side before the rounding of `x=1/3\approx.33`, what follows `D=`.
    """
    if chain.relations == ("in",):
        return chain.sides[1] if is_name(chain.sides[0]) else None
    if ":" in chain.relations:
        return _after_ratio(chain)
    if any(relation not in ("=", "~") for relation in chain.relations):
        return None
    last = len(chain.sides) - 1
    if (chain.relations[-1] == "~" and last > 1) or (chain.relations == ("~",) and not is_name(chain.sides[0])):
        last -= 1
    names = [is_name(side) for side in chain.sides[:last]]
    is_computation = not any(_symbols(side) for side in chain.sides)
    return chain.sides[last] if any(names) or is_computation else None


def _after_ratio(chain: Chain) -> Answer | None:
    r"""Return the ratio behind `V_1:V_2=`, the value behind `A:B=`."""
    if "=" not in chain.relations:
        return None
    place = chain.relations.index("=")
    if not all(is_name(side) for side in chain.sides[: place + 1]):
        return None
    rest = chain.sides[place + 1 :]
    return rest[0] if len(rest) == 1 else Chain(rest, chain.relations[place + 1 :])


def _symbols(answer: Answer) -> bool:
    return not isinstance(answer, Quantity) or bool((answer.with_unit_as_symbols or answer.formula).symbols)


def same_equation(left: Chain, right: Chain) -> Decision:
    """Compare two equations by what they say is zero.

    Right where one is a constant multiple of the other. Wrong where one says nothing, or where a point that solves one
    does not solve the other.
    """
    first, second = _zero(left), _zero(right)
    if first is None or second is None:
        return _ratios(left, right)
    identities = is_identity(first), is_identity(second)
    if identities[0] != identities[1]:
        return Decision("wrong", "tautology")
    if proportional(first, second):
        return Decision("right", "equation")
    if first.symbols == second.symbols and len(first.symbols) > 0:
        return Decision("wrong", "equation") if _has_lone_solution(first, second) else UNDECIDED
    return UNDECIDED


def _ratios(left: Chain, right: Chain) -> Decision:
    """Compare `1:2` with `2:4`; zeros, as of times of day, have no ratio."""
    if left.relations != right.relations or set(left.relations) != {":"}:
        return UNDECIDED
    pairs = []
    for one, other in zip(left.sides, right.sides, strict=True):
        if not (isinstance(one, Quantity) and isinstance(other, Quantity)):
            return UNDECIDED
        pairs.append((value_of(one.formula), value_of(other.formula)))
    if all(a == b for a, b in pairs):
        return Decision("right", "parts")
    if not all(isinstance(value, Fraction) for pair in pairs for value in pair):
        return UNDECIDED
    if any(value == 0 for pair in pairs for value in pair):
        return Decision("wrong", "time")
    is_same = len({a / b for a, b in pairs}) == 1  # type: ignore[operator]
    return Decision("right" if is_same else "wrong", "ratio")


def _zero(chain: Chain) -> Formula | None:
    """Return left − right of an equation of two sides."""
    if chain.relations != ("=",):
        return None
    left, right = chain.sides
    if not (isinstance(left, Quantity) and isinstance(right, Quantity)):
        return None
    return difference(left.with_unit_as_symbols or left.formula, right.with_unit_as_symbols or right.formula)


def _has_lone_solution(first: Formula, second: Formula) -> bool:
    """Whether a real point solves one equation and is proved not to solve the other."""
    if has_other_reading(first, second):
        return False
    for symbol in sorted(first.symbols):
        for one, other in ((first, second), (second, first)):
            for number in (0, 1, 5):
                solution = root_of_affine(one, symbol, Point(number))
                if solution is None:
                    continue
                value = value_of(other, Point(number, fixed=((symbol, solution),)))
                with decimal.localcontext(balls.CONTEXT):
                    if value is not None and not balls.is_zero(value):
                        return True
    return False
