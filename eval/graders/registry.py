"""Names to graders."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from eval.errors import DataError
from eval.graders.api import GRADERS, Grader, GraderName, grader_name
from eval.graders.judge import JudgeGrader, JudgeSettings
from eval.graders.ours import OurGrader
from eval.graders.pooled import PooledGrader

_POOLED: tuple[GraderName, ...] = ("math_verify", "qwen", "prime")
"""Each is the module of its name in this package."""


def open_grader(name: str, *, judge: JudgeSettings | None = None) -> Grader:
    """Return a grader by its name.

    Raises:
        DataError: no grader is called that, or the judge lacks a model or an endpoint.
    """
    if name == "ours":
        return OurGrader()
    for known in _POOLED:
        if name == known:
            return _pooled(known)
    if name != "judge":
        raise DataError(f"no grader is called {name!r}", fix=f"one of {', '.join(GRADERS)}")
    if judge is None:
        raise DataError(
            "the grader `judge` needs a model and its endpoint",
            fix="--judge-model NAME --judge-url http://host:port/v1",
        )
    return JudgeGrader(judge)


@cache
def _pooled(name: GraderName) -> PooledGrader:
    """Import the module only here: it loads sympy, so that its workers have it before the clock of a question runs."""
    module = import_module(f"eval.graders.{name}")
    return PooledGrader(name, module.__name__, module.prepare)


def open_grader_of(version: str) -> Grader | None:
    """Return the grader that gives the verdicts of a version; None where this one is of another version, or a judge."""
    name = grader_name(version)
    if name == "judge" or name not in GRADERS:
        return None
    grader = open_grader(name)
    return grader if grader.version == version else None
