"""What a trainer is given, what it gives back, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from eval.api import Sampler
from trainers.recipe import Recipe, Resources

Phase = Literal["prepare", "sample", "score", "update", "evaluate", "checkpoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One attempt at training: where to read and write, and how to talk to the outside."""

    recipe: Recipe
    seed: int
    resources: Resources
    model_folder: Path
    """The initial model, resolved to a Hugging Face folder."""
    checkpoint_folder: Path
    """`runs/<id>/checkpoints`: survives attempts; the trainer resumes from what it finds there."""
    attempt_folder: Path
    """`runs/<id>/attempts/<n>`: this attempt's log and metrics.jsonl."""
    data_folder: Path | None = None
    """Where benchmark files lie (`--data-dir`, ORCH_DATA_DIR)."""
    on_phase: Callable[[Phase, int], None] = field(default=lambda phase, step: None)
    """Called with (phase, step) as work moves on."""
    on_doing: Callable[[str], None] = field(default=lambda doing: None)
    """Called within a step with what is going on and how far it is, as in `sample 5,120 of 8,192 responses`."""
    on_step: Callable[[dict[str, Any]], None] = field(default=lambda metrics: None)
    """Called once a completed step with its metrics, after they are on disk."""
    evaluate: Callable[[int, Sampler], None] | None = None
    """Called with (step, a sampler over the current policy) after every `evaluate_every`-th step but the last;
    it records the scores itself and returns at once where they exist, so a resumed step may repeat the call."""
    evaluate_every: int | None = None
    """Steps between calls of `evaluate`; None when there are none."""
    should_stop: Callable[[], bool] = field(default=lambda: False)
    """Polled between phases; when true the trainer checkpoints and returns with `is_finished=False`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What training left behind."""

    is_finished: bool
    """False when it stopped on request and can be resumed."""
    step: int
    """Last completed training step."""
    model_folder: Path
    """The final policy as an ordinary Hugging Face folder (meaningful when finished)."""
    metrics: dict[str, float]
    """The last step's metrics."""
    phase_seconds: dict[str, float]
    """Wall time by phase over this attempt."""
    peak_memory_mb: float
    num_parameters: int


POLICIES = "policies"
"""`checkpoint_folder/policies/<step>`: policies left by a trainer that cannot be sampled from while it trains, as
ordinary Hugging Face folders. They are evaluated when training has ended, and deleted."""


class Trainer(Protocol):
    """A backend. Stateless: one call trains one job from wherever its checkpoint folder stands."""

    def train(self, job: TrainJob) -> TrainResult:
        """Train until `recipe.steps` steps are done, or until asked to stop.

        Raises:
            OrchError: what a user can fix, such as a model that does not load.
        """
