r"""Two-digit additions with worked carries: a task that a model of a million parameters learns within minutes.

Generated, not downloaded: `arithmetic` is the held-out split, `arithmetic_train` the training split. A sum and its
mirror image (47+85 and 85+47) always lie in the same split, so no test question is a training question read backwards.

    question   47+85=?
    solution   7+5=12\n4+8+1=13\n\boxed{132}
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Literal

from eval.api import Problem

Split = Literal["train", "test"]

GENERATOR_VERSION = 1
"""Raise it when the problems change; `DIGESTS` follow (a test recomputes them)."""
COUNTS: dict[Split, int] = {"train": 7900, "test": 100}
DIGESTS: dict[Split, str] = {
    "train": "d1b3fb8d41029cd9d3a581b5e67bf682eed6211cc5a6d960622fdfd413ef624c",
    "test": "8fd6ecb2a54e312c6d8df1f382d0f85567239692a4cac40938df23ac6e7dbbf5",
}
"""sha256 of the normalised rows of each split, as `eval.benchmarks.declaration.digest_of_problems` defines it."""

_OPERANDS = range(10, 100)


@cache
def problems(split: Split) -> tuple[Problem, ...]:
    """Return a split in an order that is shuffled once and for all, the same on every machine."""
    unordered = [(first, second) for first in _OPERANDS for second in _OPERANDS if first <= second]
    unordered.sort(key=lambda pair: _shuffle_key(*pair))
    if split == "test":
        chosen = unordered[: COUNTS["test"]]
        # One reading of each test pair, its order a coin flip.
        pairs = [pair if _shuffle_key(*pair)[-1] % 2 else pair[::-1] for pair in chosen]
    else:
        left = unordered[COUNTS["test"] :]
        both = {pair for unordered_pair in left for pair in (unordered_pair, unordered_pair[::-1])}
        pairs = sorted(both, key=lambda pair: _shuffle_key(*pair, purpose="order"))[: COUNTS["train"]]
    name = "arithmetic" if split == "test" else "arithmetic_train"
    return tuple(_problem(f"{name}-{index:04d}", *pair) for index, pair in enumerate(pairs))


def worked_solution(problem: Problem) -> str:
    r"""Return the worked addition of a problem of this file, ending in `\boxed{…}`."""
    first, second = (int(term) for term in problem.question.removesuffix("=?").split("+"))
    ones = first % 10 + second % 10
    carry = ones // 10
    tens = first // 10 + second // 10 + carry
    carried = f"+{carry}" if carry else ""
    return "\n".join(
        (
            f"{first % 10}+{second % 10}={ones}",
            f"{first // 10}+{second // 10}{carried}={tens}",
            f"\\boxed{{{problem.answer}}}",
        )
    )


def _problem(problem_id: str, first: int, second: int) -> Problem:
    return Problem(id=problem_id, question=f"{first}+{second}=?", answer=str(first + second), kind="integer")


def _shuffle_key(first: int, second: int, *, purpose: str = "split") -> bytes:
    text = f"arithmetic {GENERATOR_VERSION} {purpose} {first} {second}"
    return hashlib.sha256(text.encode()).digest()
