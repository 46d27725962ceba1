"""Which of the trials that may run now starts next: the planner's word on priorities, caps and the plan's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.cluster import Node, Request, request_of
from orchestrator.planner import Planner, Task
from orchestrator.schedule import Schedule
from orchestrator.trial import PlannedTrial


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides between trials that fit."""

    schedule: Schedule = field(default_factory=Schedule)
    priorities: Mapping[str, int] = field(default_factory=dict)
    """Trial id → priority, where somebody gave it one: instead of the schedule's."""
    max_running: int | None = None


class StartOrder:
    """Hands out trials by priority, then in the order given; one that does not fit now is passed by those that do."""

    def __init__(
        self,
        waiting: Sequence[PlannedTrial],
        nodes: Sequence[Node],
        *,
        rules: Rules,
        running: Sequence[PlannedTrial] = (),
    ) -> None:
        """Sort out what no node could hold; durations are not known here.

        Args:
            waiting: may start now as far as anybody but the cluster is concerned.
            nodes: what the cluster has when empty.
            rules: priorities and caps.
            running: what occupies the cluster already.
        """
        self._rules = rules
        able = {request: _can_hold(nodes, request) for request in {request_of(one.resources) for one in waiting}}
        self.unplaceable = tuple(one for one in waiting if not able[request_of(one.resources)])
        """What no node can hold, however long it waits."""
        placeable = [one for one in waiting if able[request_of(one.resources)]]
        tasks = [self._task(one) for one in placeable]
        caps = rules.schedule.caps
        self._planner = Planner(nodes, tasks, rule="given", caps=caps, max_running=rules.max_running)
        for one in running:
            self._planner.occupy(self._task(one))
        self._waiting = {one.trial.id: one for one in placeable}

    def next(self) -> PlannedTrial | None:
        """The trial to start now; None until one of those that run has finished."""
        placement = self._planner.start_next(0.0)
        return None if placement is None else self._waiting.pop(placement.task.id)

    def finish(self, trial_id: str) -> None:
        """Free what a trial occupied."""
        self._planner.finish(trial_id)

    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Why they wait → ids of those that fit the cluster and wait for their turn."""
        kinds: dict[tuple[Request, tuple[str, ...]], str] = {}
        found: dict[str, list[str]] = {}
        for trial_id, planned in self._waiting.items():
            kind = (request_of(planned.resources), self._rules.schedule.labels_of(planned))
            if kind not in kinds:
                kinds[kind] = self._planner.why_waiting(*kind)
            found.setdefault(kinds[kind], []).append(trial_id)
        return {reason: tuple(ids) for reason, ids in found.items()}

    def _task(self, planned: PlannedTrial) -> Task:
        schedule, trial_id = self._rules.schedule, planned.trial.id
        asked = self._rules.priorities.get(trial_id)
        return Task(
            id=trial_id,
            request=request_of(planned.resources),
            seconds=0.0,
            priority=-(asked if asked is not None else schedule.priority_of(planned)),
            labels=schedule.labels_of(planned),
        )


def _can_hold(nodes: Sequence[Node], request: Request) -> bool:
    return sum(node.holds(request) for node in nodes) >= request.num_nodes
