"""Which arms are compared with which: a selector with another one on as many tokens. For plans and for tables.

Two arms may be compared if their recipes differ in the selection alone and keep the same share of tokens: each selector
with ETS, the method that the others set out to improve, and each with as many random tokens, where there are such arms.
An axis on which both stand, such as the dense steps before selection, has to have one value for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config.blocks import DeclaredContrast
from orchestrator.errors import PlanError
from orchestrator.plan.arm import arm_of, family_of
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.plan.where import check_where, matches
from trainers.methods import CONTROL, DENSE, FIRST_SELECTOR

REFERENCES = (FIRST_SELECTOR, CONTROL)
"""What selectors are compared with, the first before the second."""
NO_SELECTOR = (DENSE, CONTROL)
_OWN_AXES = ("selection", "selection.method", "selection.preset", "selection.end")
"""Axes that say which selector an arm is, and so differ between two selectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTraits:
    """What of a trained arm decides whom it is compared with."""

    arm: str
    family: str | None
    method: str
    ratio: float | None
    end: str
    axes: Mapping[str, Any]
    """Axis → value, of those on which it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """First minus second."""

    first: str
    """An arm."""
    second: str
    label: str
    """For example `grpo · gmts · 0.2 − grpo · ets · 0.2`."""


def selector_pairs(arms: Sequence[ArmTraits]) -> Iterator[tuple[str, str]]:
    """Arm and reference, in the order of the references and then of the arms."""
    for reference in REFERENCES:
        for ours in arms:
            for theirs in arms:
                is_selector = ours.method not in (*NO_SELECTOR, reference)
                is_same_end = reference == CONTROL or ours.end == theirs.end
                if is_selector and theirs.method == reference and is_same_end and are_alike(ours, theirs):
                    yield ours.arm, theirs.arm


def are_alike(ours: ArmTraits, theirs: ArmTraits) -> bool:
    """Whether two arms differ in which tokens they take alone: the same family, share and place on common axes."""
    common = [axis for axis in ours.axes if axis in theirs.axes and axis not in _OWN_AXES]
    is_same_place = all(ours.axes[axis] == theirs.axes[axis] for axis in common)
    return ours.family == theirs.family and ours.ratio == theirs.ratio and is_same_place


def arms_of(plan: Plan) -> dict[str, PlannedTrial]:
    """Trained arm → its first trial, in planned order."""
    found: dict[str, PlannedTrial] = {}
    for planned in plan.entries:
        if planned.trial.kind == "train":
            found.setdefault(arm_of(planned), planned)
    return found


def primary_contrasts(plan: Plan) -> tuple[Contrast, ...]:
    """What decides how many seeds there are; empty for a plan whose seeds are listed.

    Raises:
        PlanError: there is nothing to decide. OrchError: a declared contrast names what no trial is.
    """
    if plan.until is None:
        return ()
    arms = arms_of(plan)
    pairs = tuple(selector_pairs([traits_of(arm, planned) for arm, planned in arms.items()]))
    if plan.until.contrasts:
        declared = [_declared(one, place, arms) for place, one in enumerate(plan.until.contrasts)]
        pairs = tuple(dict.fromkeys(pair for found in declared for pair in found))
    if not pairs:
        raise PlanError(
            "no two selectors keep the same share of tokens, so there is nothing to decide",
            where="sweep.seeds",
            fix="add `random` or `ets` to the selection axis at the same ratio, name `contrasts:`, or list the seeds",
        )
    return tuple(
        Contrast(first=one, second=other, label=f"{arms[one].arm_label} − {arms[other].arm_label}")
        for one, other in pairs
    )


def traits_of(arm: str, planned: PlannedTrial) -> ArmTraits:
    """Of a trained arm, from one of its trials."""
    recipe = planned.trial.recipe
    assert recipe is not None
    chosen = recipe.selection
    return ArmTraits(
        arm=arm,
        family=family_of(planned),
        method=chosen.method,
        ratio=chosen.ratio,
        end=chosen.end,
        axes=planned.axes,
    )


def _declared(one: DeclaredContrast, place: int, arms: Mapping[str, PlannedTrial]) -> list[tuple[str, str]]:
    """Each arm of the first with each of the second that has the same recipe but for the selection."""
    key, trials = f"sweep.seeds.contrasts[{place}]", [*arms.values()]
    check_where(one.first, trials, key=f"{key}.first")
    check_where(one.second, trials, key=f"{key}.second")
    found = [
        (arm, other)
        for arm, ours in arms.items()
        for other, theirs in arms.items()
        if arm != other
        and matches(ours, one.first)
        and matches(theirs, one.second)
        and family_of(ours) == family_of(theirs)
    ]
    if not found:
        raise PlanError(
            f"{key} compares no two arms whose recipes differ in selection alone",
            where=key,
            fix="choose first and second among the arms of one algorithm, model and recipe",
        )
    return found
