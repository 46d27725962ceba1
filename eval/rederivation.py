"""A stored score made again from its samples, offline: graded anew, averaged anew, compared field by field.

samples.jsonl ─ grade ─▶ verdicts ─ average ─▶ Score  ═?═  score.json
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from eval.api import Benchmark, Problem, Score
from eval.benchmarks.registry import declared, find_file
from eval.errors import DataError
from eval.graders.api import Grader, grader_name
from eval.graders.registry import open_grader, open_grader_of
from eval.samples import Sample
from eval.scoring import load_again, make_score, samples_of

_UNDECIDED = ("timeout", "crash")
"""What a loaded machine may make of an answer: such verdicts are taken as they are stored."""
_PRECISION = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rederivation:
    """What the samples of a score give."""

    score: Score | None
    """None where samples are missing."""
    differences: tuple[str, ...]
    """What does not agree with the stored score or the stored verdicts."""
    unchecked: tuple[str, ...]
    """What could not be made again here, and why."""


def rederive(score: Score, folder: Path, *, data_folder: Path | None) -> Rederivation:
    """Make a score again from the samples in its folder; nothing is fetched, nothing is written.

    Args:
        score: as `folder/score.json` holds it.
        folder: holds its samples.jsonl.
        data_folder: where benchmark files lie. Without the questions, verdicts are taken as they are stored.
    """
    try:
        samples = samples_of(score, folder)
    except DataError as error:
        return Rederivation(score=None, differences=(error.what,), unchecked=())
    differences: list[str] = []
    grader = open_grader_of(score.grader_version)
    benchmark, why_not = _questions(score, data_folder, grader)
    if grader is not None and not why_not:
        samples, turned = _graded_again(samples, benchmark, grader)
        differences += turned
    again = make_score(
        benchmark, score.settings, samples, elapsed_s=score.elapsed_s, grader_version=score.grader_version
    )
    differences += _unequal_fields(score, again)
    return Rederivation(score=again, differences=tuple(differences), unchecked=(why_not,) if why_not else ())


def _questions(score: Score, data_folder: Path | None, grader: Grader | None) -> tuple[Benchmark, str]:
    """The benchmark of a score, or stand-ins with its ids and the reason why its answers cannot be graded again."""
    name = score.benchmark_source or score.benchmark
    if grader is None:
        return _stand_ins(score), f"graded by {score.grader_version}, {_what_is_here(score)}: verdicts as stored"
    if not _is_at_hand(name, data_folder):
        return _stand_ins(score), f"the questions of {score.benchmark} are not on this machine: verdicts as stored"
    try:
        return load_again(score, data_folder=data_folder, limit=score.num_problems), ""
    except DataError as error:
        return _stand_ins(score), f"{error.what}: verdicts as stored"


def _what_is_here(score: Score) -> str:
    name = grader_name(score.grader_version)
    return "which is asked over a network" if name == "judge" else f"here is {open_grader(name).version}"


def _is_at_hand(name: str, data_folder: Path | None) -> bool:
    """Whether loading a set needs no network."""
    if name.endswith(".jsonl"):
        return Path(name).is_file()
    declaration = declared(name)
    return not declaration.file or find_file(declaration, data_folder) is not None


def _stand_ins(score: Score) -> Benchmark:
    problems = (Problem(id=name, question="", answer="", kind="expression") for name in score.per_problem)
    return Benchmark(
        name=score.benchmark,
        problems=tuple(problems),
        digest=score.benchmark_digest,
        source=score.benchmark_source,
    )


def _graded_again(samples: Sequence[Sample], benchmark: Benchmark, grader: Grader) -> tuple[list[Sample], list[str]]:
    """The samples under fresh verdicts, and what turned; an undecided verdict keeps what is stored."""
    problems = {problem.id: problem for problem in benchmark.problems}
    verdicts = grader.grade_many((one.completion.text, problems[one.completion.problem_id]) for one in samples)
    graded, turned = [], []
    for sample, verdict in zip(samples, verdicts, strict=True):
        if verdict.status in _UNDECIDED or sample.grade.status in _UNDECIDED:
            graded.append(sample)
            continue
        graded.append(replace(sample, grade=verdict))
        if verdict.is_correct != sample.grade.is_correct:
            stored, now = (("right" if right else "wrong") for right in (sample.grade.is_correct, verdict.is_correct))
            place = f"{sample.completion.problem_id}, sample {sample.completion.index}"
            turned.append(f"{place}: stored as {stored}, graded {now}")
    return graded, turned


def _unequal_fields(stored: Score, again: Score) -> Iterator[str]:
    for field in fields(Score):
        before, after = getattr(stored, field.name), getattr(again, field.name)
        if field.name == "samples_digest" and before is None:
            continue
        if field.name == "per_problem":
            yield from _unequal_verdicts(before, after)
        elif not _is_equal(before, after):
            yield f"{field.name} is {before}, its samples give {after}"


def _unequal_verdicts(stored: dict[str, tuple[int, ...]], again: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for name, verdicts in stored.items():
        if verdicts != again[name]:
            yield f"verdicts of {name} are {list(verdicts)}, its samples give {list(again[name])}"


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_PRECISION) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)
