"""What an answer says, as values: formulas, and the shapes that answers give them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Relation = Literal["=", "<", ">", "<=", ">=", "!=", "in", "~", ":"]


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number with how it was written."""

    value: Fraction
    is_decimal: bool = False
    """Written with a decimal point or an exponent, hence possibly rounded."""


@dataclass(frozen=True, slots=True)
class Symbol:
    r"""A variable, with its index and primes: `x_1`, `y'`, `\lambda`; also a derivative, `dx/dt`."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on formulas: `+`, `*`, `/`, `^`, `neg`, `sqrt`, `sin`, `!`, … or a constant without arguments."""

    name: str
    arguments: tuple[Node, ...] = ()


Node = Number | Symbol | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A single value."""

    node: Node
    symbols: frozenset[str]
    names: frozenset[str]
    """Names of all operations in it."""
    has_decimals: bool
    is_loose: bool
    """Read as its writer most likely meant it (`2^10`, `1/2x`): another reading exists, so it never proves a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A formula with the unit behind it."""

    formula: Formula
    unit: str = ""
    """The unit's words and signs as they stand, without spaces; empty where there is none."""
    with_unit_as_symbols: Formula | None = None
    """`5m` may be a length or five times m: the second reading, where there is one."""
    is_percent: bool = False
    alternative: Listing | None = None
    """`1,234` may be a list: that reading."""


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a base, `4343_6`."""

    digits: str
    base: int
    is_negative: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, folded to one case."""

    text: str


@dataclass(frozen=True, slots=True)
class Empty:
    """No solution, the empty set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Several answers side by side, in brackets or not."""

    brackets: Literal["", "{}", "()", "[]", "(]", "[)"]
    items: tuple[Answer, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether the order of the items is part of the answer."""
        return self.brackets not in ("", "{}")


@dataclass(frozen=True, slots=True)
class Union:
    """Sets joined by a union sign, or conditions by `or`."""

    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    r"""Sides joined by relations: `x=5`, `2<x\le 7`, `x\in[1,2]`."""

    sides: tuple[Answer, ...]
    relations: tuple[Relation, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of answers."""

    rows: tuple[tuple[Answer, ...], ...]


Answer = Quantity | Based | Words | Empty | Listing | Union | Chain | Matrix
