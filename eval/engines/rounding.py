"""What makes a row come out alike, bit for bit, whatever it is computed with on a CPU.

Floating-point sums depend on their order. MKL, by which torch multiplies on x86, chooses it by the number of rows and
threads, unless it is told to be strict; and padding, though it adds zeros, moves a row's terms into other blocks of a
sum. So a sample would depend on which others are still missing when it is drawn, and an evaluation that was killed
would not always end as one that was not (tests/eval/test_rounding.py).
"""

from __future__ import annotations

import os
from typing import Final

MKL_MODE: Final = "AUTO,STRICT"
"""Read by MKL at its first product in a process. Without MKL it has no effect."""
os.environ.setdefault("MKL_CBWR", MKL_MODE)

LEAST_WIDTH: Final = 16
"""Positions of the widest vector register: what is narrower is summed otherwise."""


def padded_width(length: int) -> int:
    """Return how many positions a prompt of that many tokens takes: the next power of two, a matter of its own length.

    Not of the longest beside it, and few enough widths that prompts of one benchmark share batches.
    """
    return max(LEAST_WIDTH, 1 << (length - 1).bit_length())
