"""Completions to read: a few right and a few wrong ones of a score, with question, answers and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from eval.api import Problem
from eval.errors import OrchError
from eval.samples import FILE, read_samples

EACH = 3
"""So many right completions of a benchmark, and as many wrong ones."""
SEARCHED = 400
"""Samples of a file that are looked at for them: the first, so that a large store stays quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One completion."""

    benchmark: str
    problem_id: str
    question: str | None
    """None where the benchmark's file is not at hand."""
    gold: str | None
    text: str
    answer: str | None
    """What the grader took out of the text."""
    is_correct: bool
    reason: str
    """How the verdict was reached: the grader's status and method."""
    num_tokens: int
    is_cut: bool
    """Whether the length limit ended it."""
    sample_index: int


def read_transcripts(folder: Path, benchmark: str, problems: Mapping[str, Problem]) -> tuple[Transcript, ...]:
    """The first completions of each verdict of an evaluation's folder, right ones first; none where none are kept."""
    kept: dict[bool, list[Transcript]] = {True: [], False: []}
    for sample in islice(read_samples(folder / FILE), SEARCHED):
        found = kept[sample.grade.is_correct]
        is_new = all(one.problem_id != sample.completion.problem_id for one in found)
        if len(found) >= EACH or not is_new:
            continue
        problem = problems.get(sample.completion.problem_id)
        found.append(
            Transcript(
                benchmark=benchmark,
                problem_id=sample.completion.problem_id,
                question=problem.question if problem else None,
                gold=problem.answer if problem else None,
                text=sample.completion.text,
                answer=sample.grade.answer,
                is_correct=sample.grade.is_correct,
                reason=f"{sample.grade.status}, {sample.grade.method}",
                num_tokens=sample.completion.num_tokens,
                is_cut=sample.completion.finish_reason == "length",
                sample_index=sample.completion.index,
            )
        )
        if all(len(one) >= EACH for one in kept.values()):
            break
    return (*kept[True], *kept[False])


def problems_at_hand(benchmark: str, data_folder: Path | None) -> dict[str, Problem]:
    """A benchmark's problems by id; empty where its file is not on this machine or is not the declared one."""
    from eval.benchmarks.registry import load

    try:
        return {problem.id: problem for problem in load(benchmark, data_folder=data_folder).problems}
    except OrchError:
        return {}
