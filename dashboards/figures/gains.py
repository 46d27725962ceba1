"""What a figure of gains draws: a method less the one that its paper compares it with, at the same ratio.

Which method that is stands in its row of `trainers/methods.py`, so that the panel of our numbers and the panel of the
printed ones pair the same arms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainers.methods import METHODS


@dataclass(frozen=True, slots=True)
class Gain:
    """One series of a figure: the same two methods under one algorithm, at one ratio."""

    method: str
    baseline: str
    algorithm: str
    ratio: float

    @property
    def pair(self) -> str:
        """`GMTS − ETS`."""
        return f"{self.method.upper()} − {self.baseline.upper()}"


def is_gain(method: str | None, baseline: str | None) -> bool:
    """Whether the paper of the first method measures its gain over the second."""
    return method is not None and baseline is not None and METHODS[method].compared_with == baseline


def pairs_said(gains: Iterable[Gain]) -> str:
    """Return every pair of methods once, for a title or an axis."""
    return ", ".join(dict.fromkeys(gain.pair for gain in gains))


def series_names(gains: Iterable[Gain]) -> list[str]:
    """Return the name of each series: algorithm and ratio, and the methods where there are several pairs."""
    known = list(gains)
    is_one_pair = len({gain.pair for gain in known}) == 1
    return [f"{gain.algorithm} · {gain.ratio:g}" + ("" if is_one_pair else f" · {gain.pair}") for gain in known]
