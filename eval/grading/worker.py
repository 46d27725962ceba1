"""The child process of a judge that may hang: reads questions from stdin, answers on stdout, never outlives its use.

    {"answer": …, "gold": …}  →  {"is_correct": true, "status": "ok", "elapsed_ms": 4.2}

Three limits, none of which a computation in C can escape for ever: a Python alarm, then the kernel's own kill on CPU
time, and a bound on memory. It ends when stdin closes, that is when its parent dies. The judge is a module with a
function `judge(answer, gold)`: math_verify behind the exact path (`eval.grading.symbolic`), or one of `eval.graders`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from time import perf_counter
from types import FrameType
from typing import Literal

SOFT_LIMIT_S = 3.0
"""A question that takes longer is answered with `timeout`."""
HARD_LIMIT_S = 6
"""CPU seconds after which the kernel kills the process, even inside one C call."""
IDLE_LIMIT_S = 120.0
"""Without a question for this long it ends, whoever may still hold its stdin open."""
MEMORY_BYTES = 3 * 1024**3
"""Address space: an expression that needs more is answered with `crash`."""


class SoftTimeout(BaseException):
    """Raised by the alarm. Not an Exception, so that no library's `except Exception` can swallow it."""


WARM_UP = (r"\frac{1}{2}+x", "x+0.5")
"""Asked before the first question: parsers build their tables at the first formula, which takes a second of its own."""

Judge = Callable[[str, str], Literal["right", "wrong", "undecided"]]


def main(module: str) -> None:
    """Answer questions by the judge of a module until stdin closes."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    judge: Judge = importlib.import_module(module).judge
    with contextlib.suppress(Exception):
        judge(*WARM_UP)
    print(json.dumps({"is_ready": True, "judge": module}), file=out, flush=True)
    while line := _next_line():
        question = json.loads(line)
        reply = _answer(judge, question["answer"], question["gold"])
        print(json.dumps(reply), file=out, flush=True)


def _next_line() -> str:
    signal.setitimer(signal.ITIMER_REAL, IDLE_LIMIT_S)
    try:
        return sys.stdin.readline()
    except SoftTimeout:
        return ""


def _answer(judge: Judge, answer: str, gold: str) -> dict[str, bool | str | float]:
    started = perf_counter()
    signal.setitimer(signal.ITIMER_PROF, HARD_LIMIT_S)
    signal.setitimer(signal.ITIMER_REAL, SOFT_LIMIT_S)
    reply: dict[str, bool | str | float]
    try:
        verdict = judge(answer, gold)
        reply = {"is_correct": verdict == "right", "status": "undecided" if verdict == "undecided" else "ok"}
    except SoftTimeout:
        reply = {"is_correct": False, "status": "timeout"}
    except Exception as error:
        reply = {"is_correct": False, "status": "crash", "reason": type(error).__name__}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return reply | {"elapsed_ms": (perf_counter() - started) * 1e3}


def _on_alarm(number: int, frame: FrameType | None) -> None:
    raise SoftTimeout
