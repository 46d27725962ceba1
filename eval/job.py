"""One benchmark to evaluate: the samples it wants, those its store holds already, and its score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.api import Draw, Problem, Sampler, SampleRequest, SamplingSettings, Score
from eval.benchmarks.registry import load
from eval.errors import DataError
from eval.grading import grade
from eval.grading.version import grader_version
from eval.progress import BenchmarkProgress
from eval.samples import FILE, Sample, SampleStore, read_samples, sample_key
from eval.score_file import write_score
from eval.scoring import make_score
from eval.seeds import derive_seed
from eval.templates import render

Place = tuple[str, int]
"""(sample key, index): what identifies a sample in a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalJob:
    """One benchmark to evaluate, and where its samples and its score are kept."""

    benchmark: str
    """A name of `eval.benchmarks.registry`, or a jsonl path."""
    settings: SamplingSettings
    folder: Path
    limit: int | None = None
    """Only the first problems."""

    @property
    def name(self) -> str:
        """What its scores call the benchmark."""
        return Path(self.benchmark).stem if self.benchmark.endswith(".jsonl") else self.benchmark


class JobSamples:
    """What a job wants and what its store holds."""

    def __init__(self, job: EvalJob, sampler: Sampler, data_folder: Path | None) -> None:
        """Load the benchmark, render its prompts and open the store."""
        self.job, self.engine = job, sampler.name
        self.benchmark = load(job.benchmark, data_folder=data_folder, limit=job.limit)
        self.problems = {problem.id: problem for problem in self.benchmark.problems}
        self.keys, self.wanted = _requests(self.benchmark.problems, sampler, job.settings)
        self.samples: dict[Place, Sample] = {}
        self.num_correct = self.num_reused = 0
        self.store = SampleStore(job.folder)

    @property
    def is_complete(self) -> bool:
        """Whether every wanted sample is stored."""
        return len(self.samples) == len(self.wanted)

    def reuse_stored(self) -> None:
        """Take over what this store holds, and what its siblings hold of the same samples."""
        stored = self.store.read(self.keys)
        if any(sample.grade.grader_version != grader_version() for sample in stored.values()):
            self.store.regrade(self._regraded)
            stored = self.store.read(self.keys)
        for place in (place for place in self.wanted if place in stored):
            self._count(place, stored[place])
        if not self.is_complete:
            for sample in _sibling_samples(self.store.file, self.keys):
                place = (sample.key, sample.completion.index)
                if place in self.wanted and place not in self.samples:
                    self.keep(place, self._regraded(sample))
        self.num_reused = len(self.samples)

    def missing(self) -> dict[Place, Draw]:
        """What has still to be drawn."""
        return {
            place: Draw(request=request, settings=self.job.settings)
            for place, request in self.wanted.items()
            if place not in self.samples
        }

    def keep(self, place: Place, sample: Sample) -> None:
        """Store one sample."""
        self.store.append(sample)
        self._count(place, sample)

    def write_score(self, elapsed_s: float) -> Score:
        """Average over what is stored, and keep it beside the samples."""
        samples = [self.samples[place] for place in self.wanted]
        score = make_score(self.benchmark, self.job.settings, samples, elapsed_s=elapsed_s)
        write_score(score, self.job.folder / "score.json")
        return score

    def close(self) -> None:
        """Release the store."""
        self.store.close()

    def progress(self) -> BenchmarkProgress:
        """How far this job is."""
        return BenchmarkProgress(
            benchmark=self.benchmark.name,
            num_done=len(self.samples),
            num_total=len(self.wanted),
            num_correct=self.num_correct,
            num_reused=self.num_reused,
        )

    def _regraded(self, sample: Sample) -> Sample:
        problem = self.problems.get(sample.completion.problem_id)
        if problem is None or sample.grade.grader_version == grader_version():
            return sample
        return replace(sample, grade=grade(sample.completion.text, problem))

    def _count(self, place: Place, sample: Sample) -> None:
        self.samples[place] = sample
        self.num_correct += sample.grade.is_correct


def check_jobs(jobs: Sequence[EvalJob]) -> None:
    """Refuse jobs that cannot be told apart: a problem's id is its benchmark's name and a number.

    Raises:
        DataError: two benchmarks have one name.
    """
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            raise DataError(
                f"{count} benchmarks are called {name}",
                where=", ".join(job.benchmark for job in jobs if job.name == name),
                mend="a .jsonl benchmark is called by its file name: rename the file",
            )


def _requests(
    problems: Sequence[Problem], sampler: Sampler, settings: SamplingSettings
) -> tuple[dict[str, str], dict[Place, SampleRequest]]:
    """Return sample key → problem id, and the request of every wanted sample, problem by problem."""
    keys: dict[str, str] = {}
    wanted: dict[Place, SampleRequest] = {}
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
