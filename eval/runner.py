"""Evaluate one model on one benchmark: render, sample what is missing, grade, store, average.

    load → render → (stored samples) → sampler.sample → grade → store.append → Score → score.json

Killing it at any moment loses at most the completion being written; the same call then finishes with the same ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from eval.api import Benchmark, Completion, Grade, Problem, Sampler, SampleRequest, SamplingSettings, Score
from eval.benchmarks.registry import load
from eval.errors import EngineError
from eval.grading import grade, grade_async
from eval.grading.version import grader_version
from eval.samples import FILE, Sample, SampleStore, read_samples, sample_key
from eval.score_file import read_score, score_from_dict, score_key, score_to_dict, write_score
from eval.scoring import make_score
from eval.templates import render

__all__ = [
    "EvalProgress",
    "evaluate",
    "read_score",
    "score_from_dict",
    "score_key",
    "score_to_dict",
]

PROGRESS_INTERVAL_S = 0.2

Wanted = dict[tuple[str, int], SampleRequest]
"""(sample key, index) → the request that fills it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalProgress:
    """How far an evaluation is."""

    benchmark: str
    num_done: int
    """Samples drawn and graded, the stored ones included."""
    num_total: int
    num_correct: int
    num_reused: int
    """Samples that were found in the store."""
    elapsed_s: float

    @property
    def samples_per_s(self) -> float:
        """New samples a second in this call; 0 before the first."""
        return (self.num_done - self.num_reused) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the present rate, or None before the first new sample."""
        rate = self.samples_per_s
        return (self.num_total - self.num_done) / rate if rate > 0 else None


def evaluate(
    name: str,
    sampler: Sampler,
    settings: SamplingSettings,
    *,
    folder: Path,
    data_folder: Path | None,
    limit: int | None = None,
    on_progress: Callable[[EvalProgress], None] = lambda progress: None,
) -> Score:
    """Return avg@K of a sampler's model on a benchmark, drawing only what `folder` does not hold yet.

    Appends to `folder/samples.jsonl` and writes `folder/score.json` atomically. Samples of the same model, prompt and
    settings in sibling folders are taken over, so a larger K or a new grader does not draw them again.

    Args:
        name: a benchmark of `eval.benchmarks.registry`, or a jsonl path.
        sampler: the engine, open.
        settings: K, temperature, lengths, template, seed.
        folder: where samples and score are kept.
        data_folder: where benchmark files lie, or None for the hub.
        limit: only the first problems.
        on_progress: called now and then and at the end; an exception it raises ends the evaluation, resumable.

    Raises:
        DataError: the benchmark or the template is unknown or damaged.
        EngineError: the engine left requests unanswered.
        OrchError: the store is in use or cannot be written.
    """
    benchmark = load(name, data_folder=data_folder, limit=limit)
    with SampleStore(folder) as store:
        run = _Evaluation(benchmark, sampler, settings, store, on_progress)
        run.reuse_stored()
        run.draw_missing()
        score = run.score()
    write_score(score, folder / "score.json")
    return score


class _Evaluation:
    """The state of one call of `evaluate`."""

    def __init__(
        self,
        benchmark: Benchmark,
        sampler: Sampler,
        settings: SamplingSettings,
        store: SampleStore,
        on_progress: Callable[[EvalProgress], None],
    ) -> None:
        self.benchmark, self.sampler, self.settings, self.store = benchmark, sampler, settings, store
        self.on_progress = on_progress
        self.problems = {problem.id: problem for problem in benchmark.problems}
        self.started = time.perf_counter()
        self.keys, self.wanted = _requests(benchmark.problems, sampler, settings)
        self.samples: dict[tuple[str, int], Sample] = {}
        self.ungraded: list[tuple[tuple[str, int], Completion, Future[Grade]]] = []
        self.num_correct = self.num_reused = 0
        self.last_report = 0.0

    def reuse_stored(self) -> None:
        """Take over what this store holds, and what its siblings hold of the same samples."""
        stored = self.store.read(self.keys)
        if any(sample.grade.grader_version != grader_version() for sample in stored.values()):
            self.store.regrade(self._regraded)
            stored = self.store.read(self.keys)
        for place in (place for place in self.wanted if place in stored):
            self._count(place, stored[place])
        if len(self.samples) < len(self.wanted):
            for sample in _sibling_samples(self.store.file, self.keys):
                place = (sample.key, sample.completion.index)
                if place in self.wanted and place not in self.samples:
                    self._keep(place, self._regraded(sample))
        self.num_reused = len(self.samples)
        self._report(is_final=False)

    def draw_missing(self) -> None:
        """Sample, grade and store every request that is not answered yet."""
        missing = [request for place, request in self.wanted.items() if place not in self.samples]
        if missing:
            places = {
                (request.problem_id, request.index): place
                for place, request in self.wanted.items()
                if place not in self.samples
            }
            for completion in self.sampler.sample(missing, self.settings):
                place = places.pop((completion.problem_id, completion.index))
                verdict = grade_async(completion.text, self.problems[completion.problem_id])
                self.ungraded.append((place, completion, verdict))
                self._keep_graded()
                self._report(is_final=False)
            while self.ungraded:
                wait([self.ungraded[0][2]], timeout=PROGRESS_INTERVAL_S)
                self._keep_graded()
                self._report(is_final=False)
            if places:
                raise EngineError(
                    f"{self.sampler.name} left {len(places)} of {len(missing)} completions unanswered",
                    where=str(self.store.file),
                    mend="run the same command again; what was answered is kept",
                )
        self._report(is_final=True)

    def score(self) -> Score:
        """Average over what is stored."""
        samples = [self.samples[place] for place in self.wanted]
        return make_score(self.benchmark, self.settings, samples, elapsed_s=time.perf_counter() - self.started)

    def _regraded(self, sample: Sample) -> Sample:
        problem = self.problems.get(sample.completion.problem_id)
        if problem is None or sample.grade.grader_version == grader_version():
            return sample
        return replace(sample, grade=grade(sample.completion.text, problem))

    def _keep_graded(self) -> None:
        """Store every completion whose verdict is there; the others wait for the grader pool."""
        waiting = []
        for place, completion, verdict in self.ungraded:
            if verdict.done():
                sample = Sample(key=place[0], completion=completion, grade=verdict.result(), engine=self.sampler.name)
                self._keep(place, sample)
            else:
                waiting.append((place, completion, verdict))
        self.ungraded = waiting

    def _keep(self, place: tuple[str, int], sample: Sample) -> None:
        self.store.append(sample)
        self._count(place, sample)

    def _count(self, place: tuple[str, int], sample: Sample) -> None:
        self.samples[place] = sample
        self.num_correct += sample.grade.is_correct

    def _report(self, *, is_final: bool) -> None:
        now = time.perf_counter()
        if not is_final and now - self.last_report < PROGRESS_INTERVAL_S:
            return
        self.last_report = now
        self.on_progress(
            EvalProgress(
                benchmark=self.benchmark.name,
                num_done=len(self.samples),
                num_total=len(self.wanted),
                num_correct=self.num_correct,
                num_reused=self.num_reused,
                elapsed_s=now - self.started,
            )
        )


def _requests(
    problems: Sequence[Problem], sampler: Sampler, settings: SamplingSettings
) -> tuple[dict[str, str], Wanted]:
    """Return sample key → problem id, and every wanted sample, problem by problem."""
    from eval.seeds import derive_seed

    keys: dict[str, str] = {}
    wanted: Wanted = {}
    for problem in problems:
        prompt = render(settings.template, problem, sampler)
        # The problem's id is part of the key: two problems may share a prompt, and their seeds differ.
        key = sample_key(f"{sampler.model_digest}:{problem.id}", prompt, settings)
        keys[key] = problem.id
        for index in range(settings.num_samples):
            seed = derive_seed(settings.seed, problem.id, index)
            wanted[key, index] = SampleRequest(problem_id=problem.id, index=index, prompt_tokens=prompt, seed=seed)
    return keys, wanted


def _sibling_samples(file: Path, keys: dict[str, str]) -> Iterable[Sample]:
    for other in sorted(file.parent.parent.glob(f"*/{FILE}")):
        if other != file:
            yield from read_samples(other, keys)
