"""A trial: the unit that is planned, scheduled, run once and recorded. Pure data; ids come from `identity`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.codec import encode
from orchestrator.config.blocks import EvalSettings, Guards, Schedule, UntilDecided
from orchestrator.plan.identity import hash_of
from trainers.recipe import Model, Recipe, Resources

TrialKind = Literal["train", "base"]


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
            return self.arm_label
        return " · ".join([*(str(value) for value in self.axes.values()), f"seed {self.trial.seed}"])

    @property
    def arm_label(self) -> str:
        """The label without the seed; where no axis varies, its kind."""
        if self.trial.kind == "base":
            return "base"
        return " · ".join(str(value) for value in self.axes.values()) or "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The trials that an experiment asks for, in the order in which they are to run."""

    experiment: str
    file: str
    axes: tuple[str, ...]
    entries: tuple[PlannedTrial, ...]
    config: dict[str, Any]
    """The composed base values and the sweep block."""
    digest: str
    """Changes whenever a trial, its place in the grid, its evaluation or its resources do, or the schedule."""
    schedule: Schedule = field(default_factory=Schedule)
    until: UntilDecided | None = None
    """What adds seeds to the entries as results come (`growth`); None where the entries are all there will be."""


def plan_digest(
    experiment: str,
    axes: tuple[str, ...],
    entries: tuple[PlannedTrial, ...],
    *,
    schedule: Schedule,
    until: UntilDecided | None = None,
) -> str:
    """Return what changes whenever a trial, its place in the grid, its evaluation, resources or schedule does."""
    shapes: dict[tuple[EvalSettings, Resources], str] = {}
    places = []
    for planned in entries:
        shape = (planned.evaluation, planned.resources)
        if shape not in shapes:
            shapes[shape] = hash_of(list(shape))
        places.append([planned.trial.id, planned.axes, shapes[shape]])
    content: dict[str, Any] = {"experiment": experiment, "axes": axes, "places": places}
    content |= {} if schedule == Schedule() else {"schedule": encode(schedule)}
    return hash_of(content | ({} if until is None else {"until": encode(until)}))
