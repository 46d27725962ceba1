"""SweepSpec → Plan: trials with ids, base models first, and what the store already knows of each. Pure.

What identifies models and data is asked of the two functions handed in, so that a plan needs neither torch nor a hub,
and comes out the same before and after anything is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchError, PlanError
from orchestrator.plan.contrasts import primary_contrasts
from orchestrator.plan.identity import base_trial_id, trial_id
from orchestrator.plan.reach import check_reach
from orchestrator.plan.trial import Plan, PlannedTrial, Trial, plan_digest
from orchestrator.plan.where import check_schedule
from trainers.recipe import Model

if TYPE_CHECKING:
    from orchestrator.config.spec import GridPoint, SweepSpec

ModelDigest = Callable[[Model], str]
DataIdentity = Callable[[str], str]


def make_plan(
    spec: SweepSpec,
    *,
    model_digest: ModelDigest | None = None,
    data_identity: DataIdentity | None = None,
) -> Plan:
    """Give every point and seed of a spec its identity, base models first.

    Args:
        spec: the checked experiment.
        model_digest: content digest of a model; by default `trainers.models.resolve.model_digest`.
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
    _placed(spec, "schedule", lambda: check_schedule(spec.schedule, entries))
    plan = Plan(
        experiment=spec.experiment,
        file=str(spec.file),
        axes=spec.axes,
        entries=entries,
        config=spec.config,
        digest=plan_digest(spec.experiment, spec.axes, entries, schedule=spec.schedule, until=spec.until),
        schedule=spec.schedule,
        until=spec.until,
    )
    _placed(spec, "sweep.seeds", lambda: primary_contrasts(plan))
    return plan


class _Trials:
    """Points to planned trials; each digest is computed once; an error carries its place in the file."""

    def __init__(self, spec: SweepSpec, model_digest: ModelDigest, data_identity: DataIdentity) -> None:
        self.model_digest = cache(lambda model: _placed(spec, "model.path", lambda: model_digest(model)))
        self.data_identity = cache(lambda name, key: _placed(spec, key, lambda: data_identity(name)))
        self._bases: dict[int, PlannedTrial] = {}

    def base(self, point: GridPoint) -> PlannedTrial:
        """The untrained model of a point."""
        if id(point.recipe) not in self._bases:
            self._bases[id(point.recipe)] = self._base(point)
        return self._bases[id(point.recipe)]

    def _base(self, point: GridPoint) -> PlannedTrial:
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

    def trained(self, point: GridPoint) -> PlannedTrial:
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


def _planned(trial: Trial, axes: dict[str, str | int | float], point: GridPoint) -> PlannedTrial:
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
        fix="axes over eval, cluster or guards train nothing of their own: zip them with a model or recipe axis, "
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
        _located(spec, partial(check_reach, point))
    for name in dict.fromkeys(recipe.data.template for recipe in recipes):
        _placed(spec, "data.template", partial(template, name))
    for evaluation in evaluations:
        _placed(spec, "eval.template", partial(template, evaluation.template))
        for name in evaluation.benchmarks:
            trials.data_identity(name, "eval.benchmarks")


def _placed(spec: SweepSpec, key: str, ask: Callable[[], Any]) -> Any:
    """Call; an error is raised anew with the file and key of the experiment that caused it."""
    try:
        return ask()
    except OrchError as error:
        place = spec.place_of(key)
        detail = f" ({error.where})" if error.where not in ("", key) else ""
        raise type(error)(error.what, where=place + detail, fix=error.fix) from error


def _located(spec: SweepSpec, ask: Callable[[], None]) -> None:
    """Call; an error that names its key itself is raised anew with the key's place in the experiment."""
    try:
        ask()
    except OrchError as error:
        raise type(error)(error.what, where=spec.place_of(error.where), fix=error.fix) from error


def _model_digest(model: Model) -> str:
    from trainers.models.resolve import model_digest

    return model_digest(model)


def _data_identity(name: str) -> str:
    from eval.benchmarks.registry import identity

    return identity(name)
