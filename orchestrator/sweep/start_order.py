"""Which of the trials that may run now starts next: the planner's word on priorities, caps and the plan's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.config.blocks import Schedule
from orchestrator.plan.trial import PlannedTrial
from orchestrator.plan.where import caps_of, priority_of
from orchestrator.sweep.nodes import Node, ResourceRequest, request_of
from orchestrator.sweep.placement import Planner, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRules:
    """What decides between trials that fit."""

    schedule: Schedule = field(default_factory=Schedule)
    priorities: Mapping[str, int] = field(default_factory=dict)
    """Trial id → priority set by `orch ctl priority`, instead of the schedule's."""
    max_running: int | None = None
    avoid: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Trial id → names of nodes on which it has failed: it starts on others, where there are any that hold it."""


class StartOrder:
    """Hands out trials by priority, then in the order given; one that does not fit now is passed by those that do."""

    def __init__(
        self,
        waiting: Sequence[PlannedTrial],
        nodes: Sequence[Node],
        *,
        rules: StartRules,
        running: Sequence[PlannedTrial] = (),
    ) -> None:
        """Sort out what no node could hold; durations are not known here.

        Args:
            waiting: may start now as far as anybody but the cluster is concerned.
            nodes: what the cluster has when empty.
            rules: priorities and caps.
            running: what occupies the cluster already.
        """
        self._rules, self._nodes = rules, nodes
        able = {request: _can_hold(nodes, request) for request in {self.request(one) for one in waiting}}
        self.unplaceable = tuple(one for one in waiting if not able[self.request(one)])
        """What no node can hold, however long it waits."""
        placeable = [one for one in waiting if able[self.request(one)]]
        tasks = [self._task(one) for one in placeable]
        caps = rules.schedule.caps
        self._planner = Planner(nodes, tasks, caps=caps, max_running=rules.max_running)
        for one in running:
            self._planner.occupy(self._task(one))
        self._waiting = {one.trial.id: one for one in placeable}

    def request(self, planned: PlannedTrial) -> ResourceRequest:
        """What a trial asks for: not of the nodes on which it failed, or of as many of them as the others can spare."""
        request = request_of(planned.resources)
        suspects = self._rules.avoid.get(planned.trial.id, ())
        for number in range(len(suspects), 0, -1):
            elsewhere = replace(request, avoid=frozenset(suspects[:number]))
            if _can_hold(self._nodes, elsewhere):
                return elsewhere
        return request

    def next(self) -> PlannedTrial | None:
        """The trial to start now; None until one of those that run has finished."""
        placement = self._planner.start_next(0.0)
        return None if placement is None else self._waiting.pop(placement.task.id)

    def finish(self, trial_id: str) -> None:
        """Free what a trial occupied."""
        self._planner.finish(trial_id)

    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Why they wait → ids of those that fit the cluster and wait for their turn."""
        kinds: dict[tuple[ResourceRequest, tuple[str, ...]], str] = {}
        found: dict[str, list[str]] = {}
        for trial_id, planned in self._waiting.items():
            kind = (self.request(planned), caps_of(planned, self._rules.schedule))
            if kind not in kinds:
                kinds[kind] = self._planner.why_waiting(*kind)
            found.setdefault(kinds[kind], []).append(trial_id)
        return {reason: tuple(ids) for reason, ids in found.items()}

    def _task(self, planned: PlannedTrial) -> Task:
        schedule, trial_id = self._rules.schedule, planned.trial.id
        asked = self._rules.priorities.get(trial_id)
        return Task(
            id=trial_id,
            request=self.request(planned),
            priority=-(asked if asked is not None else priority_of(planned, schedule)),
            labels=caps_of(planned, schedule),
        )


def _can_hold(nodes: Sequence[Node], request: ResourceRequest) -> bool:
    return sum(node.holds(request) for node in nodes) >= request.num_nodes
