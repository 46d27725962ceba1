r"""math_verify alone: `verify(parse(gold), parse(response))`, as scripts call it that use no other grader.

It looks for the last box by itself, and without one for the last formula or number of the text. Where it differs from
ours: it takes an answer without a box, two boxes in one text make a set of both, and six decimals are compared.

Source: https://github.com/huggingface/Math-Verify, README.
"""

from __future__ import annotations

from typing import Literal

from math_verify import parse, verify

from eval.api import Problem
from eval.graders.pooled import Question
from eval.grading.extract import extract

MAX_CHARS = 20_000
"""Of a response, from its end: the answer stands there, and the patterns are slow on long texts."""
_SHOWN_CHARS = 80


def prepare(response: str, problem: Problem) -> Question | None:
    """Ask about the whole response: where in it the answer stands is for math_verify to find."""
    text = response.strip()[-MAX_CHARS:]
    return (
        Question(answer=text, gold=problem.answer, found=extract(text).answer or text[-_SHOWN_CHARS:]) if text else None
    )


def judge(answer: str, gold: str) -> Literal["right", "wrong", "undecided"]:
    """Return its verdict; undecided where it reads no answer or no gold."""
    # Its own limits of time are alarms, which the worker has for itself.
    parsed_gold = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    parsed = parse(answer, parsing_timeout=None)
    if not parsed or not parsed_gold:
        return "undecided"
    return "right" if verify(parsed_gold, parsed, timeout_seconds=None) else "wrong"
