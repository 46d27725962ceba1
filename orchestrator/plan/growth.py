"""A plan that grows: the seeds which a design has asked for so far, added behind those that there are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.plan.arm import arm_of
from orchestrator.plan.contrasts import arms_of
from orchestrator.plan.identity import trial_id
from orchestrator.plan.trial import Plan, PlannedTrial, plan_digest


def with_num_seeds(plan: Plan, wanted: Mapping[str, int]) -> Plan:
    """The plan in which each arm has at least its wanted number of seeds, the lowest first; never fewer than now.

    Args:
        plan: of a design; its seeds are 0, 1, 2, …
        wanted: arm → number; arms that are not named keep what they have.
    """
    present = {(arm_of(planned), planned.trial.seed) for planned in plan.entries}
    added = [
        (seed, place, _with_seed(planned, seed))
        for place, (arm, planned) in enumerate(arms_of(plan).items())
        for seed in range(wanted.get(arm, 0))
        if (arm, seed) not in present
    ]
    if not added:
        return plan
    entries = (*plan.entries, *(planned for _, _, planned in sorted(added, key=lambda one: one[:2])))
    digest = plan_digest(plan.experiment, plan.axes, entries, schedule=plan.schedule, until=plan.until)
    return replace(plan, entries=entries, digest=digest)


def _with_seed(planned: PlannedTrial, seed: int) -> PlannedTrial:
    trial = planned.trial
    assert trial.recipe is not None
    assert trial.data_digest is not None
    new_id = trial_id(trial.recipe, seed=seed, data_digest=trial.data_digest, model_digest=trial.model_digest)
    return replace(planned, trial=replace(trial, id=new_id, seed=seed))
