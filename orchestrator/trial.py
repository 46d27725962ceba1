"""A trial: the unit that is planned, scheduled, run once and recorded. Pure data; ids come from `identity`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from orchestrator.guards import Guards
from trainers.api import Model, Recipe, Resources
from trainers.validity import check_finite, require

TrialKind = Literal["train", "base"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """What every checkpoint of a sweep is evaluated on. Not part of a trial's identity: scores carry their own key."""

    benchmarks: tuple[str, ...]
    num_samples: int
    """K of avg@K."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int
    template: str
    engine: Literal["hf", "vllm", "openai"] = "hf"
    every_steps: int | None = None
    """Also evaluate during training, every so many steps; None evaluates the final policy only."""
    limit: int | None = None
    """Use only the first problems of each benchmark."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise OrchError if there is nothing to evaluate or a number is out of range."""
        check_finite("eval", self)
        names = self.benchmarks
        require(bool(names), "eval.benchmarks", "[]", "a list with at least one benchmark")
        require(len(set(names)) == len(names), "eval.benchmarks", list(names), "a list of different benchmarks")
        for name in ("num_samples", "max_new_tokens", "every_steps", "limit"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"eval.{name}", value, "1 or more")
        require(self.temperature >= 0, "eval.temperature", self.temperature, "0 or more")
        require(0 < self.top_p <= 1, "eval.top_p", self.top_p, "in (0, 1]")
        require(self.seed >= 0, "eval.seed", self.seed, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One (recipe, seed), or the untrained base model, which is evaluated once and stands in every table."""

    id: str
    """12 hex digits: `identity.trial_id`."""
    kind: TrialKind
    model: Model
    recipe: Recipe | None
    """None for the base model."""
    seed: int | None
    """None for the base model."""
    model_digest: str
    data_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTrial:
    """A trial as one experiment sees it: where it stands in the grid, and what it may occupy."""

    trial: Trial
    axes: dict[str, str | int | float]
    """Grid axis → this trial's value, seed left out; a base model has only axes that choose the model."""
    evaluation: EvalSettings
    resources: Resources
    guards: Guards = field(default_factory=Guards)
    """What warns, pauses or stops its training."""

    @property
    def label(self) -> str:
        """Short human name, for example `grpo · gmts · 0.2 · seed 0`."""
        if self.trial.kind == "base":
            return "base"
        return " · ".join([*(str(value) for value in self.axes.values()), f"seed {self.trial.seed}"])
