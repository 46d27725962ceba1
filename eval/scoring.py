"""Graded samples to a `Score`: for `evaluate` as they are drawn, for `regrade` from a store of another grader."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from eval.api import Benchmark, SamplingSettings, Score
from eval.benchmarks.registry import load
from eval.errors import DataError
from eval.graders.api import Grader
from eval.samples import FILE, Sample, SampleStore, read_samples, samples_digest
from eval.score_file import read_score, write_score
from eval.stats import avg_at_k


def make_score(
    benchmark: Benchmark,
    settings: SamplingSettings,
    samples: Sequence[Sample],
    *,
    elapsed_s: float,
    grader_version: str,
) -> Score:
    """Return the score of graded samples: K of each problem of the benchmark, in any order, by one grader."""
    verdicts = {(one.completion.problem_id, one.completion.index): int(one.grade.is_correct) for one in samples}
    per_problem = {
        problem.id: tuple(verdicts[problem.id, index] for index in range(settings.num_samples))
        for problem in benchmark.problems
    }
    average = avg_at_k(per_problem)
    return Score(
        benchmark=benchmark.name,
        benchmark_digest=benchmark.digest,
        num_problems=average.num_problems,
        num_samples=settings.num_samples,
        avg=average.mean,
        standard_error=average.standard_error,
        generation_error=average.generation_error,
        clip_rate=fmean(sample.completion.finish_reason == "length" for sample in samples),
        no_box_rate=fmean(sample.grade.status in ("none", "unclosed") for sample in samples),
        mean_tokens=fmean(sample.completion.num_tokens for sample in samples),
        per_problem=per_problem,
        settings=settings,
        grader_version=grader_version,
        engine=" + ".join(sorted({sample.engine for sample in samples})),
        elapsed_s=elapsed_s,
        benchmark_source=benchmark.source,
        samples_digest=samples_digest(samples),
    )


def load_again(score: Score, *, data_folder: Path | None, limit: int | None = None) -> Benchmark:
    """Return the benchmark that a score was made on.

    Raises:
        DataError: it is not here any more, or has changed.
    """
    benchmark = load(score.benchmark_source or score.benchmark, data_folder=data_folder, limit=limit)
    if benchmark.digest != score.benchmark_digest:
        raise DataError(
            f"{score.benchmark} has changed since it was evaluated",
            where=score.benchmark_source or score.benchmark,
            fix="restore the file, or evaluate the model again",
        )
    return benchmark


def samples_of(score: Score, folder: Path) -> list[Sample]:
    """Return the stored samples that a score is of, question by question; of several draws of one, the last stored.

    Raises:
        DataError: some are missing, or their lines are damaged.
    """
    stored = {(one.completion.problem_id, one.completion.index): one for one in read_samples(folder / FILE)}
    wanted = [(problem, index) for problem in score.per_problem for index in range(score.num_samples)]
    missing = sum(place not in stored for place in wanted)
    if missing:
        raise DataError(
            f"{missing} of {len(wanted)} samples are missing", where=str(folder / FILE), fix="evaluate the model again"
        )
    return [stored[place] for place in wanted]


def regrade(folder: Path, *, into: Path, data_folder: Path | None, grader: Grader) -> Score:
    """Grade the stored samples of a score again, into another folder; nothing is sampled.

    Args:
        folder: holds samples.jsonl and score.json of another grader, or of an older version of this one.
        into: folder of the new score; another than `folder`.
        data_folder: where benchmark files lie.
        grader: gives the verdicts.

    Raises:
        DataError: no score there, its benchmark changed since, or samples of it are missing.
    """
    before = read_score(folder / "score.json")
    if before is None:
        raise DataError("there is no score to grade again", where=str(folder))
    started = time.perf_counter()
    benchmark = load_again(before, data_folder=data_folder, limit=before.num_problems)
    samples = samples_of(before, folder)
    problems = {problem.id: problem for problem in benchmark.problems}
    verdicts = grader.grade_many((one.completion.text, problems[one.completion.problem_id]) for one in samples)
    graded = [replace(one, grade=verdict) for one, verdict in zip(samples, verdicts, strict=True)]
    with SampleStore(into) as store:
        kept = store.read({one.key: None for one in graded})
        for one in graded:
            if (one.key, one.completion.index) not in kept:
                store.append(one)
    elapsed_s = time.perf_counter() - started
    score = make_score(benchmark, before.settings, graded, elapsed_s=elapsed_s, grader_version=grader.version)
    write_score(score, into / "score.json")
    return score
