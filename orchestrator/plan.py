"""SweepSpec → Plan: trials with ids, base models first, and what the store already knows of each. Pure.

Digests of models and data are taken through the two functions handed in, so that a plan needs neither torch nor a hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import PlanError
from orchestrator.identity import base_trial_id, hash_of, trial_id
from orchestrator.trial import PlannedTrial, Trial
from trainers.api import Model

if TYPE_CHECKING:
    from orchestrator.record import RunRecord
    from orchestrator.spec import SweepSpec

Axes = Mapping[str, str | int | float]
State = Literal["new", "partial", "failed", "running", "done"]


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
    """Changes whenever a trial, its place in the grid, its evaluation or its resources do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a sweep would do about one trial, and why."""

    planned: PlannedTrial
    state: State
    shared_with: tuple[str, ...]
    """Other experiments of the same runs folder that want this trial."""
    reason: str


def make_plan(
    spec: SweepSpec,
    *,
    data_folder: Path | None,
    model_digest: Callable[[Model], str] | None = None,
    data_digest: Callable[[str, Path | None], str] | None = None,
) -> Plan:
    """Give every point and seed of a spec its identity, base models first.

    Args:
        spec: the checked experiment.
        data_folder: where benchmark files lie, if anywhere.
        model_digest: content digest of a model; by default `trainers.models.model_digest`.
        data_digest: digest of a data set by name; by default `eval.benchmarks.registry.digest`.

    Raises:
        PlanError: an unknown template. OrchError: an unknown model, data set, benchmark or trainer.
    """
    if model_digest is None:
        from trainers.models import model_digest
    if data_digest is None:
        from eval.benchmarks.registry import digest as data_digest
    _check_names(spec, data_folder, data_digest)
    digest_of = _Digests(model=cache(model_digest), data=cache(lambda name: data_digest(name, data_folder)))
    models = dict.fromkeys(arm.recipe.model for arm in spec.arms)
    bases = [_planned(spec, _base(model, digest_of), {}) for model in models]
    trained = [_planned(spec, trial, axes) for trial, axes in _trained(spec, digest_of)]
    entries = {planned.trial.id: planned for planned in reversed([*bases, *trained])}
    ordered = tuple(reversed(entries.values()))
    return Plan(
        experiment=spec.experiment,
        file=str(spec.file),
        axes=spec.axes,
        entries=ordered,
        config=spec.config,
        digest=_plan_digest(spec, ordered),
    )


def reconcile(
    plan: Plan,
    records: Mapping[str, RunRecord],
    *,
    is_complete: Callable[[RunRecord, PlannedTrial], bool],
    is_running: Callable[[str], bool],
    others: Mapping[str, tuple[str, ...]],
) -> list[Decision]:
    """Say of each trial what a sweep would do.

    Args:
        plan: the plan.
        records: trial id → record, of the trials that have one.
        is_complete: whether a record holds all that the plan wants.
        is_running: whether a process works on a trial now.
        others: trial id → names of the other experiments that plan it.
    """
    decisions = []
    for planned in plan.entries:
        shared = others.get(planned.trial.id, ())
        record = records.get(planned.trial.id)
        state, reason = _state(planned, record, is_complete=is_complete, is_running=is_running)
        if shared:
            reason += f"; shared with {', '.join(shared)}"
        decisions.append(Decision(planned=planned, state=state, shared_with=shared, reason=reason))
    return decisions


def _state(
    planned: PlannedTrial,
    record: RunRecord | None,
    *,
    is_complete: Callable[[RunRecord, PlannedTrial], bool],
    is_running: Callable[[str], bool],
) -> tuple[State, str]:
    if record is None:
        return "new", "never run"
    if is_running(planned.trial.id):
        return "running", "another process works on it"
    if is_complete(record, planned):
        return "done", f"complete since {record.updated_at}"
    if record.failure is not None:
        return "failed", f"failed and will be tried again: {record.failure.message.splitlines()[0]}"
    if record.train is None and planned.trial.kind == "train":
        return "partial", "training continues from its last checkpoint"
    return "partial", "trained; some scores are missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Digests:
    model: Callable[[Model], str]
    data: Callable[[str], str]


def _base(model: Model, digest_of: _Digests) -> Trial:
    digest = digest_of.model(model)
    return Trial(
        id=base_trial_id(model, model_digest=digest),
        kind="base",
        model=model,
        recipe=None,
        seed=None,
        model_digest=digest,
        data_digest=None,
    )


def _trained(spec: SweepSpec, digest_of: _Digests) -> Iterator[tuple[Trial, Axes]]:
    for arm in spec.arms:
        model, data = digest_of.model(arm.recipe.model), digest_of.data(arm.recipe.data.name)
        for seed in spec.seeds:
            yield (
                Trial(
                    id=trial_id(arm.recipe, seed=seed, data_digest=data, model_digest=model),
                    kind="train",
                    model=arm.recipe.model,
                    recipe=arm.recipe,
                    seed=seed,
                    model_digest=model,
                    data_digest=data,
                ),
                arm.axes,
            )


def _planned(spec: SweepSpec, trial: Trial, axes: Axes) -> PlannedTrial:
    return PlannedTrial(trial=trial, axes=dict(axes), evaluation=spec.evaluation, resources=spec.resources)


def _plan_digest(spec: SweepSpec, entries: tuple[PlannedTrial, ...]) -> str:
    places = [{"id": planned.trial.id, "axes": planned.axes} for planned in entries]
    return hash_of({"places": places, "evaluation": spec.evaluation, "resources": spec.resources})


def _check_names(spec: SweepSpec, data_folder: Path | None, data_digest: Callable[[str, Path | None], str]) -> None:
    """Find every name that would otherwise fail hours later: templates, benchmarks, trainers."""
    from eval.templates import template
    from trainers.registry import check_trainer

    recipes = [arm.recipe for arm in spec.arms]
    for name in dict.fromkeys([spec.evaluation.template, *(recipe.data.template for recipe in recipes)]):
        template(name)
    for name in dict.fromkeys(recipe.trainer for recipe in recipes):
        check_trainer(name)
    for name in spec.evaluation.benchmarks:
        data_digest(name, data_folder)
    if not spec.evaluation.benchmarks:
        raise PlanError("eval.benchmarks is empty", where="eval.benchmarks", mend="name at least one benchmark")
