"""SweepSpec → Plan: trials with ids, base models first, and what the store already knows of each. Pure.

What identifies models and data is asked of the two functions handed in, so that a plan needs neither torch nor a hub,
and comes out the same before and after anything is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.codec import encode
from orchestrator.errors import OrchError, PlanError
from orchestrator.identity import base_trial_id, hash_of, trial_id
from orchestrator.schedule import Schedule
from orchestrator.trial import EvalSettings, PlannedTrial, Trial
from trainers.api import Model, Resources

if TYPE_CHECKING:
    from orchestrator.record import RunRecord
    from orchestrator.spec import Point, SweepSpec

ModelDigest = Callable[[Model], str]
DataIdentity = Callable[[str], str]
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
    """Changes whenever a trial, its place in the grid, its evaluation or its resources do, or the schedule."""
    schedule: Schedule = field(default_factory=Schedule)


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
    model_digest: ModelDigest | None = None,
    data_identity: DataIdentity | None = None,
) -> Plan:
    """Give every point and seed of a spec its identity, base models first.

    Args:
        spec: the checked experiment.
        model_digest: content digest of a model; by default `trainers.models.model_digest`.
        data_identity: what stands for a data set by name; by default `eval.benchmarks.registry.identity`.

    Raises:
        OrchError: an unknown trainer, template, benchmark, data set or model, with its place in the file.
        PlanError: one trial wanted in two ways.
    """
    trials = _Trials(spec, model_digest or _model_digest, data_identity or _data_identity)
    _check_names(spec, trials)
    bases: dict[str, PlannedTrial] = {}
    trained: dict[str, PlannedTrial] = {}
    for point in spec.points:
        _put(bases, trials.base(point), spec)
        _put(trained, trials.trained(point), spec)
    entries = (*bases.values(), *trained.values())
    _placed(spec, "schedule", lambda: spec.schedule.check(entries))
    return Plan(
        experiment=spec.experiment,
        file=str(spec.file),
        axes=spec.axes,
        entries=entries,
        config=spec.config,
        digest=plan_digest(spec.experiment, spec.axes, entries, schedule=spec.schedule),
        schedule=spec.schedule,
    )


def plan_digest(
    experiment: str, axes: tuple[str, ...], entries: tuple[PlannedTrial, ...], *, schedule: Schedule
) -> str:
    """Return what changes whenever a trial, its place in the grid, its evaluation, resources or schedule does."""
    shapes: dict[tuple[EvalSettings, Resources], str] = {}
    places = []
    for planned in entries:
        shape = (planned.evaluation, planned.resources)
        if shape not in shapes:
            shapes[shape] = hash_of(list(shape))
        places.append([planned.trial.id, planned.axes, shapes[shape]])
    content = {"experiment": experiment, "axes": axes, "places": places}
    return hash_of(content if schedule == Schedule() else {**content, "schedule": encode(schedule)})


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
    if is_running(planned.trial.id):
        return "running", "another process works on it"
    if record is None or not record.attempts:
        return "new", "never run"
    if is_complete(record, planned):
        return "done", f"complete since {record.updated_at}"
    if record.failure is not None:
        reason = (record.failure.message or record.failure.kind).splitlines()[0]
        return "failed", f"failed and will be tried again: {reason}"
    if record.train is None and planned.trial.kind == "train":
        return "partial", "training continues from its last checkpoint"
    return "partial", "some scores are missing"


class _Trials:
    """Points to planned trials; each digest is asked for once, and what it refuses is told with its place."""

    def __init__(self, spec: SweepSpec, model_digest: ModelDigest, data_identity: DataIdentity) -> None:
        self.model_digest = cache(lambda model: _placed(spec, "model.path", lambda: model_digest(model)))
        self.data_identity = cache(lambda name, key: _placed(spec, key, lambda: data_identity(name)))
        self._bases: dict[int, PlannedTrial] = {}

    def base(self, point: Point) -> PlannedTrial:
        """The untrained model of a point."""
        if id(point.recipe) not in self._bases:
            self._bases[id(point.recipe)] = self._base(point)
        return self._bases[id(point.recipe)]

    def _base(self, point: Point) -> PlannedTrial:
        model = point.recipe.model
        digest = self.model_digest(model)
        trial = Trial(
            id=base_trial_id(model, model_digest=digest),
            kind="base",
            model=model,
            recipe=None,
            seed=None,
            model_digest=digest,
            data_digest=None,
        )
        axes = {axis: value for axis, value in point.axes.items() if axis.partition(".")[0] == "model"}
        return _planned(trial, axes, point)

    def trained(self, point: Point) -> PlannedTrial:
        """The training run of a point."""
        recipe = point.recipe
        model, data = self.model_digest(recipe.model), self.data_identity(recipe.data.name, "data.name")
        trial = Trial(
            id=trial_id(recipe, seed=point.seed, data_digest=data, model_digest=model),
            kind="train",
            model=recipe.model,
            recipe=recipe,
            seed=point.seed,
            model_digest=model,
            data_digest=data,
        )
        return _planned(trial, point.axes, point)


def _planned(trial: Trial, axes: dict[str, str | int | float], point: Point) -> PlannedTrial:
    resources = point.resources
    if trial.recipe is None:
        resources = replace(resources, num_nodes=1)  # only training spans nodes
    return PlannedTrial(trial=trial, axes=axes, evaluation=point.evaluation, resources=resources, guards=point.guards)


def _put(entries: dict[str, PlannedTrial], planned: PlannedTrial, spec: SweepSpec) -> None:
    """Keep the first of equal trials; refuse one that is to be evaluated or placed in two ways."""
    known = entries.setdefault(planned.trial.id, planned)
    if known is planned:
        return
    is_base = planned.trial.kind == "base"
    if known.evaluation != planned.evaluation:
        what = "evaluated with two different settings"
    elif known.resources != planned.resources and not is_base:
        what = "given two different sets of resources"
    elif known.guards != planned.guards and not is_base:
        what = "guarded in two different ways"
    else:
        return
    raise PlanError(
        f"the {'base model' if is_base else 'trial'} {planned.trial.id} ({planned.label}) would be {what}",
        where=str(spec.file),
        mend="axes over eval, cluster or guards train nothing of their own: zip them with a model or recipe axis, "
        "or write a second experiment",
    )


def _check_names(spec: SweepSpec, trials: _Trials) -> None:
    """Find every name that would otherwise fail hours later: templates, benchmarks, trainers."""
    from eval.templates import template
    from trainers.registry import check_fit, check_trainer

    recipes = {id(point.recipe): point.recipe for point in spec.points}.values()
    evaluations = dict.fromkeys(point.evaluation for point in {id(one.evaluation): one for one in spec.points}.values())
    for name in dict.fromkeys(recipe.trainer for recipe in recipes):
        _placed(spec, "trainer", partial(check_trainer, name))
    for point in {(id(one.recipe), id(one.resources), id(one.evaluation)): one for one in spec.points}.values():
        every = point.evaluation.every_steps
        _placed(spec, "trainer", partial(check_fit, point.recipe, point.resources, evaluate_every=every))
    for name in dict.fromkeys(recipe.data.template for recipe in recipes):
        _placed(spec, "data.template", partial(template, name))
    for evaluation in evaluations:
        _placed(spec, "eval.template", partial(template, evaluation.template))
        for name in evaluation.benchmarks:
            trials.data_identity(name, "eval.benchmarks")


def _placed(spec: SweepSpec, key: str, ask: Callable[[], Any]) -> Any:
    """Ask; what is refused is told with the file and key of the experiment that says so."""
    try:
        return ask()
    except OrchError as error:
        place = spec.place_of(key)
        detail = f" ({error.where})" if error.where not in ("", key) else ""
        raise type(error)(error.what, where=place + detail, mend=error.mend) from error


def _model_digest(model: Model) -> str:
    from trainers.models import model_digest

    return model_digest(model)


def _data_identity(name: str) -> str:
    from eval.benchmarks.registry import identity

    return identity(name)
