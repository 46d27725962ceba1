"""Which trial a live scheduler starts next: the planner's word on the plan's order, less what is held back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from orchestrator.cluster import Node, request_of
from orchestrator.failures import Holds
from orchestrator.planner import Planner, Task
from orchestrator.trial import PlannedTrial

log = logging.getLogger(__name__)


class StartOrder:
    """Hands out trials in the plan's order; one that does not fit now is passed by those that do."""

    def __init__(
        self, trials: Sequence[PlannedTrial], nodes: Sequence[Node], holds: Holds, *, max_running: int | None
    ) -> None:
        """Take trials each of which fits the nodes (`cluster.check_fits`); durations are not known here."""
        tasks = [Task(id=one.trial.id, request=request_of(one.resources), seconds=0.0) for one in trials]
        self._planner = Planner(nodes, tasks, rule="given", max_running=max_running)
        self._trials = {one.trial.id: one for one in trials}
        self._holds = holds

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to start."""
        return self._planner.num_waiting == 0

    def next(self) -> PlannedTrial | None:
        """The trial to start now; None until one of those that run has finished."""
        while (placement := self._planner.start_next(0.0)) is not None:
            planned = self._trials[placement.task.id]
            culprit = self._holds.culprit(planned.trial)
            if culprit is None:
                return planned
            log.warning("%s is held: %s, which differs in its seed only, failed", planned.trial.id, culprit)
            self.finish(planned.trial.id)
        return None

    def finish(self, trial_id: str) -> None:
        """Free what a trial occupied."""
        self._planner.finish(trial_id)
