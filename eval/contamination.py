"""Which questions of a benchmark stand in a training set, whole or in part: overlap of word n-grams."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eval.api import Benchmark, Problem
from eval.errors import DataError

_WORD = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")
_EXCERPT_CHARS = 80

Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One benchmark question and the training question that shares most with it."""

    benchmark_id: str
    train_id: str
    share: float
    """Share of the benchmark question's n-grams that occur in that training question."""
    is_identical: bool
    """The same words in the same order."""
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What a benchmark shares with a training set."""

    train: str
    benchmark: str
    words: int
    num_problems: int
    num_identical: int
    matches: tuple[Match, ...]
    """Largest share first."""


def overlapping(train: Benchmark, benchmark: Benchmark, *, words: int = 13) -> Overlap:
    """Return the benchmark's questions that share an n-gram of `words` words with a training question.

    A question shorter than that is compared whole. Case and spacing do not count; numbers and signs are words.

    Raises:
        DataError: `words` is below 1.

    Source: Brown et al., arXiv 2005.14165, appendix C (13-grams).
    """
    if words < 1:
        raise DataError(f"n-grams of {words} words", fix="--words is at least 1")
    wanted = {problem.id: _grams(problem, words) for problem in benchmark.problems}
    owners: dict[Gram, list[str]] = {}
    for problem_id, grams in wanted.items():
        for gram in grams:
            owners.setdefault(gram, []).append(problem_id)
    matches = _best_matches(train, benchmark, wanted, owners, words)
    return Overlap(
        train=train.name,
        benchmark=benchmark.name,
        words=words,
        num_problems=len(benchmark.problems),
        num_identical=sum(match.is_identical for match in matches),
        matches=tuple(sorted(matches, key=lambda match: (-match.share, match.benchmark_id))),
    )


def _best_matches(
    train: Benchmark,
    benchmark: Benchmark,
    wanted: dict[str, set[Gram]],
    owners: dict[Gram, list[str]],
    words: int,
) -> list[Match]:
    shared: dict[str, tuple[int, Problem]] = {}
    lengths = sorted({len(gram) for gram in owners if len(gram) < words})
    for row in train.problems:
        counts: dict[str, int] = {}
        text = _words(row.question)
        for gram in {gram for length in (*lengths, words) for gram in _windows(text, length)}:
            for problem_id in owners.get(gram, ()):
                counts[problem_id] = counts.get(problem_id, 0) + 1
        for problem_id, count in counts.items():
            if problem_id not in shared or count > shared[problem_id][0]:
                shared[problem_id] = (count, row)
    questions = {problem.id: problem for problem in benchmark.problems}
    return [
        Match(
            benchmark_id=problem_id,
            train_id=row.id,
            share=count / len(wanted[problem_id]),
            is_identical=_words(questions[problem_id].question) == _words(row.question),
            excerpt=" ".join(questions[problem_id].question.split())[:_EXCERPT_CHARS],
        )
        for problem_id, (count, row) in shared.items()
    ]


def _grams(problem: Problem, words: int) -> set[Gram]:
    text = _words(problem.question)
    return set(_windows(text, min(words, len(text))))


def _windows(text: list[str], length: int) -> list[Gram]:
    return [tuple(text[start : start + length]) for start in range(len(text) - length + 1)] if length else []


def _words(question: str) -> list[str]:
    return _WORD.findall(question.lower())
