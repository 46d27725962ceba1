"""Has an experiment's file changed since it was swept? Tables show the kept plan; this says what it is no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dashboards.table import Table
from orchestrator.codec import encode
from orchestrator.config.spec import SweepSpec, load_sweep
from orchestrator.errors import OrchError
from orchestrator.plan.identity import canonical_json
from orchestrator.plan.trial import Plan, PlannedTrial


def drift(plan: Plan) -> str:
    """One sentence on how the file differs from the kept plan; empty if it does not, or is not on this machine.

    Command-line changes of the sweep are applied again. Contents of models and data are not compared.
    """
    file = Path(plan.file)
    if not file.is_file():
        return ""
    try:
        spec = load_sweep(file, plan.config.get("overrides", ()))
    except OrchError as error:
        return f"{plan.file} does not read any more ({error.what}): the table shows what was swept."
    wanted, kept = _wanted(spec), _kept(plan)
    parts = [
        f"{len(wanted - kept)} of its trials were not planned then" if wanted - kept else "",
        f"{len(kept - wanted)} of those planned then are not wanted any more" if kept - wanted else "",
        "its seeds are decided in another way" if spec.until != plan.until else "",
    ]
    if not any(parts):
        return ""
    return f"{plan.file} changed since this sweep: {', '.join(part for part in parts if part)}. Sweep it again."


def with_drift(table: Table, plan: Plan) -> Table:
    """The table, with a warning where the experiment's file changed since."""
    changed = drift(plan)
    return replace(table, warnings=(changed, *table.warnings)) if changed else table


def _wanted(spec: SweepSpec) -> frozenset[str]:
    return frozenset(_spelled(point.recipe, point.seed, point.evaluation) for point in spec.points)


def _kept(plan: Plan) -> frozenset[str]:
    return frozenset(
        _spelled(planned.trial.recipe, planned.trial.seed, planned.evaluation)
        for planned in plan.entries
        if planned.trial.kind == "train" and not _is_grown(planned, plan)
    )


def _is_grown(planned: PlannedTrial, plan: Plan) -> bool:
    """Whether a look at the results added it, which is no change of the file."""
    return plan.until is not None and (planned.trial.seed or 0) >= plan.until.design.at_least


def _spelled(*parts: object) -> str:
    return canonical_json([encode(part) for part in parts])
