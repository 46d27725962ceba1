"""The types that flow through evaluation: Problem → SampleRequest → Completion → Grade → Score.

Nothing heavy is imported here; trainers use the same types for rollouts and rewards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any, Final, Literal, Protocol, runtime_checkable

from eval.errors import DataError

AnswerKind = Literal["integer", "choice", "numeric", "expression"]
"""How an answer may be compared; declared by the benchmark, never guessed from the answer."""

FinishReason = Literal["stop", "length", "failed"]
"""How a completion ended; `failed`: an endpoint answered others but not this one, which counts as wrong."""
GradeStatus = Literal["ok", "none", "unclosed", "empty", "undecided", "timeout", "crash"]
"""What extraction or the grader met; everything but `ok` counts as wrong and is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question with its gold answer."""

    id: str
    """Unique within its benchmark, stable across revisions of our code."""
    question: str
    answer: str
    """Gold answer as the data set writes it."""
    kind: AnswerKind
    tolerance: float | None = None
    """Absolute error accepted for numeric answers, where the data set states one."""
    choices: tuple[str, ...] = ()
    """The options of a multiple-choice question, in the order they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A loaded and verified set of problems, used for evaluation or for training."""

    name: str
    problems: tuple[Problem, ...]
    digest: str
    """sha256 of the normalised rows; part of every score's key."""
    source: str | None = None
    """The file of a set that only its path names; None for a declared set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How completions are drawn; part of every score's key."""

    num_samples: int
    """K completions a question."""
    temperature: float
    top_p: float = 1.0
    max_new_tokens: int
    template: str
    """Name of a prompt template of `eval.templates`."""
    stop: tuple[str, ...] = ()
    seed: int = 0
    """Sample seeds derive from hash(seed, problem id, sample index): see `eval.seeds`."""

    def __post_init__(self) -> None:
        """Refuse what no engine can draw; DataError names the setting."""
        for name, value, is_right, wanted in (
            ("num_samples", self.num_samples, self.num_samples >= 0, "0 or more"),
            ("temperature", self.temperature, 0 <= self.temperature < inf, "a finite number from 0 on"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1; 1 leaves every token in"),
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens > 0, "1 or more"),
        ):
            if not is_right:
                raise DataError(f"{name} is {value}", where=name, fix=f"it must be {wanted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """One completion asked for. Requests of one problem share a prompt, which engines may exploit."""

    problem_id: str
    index: int
    """Sample index k in [0, K)."""
    prompt_tokens: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests that are handed to an engine together, under one set of settings (`eval.batches`)."""

    requests: tuple[SampleRequest, ...]
    settings: SamplingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One completion as the engine returned it."""

    problem_id: str
    index: int
    text: str
    """Decoded without special tokens."""
    num_tokens: int
    """Generated tokens, the end-of-sequence token included."""
    finish_reason: FinishReason
    is_reasoning: bool = False
    """Whether the text is what a server calls reasoning, of a response without any content beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The verdict on one completion, kept with it in the sample store."""

    is_correct: bool
    answer: str | None
    """What was extracted, before normalisation."""
    method: str
    """Which path decided: exact, fraction, choice, math_verify, …"""
    status: GradeStatus
    elapsed_ms: float
    """Time of the grading itself, without waiting for a free worker."""
    grader_version: str


def measured(column: str, *, metric: str = "") -> Any:
    """Declare a number of a score: its column in frames, and its name in MLflow, where `{k}` stands for K."""
    return field(metadata={"column": column, "metric": metric or column})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFields:
    """What a score says in every place that holds one: score.json, records, frames, MLflow. Fractions, not percent."""

    benchmark: str
    benchmark_digest: str
    settings: SamplingSettings
    num_problems: int
    num_samples: int
    avg: float = measured("avg", metric="avg_at_{k}")
    """Mean over problems of the mean over K samples."""
    standard_error: float = measured("se", metric="avg_at_{k}_se")
    """Clustered by question: sqrt(Σ(x_q − x̄)² / (n(n−1)))."""
    generation_error: float | None = measured("generation_se", metric="avg_at_{k}_generation_se")
    """Error from sampling alone, for fixed questions; None for K = 1."""
    clip_rate: float = measured("clip_rate")
    """Share of completions that hit the length limit."""
    no_box_rate: float = measured("no_box_rate")
    """Share of completions without a complete boxed answer."""
    mean_tokens: float = measured("mean_tokens")
    grader_version: str
    engine: str
    """Engine name and version."""
    elapsed_s: float


MEASURES: Final = {one.name: one.metadata for one in fields(ScoreFields) if one.metadata}
"""Field of a score → how frames (`column`) and MLflow (`metric`) call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(ScoreFields):
    """avg@K of one checkpoint on one benchmark, with its clustered error and the verdicts behind it."""

    per_problem: dict[str, tuple[int, ...]]
    """Problem id → 0/1 for each sample, in sample order: what paired comparisons need."""
    benchmark_source: str | None = None
    """`Benchmark.source`: where to find the questions again."""
    samples_digest: str | None = None
    """sha256 of the completions it was made from (`eval.samples.samples_digest`); None in scores of older versions."""


class Sampler(Protocol):
    """An engine that turns requests into completions: hf, vllm, openai."""

    @property
    def name(self) -> str:
        """Engine name and version, for example `hf 5.10.4`."""

    @property
    def model_digest(self) -> str:
        """Content digest of the weights and tokenizer: part of the sample store's key."""

    @property
    def keeps_batches(self) -> bool:
        """Whether requests of one call are decoded with one another alone.

        Then a batch that is drawn again comes out as before. An engine with a queue mixes what it is given.
        """

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Prompt tokens of a chat, with the generation prompt appended."""

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Prompt tokens of a raw text prompt."""

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        """Yield completions as they finish, in any order, each request exactly once."""

    def close(self) -> None:
        """Free the engine's memory and processes."""


@runtime_checkable
class RenamedSampler(Sampler, Protocol):
    """An engine whose model earlier versions knew by another digest, under which samples may be stored."""

    @property
    def former_digest(self) -> str | None:
        """What they called it; None where that is `model_digest`."""


@runtime_checkable
class StreamSampler(Sampler, Protocol):
    """An engine that pulls batches of any settings from one queue when it has room: no benchmark waits for another."""

    def sample_stream(self, batches: Iterable[Batch]) -> Iterator[Completion]:
        """Yield completions as they finish, in any order, each request once; `batches` is read as there is room."""
