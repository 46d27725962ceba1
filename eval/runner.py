"""Evaluate one model on benchmarks: render, sample unfinished batches as one stream, grade, store, average.

    load → render → (stored samples) → sample_all → grade → store.append → Score → score.json

Killing it at any moment costs at most the batch under way, on each device; the same call then ends as an undisturbed
one would have (`eval.batches`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

from eval.api import Completion, Grade, Sampler, SamplingSettings, Score
from eval.engines.stream import sample_all
from eval.errors import EngineError
from eval.grading import grade_async
from eval.job import EvalJob, JobSamples, Place, check_jobs
from eval.progress import EvalProgress
from eval.samples import Sample
from eval.score_file import read_score, score_key

__all__ = [
    "EvalJob",
    "EvalProgress",
    "evaluate",
    "evaluate_all",
    "read_score",
    "score_key",
]

PROGRESS_INTERVAL_S = 0.2

OnProgress = Callable[[EvalProgress], None]


def evaluate(
    name: str,
    sampler: Sampler,
    settings: SamplingSettings,
    *,
    folder: Path,
    data_folder: Path | None,
    limit: int | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> Score:
    """Return avg@K on one benchmark: `evaluate_all` of a single job."""
    job = EvalJob(benchmark=name, settings=settings, folder=folder, limit=limit)
    ((_, score),) = evaluate_all([job], sampler, data_folder=data_folder, on_progress=on_progress)
    return score


def evaluate_all(
    jobs: Sequence[EvalJob],
    sampler: Sampler,
    *,
    data_folder: Path | None,
    on_progress: OnProgress = lambda progress: None,
) -> Generator[tuple[EvalJob, Score]]:
    """Yield avg@K of a sampler's model on each benchmark when its last sample is graded, drawing unfinished batches.

    Those of all benchmarks are drawn as one stream. Appends to each job's `samples.jsonl` and writes its `score.json`
    atomically. Samples of the same model, prompt and settings in sibling folders are taken over where they finish a
    batch, so a larger K or a new grader does not draw those again. The stores are locked until the iterator ends or is
    closed.

    Args:
        jobs: benchmarks of different names.
        sampler: the engine, open.
        data_folder: where benchmark files lie, or None for the hub.
        on_progress: called now and then and at the end; an exception it raises ends the evaluation, resumable.

    Raises:
        DataError: a benchmark or template is unknown or damaged, or two benchmarks have one name.
        EngineError: the engine left requests unanswered.
        OrchError: a store is in use or cannot be written.
    """
    check_jobs(jobs)
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(contextlib.closing(JobSamples(job, sampler, data_folder))) for job in jobs]
        yield from _Evaluation(parts, sampler, on_progress).scores()


@dataclass(frozen=True, slots=True)
class _Ungraded:
    """A completion whose verdict the grader pool still owes."""

    part: JobSamples
    place: Place
    completion: Completion
    verdict: Future[Grade]

    def keep(self) -> None:
        sample = Sample(
            key=self.place[0], completion=self.completion, grade=self.verdict.result(), engine=self.part.engine
        )
        self.part.keep(self.place, sample)


class _Evaluation:
    """The state of one call of `evaluate_all`."""

    def __init__(self, parts: Sequence[JobSamples], sampler: Sampler, on_progress: OnProgress) -> None:
        self.parts, self.sampler, self.on_progress = parts, sampler, on_progress
        self.started = time.perf_counter()
        self.last_report = 0.0
        self.ungraded: list[_Ungraded] = []
        self.unscored = list(parts)

    def scores(self) -> Iterator[tuple[EvalJob, Score]]:
        """Draw what is missing; yield each benchmark as it becomes complete."""
        for part in self.parts:
            part.reuse_stored()
        self._report(is_final=False)
        for _ in self._draw_missing():
            yield from self._complete()
        self._report(is_final=True)
        yield from self._complete()

    def _draw_missing(self) -> Iterator[None]:
        """Sample, grade and store what unfinished batches lack; pause after each completion."""
        part_of = {problem_id: part for part in self.parts for problem_id in part.problems}
        batches = [batch for part in self.parts for batch in part.unfinished()]
        unanswered = {(one.problem_id, one.index) for batch in batches for one in batch.requests}
        num_asked = len(unanswered)
        if not num_asked:
            return
        for completion in sample_all(self.sampler, batches):
            unanswered.remove((completion.problem_id, completion.index))
            self._take(part_of[completion.problem_id], completion)
            self._keep_graded()
            yield
        while self.ungraded:
            wait([self.ungraded[0].verdict], timeout=PROGRESS_INTERVAL_S)
            self._keep_graded()
            yield
        if unanswered:
            problem_id, _ = min(unanswered)
            raise EngineError(
                f"{self.sampler.name} left {len(unanswered)} of {num_asked} completions unanswered",
                where=str(part_of[problem_id].store.file),
                fix="run the same command again; what was answered is kept",
            )

    def _take(self, part: JobSamples, completion: Completion) -> None:
        place = part.place(completion)
        if place in part.samples:
            part.compare(completion)
            return
        verdict = grade_async(completion.text, part.problems[completion.problem_id])
        self.ungraded.append(_Ungraded(part, place, completion, verdict))

    def _keep_graded(self) -> None:
        """Store every completion whose verdict is there; the others wait for the grader pool."""
        waiting = []
        for one in self.ungraded:
            if one.verdict.done():
                one.keep()
            else:
                waiting.append(one)
        self.ungraded = waiting
        self._report(is_final=False)

    def _complete(self) -> Iterator[tuple[EvalJob, Score]]:
        for part in [part for part in self.unscored if part.is_complete]:
            self.unscored.remove(part)
            yield part.job, part.write_score(time.perf_counter() - self.started)

    def _report(self, *, is_final: bool) -> None:
        now = time.perf_counter()
        if not is_final and now - self.last_report < PROGRESS_INTERVAL_S:
            return
        self.last_report = now
        self.on_progress(
            EvalProgress(parts=tuple(part.progress() for part in self.parts), elapsed_s=now - self.started)
        )
