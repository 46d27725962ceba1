"""One benchmark to evaluate: the samples it wants, those its store holds already, and its score."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from eval.api import Batch, Completion, RenamedSampler, Sampler, SampleRequest, SamplingSettings, Score
from eval.batches import partition
from eval.benchmarks.registry import load, short_name
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
    is_fresh: bool = False
    """Set aside what is stored of it, and draw all of it anew."""

    @property
    def name(self) -> str:
        """What its scores call the benchmark."""
        return short_name(self.benchmark)


class JobSamples:
    """What a job wants and what its store holds."""

    def __init__(self, job: EvalJob, sampler: Sampler, data_folder: Path | None) -> None:
        """Load the benchmark, render its prompts and open the store."""
        self.job, self.engine = job, sampler.name
        self.benchmark = load(job.benchmark, data_folder=data_folder, limit=job.limit)
        self.problems = {problem.id: problem for problem in self.benchmark.problems}
        prompts = {problem.id: render(job.settings.template, problem, sampler) for problem in self.problems.values()}
        self.store = SampleStore(job.folder)
        if job.is_fresh:
            self.store.set_aside()
        self.keys = self._keys(prompts, sampler)
        self.key_of = {problem_id: key for key, problem_id in self.keys.items()}
        self.wanted = _requests(prompts, self.key_of, job.settings)
        # An engine that mixes what it is given gains nothing from drawing a stored sample beside a missing one.
        cut = partition if sampler.keeps_batches else one_by_one
        self.batches = cut([one for one in self.wanted.values() if one.index in self._drawn], self._draw_settings)
        self.samples: dict[Place, Sample] = {}
        """By place; at temperature 0 one draw stands at all places of its question."""
        self.num_correct = self.num_reused = self.num_compared = self.num_differing = 0

    def _keys(self, prompts: Mapping[str, tuple[int, ...]], sampler: Sampler) -> dict[str, str]:
        """Sample key → problem id: by the model's digest, or by its former one where only that finds samples."""
        keys = _keys(prompts, sampler.model_digest, self.job.settings)
        former = sampler.former_digest if isinstance(sampler, RenamedSampler) else None
        if former is None or self._holds(keys):
            return keys
        former_keys = _keys(prompts, former, self.job.settings)
        if not self._holds(former_keys):
            return keys
        log.info(
            "%s: its samples are known by the model's digest of an earlier version, which saw less of the model; "
            "they are gone on with, and --fresh draws them anew",
            self.store.file,
        )
        return former_keys

    def _holds(self, keys: Mapping[str, str]) -> bool:
        """Whether any sample under these keys is stored, here or in a sibling."""
        stored = chain(read_samples(self.store.file, keys), self._sibling_samples(keys))
        return next(stored, None) is not None

    def _sibling_samples(self, keys: Mapping[str, str]) -> Iterator[Sample]:
        """What other scores of the same model hold; nothing where all was to be drawn anew."""
        if not self.store.is_fresh:
            for other in sorted(self.store.file.parent.parent.glob(f"*/{FILE}")):
                if other != self.store.file:
                    yield from read_samples(other, keys)

    @property
    def _drawn(self) -> range:
        """Indices that are drawn: greedy draws of a question are all the same, so one of them is."""
        return range(1 if self.job.settings.temperature == 0 else self.job.settings.num_samples)

    @property
    def _draw_settings(self) -> SamplingSettings:
        return replace(self.job.settings, num_samples=len(self._drawn))

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
        stored = {place: sample for place, sample in stored.items() if not sample.has_failed}
        for place in (place for place in self.wanted if place in stored):
            self._count(place, stored[place])
        for place in [place for place in self.wanted if place in self.samples]:
            self._copy(place)  # a kill may have come between a greedy draw and its copies
        if not self.is_complete:
            self._reuse_siblings()
        self.num_reused = len(self.samples)

    def _reuse_siblings(self) -> None:
        """Take over what finishes a batch: the rest will be drawn anyway, and as it would be without siblings."""
        siblings = {
            (sample.key, sample.completion.index): sample
            for sample in self._sibling_samples(self.keys)
            if not sample.has_failed
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
        """Store one sample, and its copies where it is a greedy draw."""
        self.store.append(sample)
        self._count(place, sample)
        self._copy(place)

    def _copy(self, place: Place) -> None:
        key, index = place
        if index != 0 or len(self._drawn) == self.job.settings.num_samples:
            return
        drawn = self.samples[place]
        for other in range(1, self.job.settings.num_samples):
            if (key, other) not in self.samples:
                copied = replace(drawn, completion=replace(drawn.completion, index=other))
                self.store.append(copied)
                self._count((key, other), copied)

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


def _keys(prompts: Mapping[str, tuple[int, ...]], digest: str, settings: SamplingSettings) -> dict[str, str]:
    """Return sample key → problem id."""
    # The problem's id is part of the key: two problems may share a prompt, and their seeds differ.
    return {sample_key(f"{digest}:{name}", prompt, settings): name for name, prompt in prompts.items()}


def _requests(
    prompts: Mapping[str, tuple[int, ...]], key_of: Mapping[str, str], settings: SamplingSettings
) -> dict[Place, SampleRequest]:
    """Return the request of every wanted sample, problem by problem."""
    return {
        (key_of[name], index): SampleRequest(
            problem_id=name, index=index, prompt_tokens=prompt, seed=derive_seed(settings.seed, name, index)
        )
        for name, prompt in prompts.items()
        for index in range(settings.num_samples)
    }
