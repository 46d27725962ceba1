"""One benchmark to evaluate: the samples it wants, those its store holds already, and its score."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.api import Batch, Completion, Problem, Sampler, SampleRequest, SamplingSettings, Score
from eval.batches import partition
from eval.benchmarks.registry import load
from eval.engines.stream import one_by_one
from eval.errors import DataError
from eval.grading import grade
from eval.grading.version import grader_version
from eval.progress import BenchmarkProgress
from eval.samples import FILE, Sample, SampleStore, read_samples, sample_key
from eval.score_file import write_score
from eval.scoring import make_score
from eval.seeds import derive_seed
from eval.templates import render

log = logging.getLogger(__name__)

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
        self.key_of = {problem_id: key for key, problem_id in self.keys.items()}
        # An engine that mixes what it is given gains nothing from drawing a stored sample beside a missing one.
        cut = partition if sampler.keeps_batches else one_by_one
        self.batches = cut(list(self.wanted.values()), job.settings)
        self.samples: dict[Place, Sample] = {}
        self.num_correct = self.num_reused = self.num_compared = self.num_differing = 0
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
            self._reuse_siblings()
        self.num_reused = len(self.samples)

    def _reuse_siblings(self) -> None:
        """Take over what finishes a batch: the rest will be drawn anyway, and as it would be without siblings."""
        siblings = {
            (sample.key, sample.completion.index): sample for sample in _sibling_samples(self.store.file, self.keys)
        }
        for batch in self.unfinished():
            lacking = [place for place in map(self.place, batch.requests) if place not in self.samples]
            if siblings.keys() >= set(lacking):
                for place in lacking:
                    self.keep(place, self._regraded(siblings[place]))

    def place(self, drawn: SampleRequest | Completion) -> Place:
        """Return where a sample is stored."""
        return self.key_of[drawn.problem_id], drawn.index

    def unfinished(self) -> list[Batch]:
        """Return what has to be drawn: every batch that lacks a sample, as a whole."""
        return [batch for batch in self.batches if any(self.place(one) not in self.samples for one in batch.requests)]

    def compare(self, completion: Completion) -> None:
        """Note whether a sample that was drawn again, with its batch, is as it was; the stored one stays."""
        self.num_compared += 1
        self.num_differing += completion != self.samples[self.place(completion)].completion

    def keep(self, place: Place, sample: Sample) -> None:
        """Store one sample."""
        self.store.append(sample)
        self._count(place, sample)

    def write_score(self, elapsed_s: float) -> Score:
        """Average over what is stored, and keep it beside the samples."""
        samples = [self.samples[place] for place in self.wanted]
        score = make_score(
            self.benchmark, self.job.settings, samples, elapsed_s=elapsed_s, grader_version=grader_version()
        )
        write_score(score, self.job.folder / "score.json")
        return score

    def close(self) -> None:
        """Release the store; say whether samples of unfinished batches came out otherwise than they are stored."""
        if self.num_differing:
            log.warning(
                "%s: %d of %d stored samples of unfinished batches came out otherwise when drawn again; the stored are "
                "kept (drawn with another number of threads, --batch, version or machine)",
                self.store.file,
                self.num_differing,
                self.num_compared,
            )
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
                fix="a .jsonl benchmark is called by its file name: rename the file",
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
