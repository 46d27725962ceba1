"""A swept experiment, read once from the store: what its figures and pages are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dashboards.drift import with_drift
from dashboards.frame import frame
from dashboards.seed_looks import with_looks
from dashboards.selector_contrasts import SelectorContrast
from dashboards.table import Row, Table, table
from orchestrator.plan.arm import arm_of
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.store.record import RunRecord
from orchestrator.store.store import Store

CURVES: Mapping[str, str] = {
    "reward/mean": "share of right responses in training",
    "tokens/entropy": "entropy H of all response tokens, nats",
    "tokens/renyi2": "Rényi entropy H2 = −ln C of all response tokens, nats",
    "response/length_mean": "tokens of a response",
    "response/truncated_share": "responses cut by the length limit",
    "gradient/norm": "gradient norm before clipping",
    "policy/clip_fraction": "share of tokens whose surrogate is clipped",
    "select/ratio": "selected over all response tokens",
    "select/gradient_share": "squared gradient norm that the selected tokens carry, share",
}
"""The training metrics that are drawn, and what each one says. Names as in `trainers.diagnostics.METRICS`."""

Curve = tuple[tuple[int, float], ...]
"""(training step, value), in order of steps."""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """An experiment with everything the store knows of it."""

    plan: Plan
    frame: pd.DataFrame
    """`dashboards.frame.frame`."""
    table: Table
    records: Mapping[str, RunRecord]
    """Trial id → record, for those that were begun."""
    arms: Mapping[str, tuple[PlannedTrial, ...]]
    """Arm → its trials, one a seed, in planned order."""
    curves: Mapping[str, Mapping[str, Curve]]
    """Trial id → metric of `CURVES` → its values."""
    diagnosed: Mapping[str, Path]
    """Trial id → the tokens of its final policy that `orch diagnose` kept."""

    @property
    def name(self) -> str:
        """The experiment's."""
        return self.plan.experiment

    @property
    def scores(self) -> Mapping[tuple[str, str], tuple[float, float]]:
        """(trial id, benchmark) → avg and its standard error, of what is scored; fractions."""
        scored = self.frame[self.frame["state"] == "scored"]
        keys = zip(scored["trial"], scored["benchmark"], strict=True)
        return dict(zip(keys, zip(scored["avg"], scored["se"], strict=True), strict=True))

    def undiagnosed(self) -> tuple[str, ...]:
        """One trained trial of every arm that `orch diagnose` has looked at none of."""
        found = []
        for trials in self.arms.values():
            ids = [one.trial.id for one in trials if one.trial.recipe is not None]
            trained = [one for one in ids if one in self.records and self.records[one].train is not None]
            if trained and not any(one in self.diagnosed for one in ids):
                found.append(trained[0])
        return tuple(found)

    def seeds_of(self, arm: str) -> tuple[PlannedTrial, ...]:
        """The planned trials of an arm, one a seed."""
        return self.arms[arm]


def read_swept(store: Store, experiment: str) -> Swept:
    """Read an experiment.

    Raises:
        StoreError: no such experiment, or a record does not read.
    """
    plan = store.plans.read(experiment)
    trial_ids = [planned.trial.id for planned in plan.entries]
    found = {trial_id: store.find(trial_id) for trial_id in trial_ids}
    data = frame(store, experiment)
    arms: dict[str, tuple[PlannedTrial, ...]] = {}
    for planned in plan.entries:
        arm = arm_of(planned)
        arms[arm] = (*arms.get(arm, ()), planned)
    return Swept(
        plan=plan,
        frame=data,
        table=with_looks(with_drift(table(data), plan), plan, store),
        records={trial_id: record for trial_id, record in found.items() if record is not None},
        arms=arms,
        curves={trial_id: _curves(store, trial_id) for trial_id in trial_ids},
        diagnosed={trial_id: file for trial_id in trial_ids if (file := _tokens(store, trial_id)).is_file()},
    )


def label_of(row: Row | SelectorContrast) -> str:
    """An arm's place in the grid, as tables write it, without the axes that do not apply."""
    return " · ".join(label for label in row.labels if label != "–")


def seeds_said(row: Row) -> str:
    """How many of the planned seeds stand behind a row's average."""
    planned = row.num_seeds_planned
    count = row.average.num_seeds
    return f"{count} of {planned} seeds" if count != planned else f"{count} seed{'' if count == 1 else 's'}"


def _tokens(store: Store, trial_id: str) -> Path:
    return store.trial_folder(trial_id) / "diagnosis" / "final" / "tokens.parquet"


def _curves(store: Store, trial_id: str) -> dict[str, Curve]:
    rows = store.metrics(trial_id)
    curves = {name: tuple((int(row["step"]), float(row[name])) for row in rows if _has(row, name)) for name in CURVES}
    return {name: curve for name, curve in curves.items() if curve}


def _has(row: Mapping[str, object], name: str) -> bool:
    """Whether a finite number of that name is there: NaN is a gap, not a value."""
    value = row.get(name)
    return isinstance(value, (int, float)) and value - value == 0
