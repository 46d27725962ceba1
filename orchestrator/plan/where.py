"""What trials are told apart by, in commands and in `schedule:`; `{selection: ets}` means all that train with ETS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eval.errors import did_you_mean
from orchestrator.config.blocks import KEY, Schedule, Where, spell
from orchestrator.errors import OrchError
from orchestrator.plan.trial import PlannedTrial


def traits(planned: PlannedTrial) -> dict[str, str]:
    """Trait → value: the axes of its experiment, and what every trial has."""
    trial, recipe = planned.trial, planned.trial.recipe
    found = {"kind": trial.kind, "model": trial.model.path}
    if recipe is not None:
        found |= {"algorithm": recipe.algorithm.name, "selection": recipe.selection.method, "trainer": recipe.trainer}
        found["seed"] = str(trial.seed)
    return found | {axis: str(value) for axis, value in planned.axes.items()}


def matches(planned: PlannedTrial, where: Where) -> bool:
    """Whether a trial has one of the wanted values of every trait."""
    found = traits(planned)
    return all(found.get(name) in values for name, values in where.items())


def check_where(where: Where, trials: Sequence[PlannedTrial], *, key: str) -> None:
    """Refuse a choice that no trial fits.

    Raises:
        OrchError: an unknown trait, a value that no trial has, or values that no trial has together.
    """
    known: dict[str, set[str]] = {}
    for planned in trials:
        for name, value in traits(planned).items():
            known.setdefault(name, set()).add(value)
    for name, values in where.items():
        if name not in known:
            raise _unknown(f"no trial has a {name!r}", name, known, key=key)
        for value in values:
            if value not in known[name]:
                raise _unknown(f"no trial has {name}={value}", value, known[name], key=key)
    if not any(matches(planned, where) for planned in trials):
        raise OrchError(f"no trial is all of {spell(where)}", where=key, fix="leave one of them out")


def priority_of(planned: PlannedTrial, schedule: Schedule) -> int:
    """The first priority of the schedule that fits; higher starts first."""
    return next((one.value for one in schedule.priority if matches(planned, one.where)), 0)


def caps_of(planned: PlannedTrial, schedule: Schedule) -> tuple[str, ...]:
    """Labels of the caps that a trial counts for."""
    return tuple(cap.label for cap in schedule.at_most if matches(planned, cap.where))


def check_schedule(schedule: Schedule, trials: Sequence[PlannedTrial]) -> None:
    """Refuse a rule that fits no trial at all.

    Raises:
        OrchError: the key, and what there is.
    """
    for index, one in enumerate(schedule.priority):
        check_where(one.where, trials, key=f"{KEY}.priority[{index}].where")
    for index, cap in enumerate(schedule.at_most):
        check_where(cap.where, trials, key=f"{KEY}.at_most[{index}].where")


def _unknown(what: str, name: str, known: Iterable[str], *, key: str) -> OrchError:
    names = sorted(known)
    return OrchError(what, where=key, fix=f"{did_you_mean(name, names)}there are: {', '.join(names)}")
