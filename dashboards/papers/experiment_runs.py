"""The arms of a swept experiment as a paper's rows ask for them: which trials stand behind a row, and their scores.

A row says what was trained (`published.Arm`); a trial is behind it if its recipe agrees in all that the row states,
after `stands_for` has put the paper's model and data in the place of a twin's own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from dashboards.frame import frame
from dashboards.papers.published import Arm
from eval.graders.api import OURS, GraderName
from orchestrator.config.published import StandsFor
from orchestrator.plan.arm import arm_of
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.store.store import Store
from trainers.methods import METHODS


@dataclass(frozen=True, kw_only=True)
class ExperimentRuns:
    """An experiment as the store knows it."""

    plan: Plan
    stands_for: StandsFor
    frame: pd.DataFrame
    """`dashboards.frame.frame`: one row a trial and benchmark."""

    @cached_property
    def benchmarks(self) -> tuple[str, ...]:
        """What the experiment evaluates on."""
        return tuple(str(name) for name in self.frame["benchmark"].unique())

    @cached_property
    def usual_grader(self) -> str | None:
        """The grader version of most scores; None where nothing is scored."""
        counts = Counter(self.frame.loc[self.frame["state"] == "scored", "grader_version"])
        return str(counts.most_common(1)[0][0]) if counts else None

    @cached_property
    def _arms(self) -> dict[str, PlannedTrial]:
        """Arm → one of its trials, in planned order."""
        arms: dict[str, PlannedTrial] = {}
        for planned in self.plan.entries:
            arms.setdefault(arm_of(planned), planned)
        return arms

    @cached_property
    def _behind(self) -> dict[Arm, tuple[str, ...]]:
        """Filled by `arms_behind`: a table asks for the same row in every column and claim."""
        return {}

    @cached_property
    def _parts(self) -> dict[tuple[str, str], pd.DataFrame]:
        groups = self.frame.groupby(["arm", "benchmark"], sort=False)
        return {(str(arm), str(benchmark)): part for (arm, benchmark), part in groups}

    def arms_behind(self, arm: Arm) -> tuple[str, ...]:
        """The arms that agree with all that a row states, in planned order."""
        if arm not in self._behind:
            agreeing = (name for name, one in self._arms.items() if is_behind(one, arm, self.stands_for))
            self._behind[arm] = tuple(agreeing)
        return self._behind[arm]

    def rows_of(self, arm: str, benchmark: str) -> pd.DataFrame:
        """One row a seed; none where the arm is not evaluated on that benchmark."""
        return self._parts.get((arm, benchmark), self.frame.iloc[:0])

    def trial_ids(self, arm: str) -> tuple[str, ...]:
        """The seeds of an arm."""
        return tuple(dict.fromkeys(self.frame.loc[self.frame["arm"] == arm, "trial"]))

    def training_data(self, arm: str) -> str | None:
        """Name of an arm's training set; None for a base model."""
        recipe = self._arms[arm].trial.recipe
        return None if recipe is None else recipe.data.name

    def labels(self) -> dict[str, str]:
        """Arm → its place in the grid, without the seed."""
        return {arm: planned.arm_label for arm, planned in self._arms.items()}


def read_runs(store: Store, experiment: str, stands_for: StandsFor, grader: GraderName = OURS) -> ExperimentRuns:
    """Read a swept experiment with its scores by one grader.

    Raises:
        StoreError: no such experiment, or a record does not read.
    """
    plan = store.plans.read(experiment)
    return ExperimentRuns(plan=plan, stands_for=stands_for, frame=frame(store, experiment, grader))


def is_behind(planned: PlannedTrial, arm: Arm, stands_for: StandsFor) -> bool:
    """Whether a trial is what a row states: equal in every key that the row has."""
    trial, recipe = planned.trial, planned.trial.recipe
    model = stands_for.model or trial.model.path.rpartition("/")[2]
    if recipe is None or arm.algorithm is None:
        return recipe is None and arm.algorithm is None and arm.model in (None, model)
    stated = (
        (arm.model, model),
        (arm.training_data, stands_for.training_data or recipe.data.name),
        (arm.max_response_tokens, stands_for.max_response_tokens or recipe.data.max_response_tokens),
        (arm.algorithm, recipe.algorithm.name),
        (arm.method, recipe.selection.method),
        (arm.ratio, recipe.selection.ratio),
    )
    has_end = "end" in METHODS[recipe.selection.method].options  # random tokens are neither the highest nor the lowest
    is_same_end = arm.ratio is None or not has_end or arm.end == recipe.selection.end
    return is_same_end and all(wanted in (None, found) for wanted, found in stated)
