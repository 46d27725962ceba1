"""What a sweep has left to do, while it runs: the one object that decides what may start, and why the rest waits.

    plan, requests, records ─ refresh ─▶ ready · running · later · elsewhere · unread · blocked · held · over
                                        └ next ─▶ a scheduler runs it ─▶ finish ─┘

Schedulers ask it for the next trial and tell it when one has ended. A thread of the driver keeps it fresh: requests of
`orch ctl`, a plan that was edited, retries that are due, trials that other processes have let go.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from orchestrator.errors import OrchError
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.status.driver import Wait, Waiting
from orchestrator.status.rows import SweepView
from orchestrator.status.state import State
from orchestrator.store.record import RunRecord, Status
from orchestrator.store.redact import now
from orchestrator.store.requests import NO_REQUEST, Requests, TrialRequest
from orchestrator.store.store import Store
from orchestrator.sweep.nodes import Node, request_of
from orchestrator.sweep.start_order import StartOrder, StartRules
from orchestrator.trial.retry import SiblingHolds, class_of, nodes_to_avoid, wait_before_retry_s

log = logging.getLogger(__name__)

Stage = Literal["ready", "running", "later", "elsewhere", "unread", "blocked", "held", "over"]
"""`later`: a retry that is not due; `elsewhere`: another process has it; `unread`: its record does not read; `blocked`:
a sibling failed in a way that repeats; `held`: paused or cancelled; `over`: done, or failed for good."""
_FIRST_STAGE: Mapping[State, Stage] = {"done": "over", "paused": "held", "cancelled": "held", "running": "elsewhere"}
"""Where a trial begins by its state; `ready` where none is named."""
HERE = (Node(num_gpus=float("inf"), num_cpus=float("inf"), memory_gb=float("inf")),)
"""The nodes of a scheduler that runs one trial after another in its own process."""
_NOT_BEGUN_WAIT_S, _LONGEST_NOT_BEGUN_WAIT_S = 2.0, 60.0
"""Before a trial is handed out again whose process never came to its first word; doubled while its supervisor fails."""
_UNREAD_S = 60.0
"""How long a record that does not read keeps a sweep alive that has nothing else to do: a file server may be back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What surrounds an queue."""

    data_folder: Path | None = None
    max_running: int | None = None
    first_retry_wait_s: float = 30.0
    """Before a trial that failed for a passing reason is started again; doubled each time."""
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the whole sweep was asked to stop: what dies then was killed, and is not tried again."""
    grow: Callable[[Plan], Plan] = lambda plan: plan
    """The plan with the seeds that its design asks for by now, kept in the store where it has grown."""
    give_up: Callable[[PlannedTrial, str], None] = lambda planned, why: None
    """Puts on record that a trial was never placed, and why."""
    on_event: Callable[[str], None] = log.info
    """Told, in one line each, of what changes without anybody's doing."""
    clock: Callable[[], float] = time.monotonic


class TrialQueue:
    """Safe to use from several threads."""

    def __init__(self, plan: Plan, store: Store, settings: QueueSettings) -> None:
        """Look at every trial of the plan once."""
        self._store, self._settings = store, settings
        self._requests: Requests = Requests(store.root, now=now)
        self._asked: Mapping[str, TrialRequest] = {}
        self._holds = SiblingHolds(store)
        self._lock = threading.RLock()
        self._nodes: tuple[Node, ...] = HERE
        self._trials: dict[str, PlannedTrial] = {}
        self._stages: dict[str, Stage] = {}
        self._since: dict[str, int] = {}
        """Attempts that a trial had when this driver began."""
        self._handed: dict[str, tuple[PlannedTrial, int]] = {}
        """Trial id → what runs, and the attempts that it had before."""
        self._due: dict[str, tuple[float, str]] = {}
        """Trial id → when it is handed out again, and why not before."""
        self._unread_since_s: dict[str, float] = {}
        """Trial id → since when its record does not read."""
        self._not_begun: dict[str, tuple[float, int]] = {}
        """Trial id → since when its supervisor fails before the trial begins, and how often it did."""
        self._avoid: dict[str, tuple[str, ...]] = {}
        """Trial id → nodes on which it has failed under this driver, in a way that others may not repeat."""
        self._blocked_by: dict[str, str] = {}
        self._unplaced_since_s: dict[str, float] = {}
        self._order: StartOrder | None = None
        self._is_draining = False
        self._is_look_due = True
        """Whether a trial has ended, or the plan was replaced, since it was last asked to grow."""
        self.adopt(plan)

    @property
    def plan(self) -> Plan:
        """The plan that it works on."""
        return self._plan

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The cluster as last seen; empty where trials run in this process."""
        return () if self._nodes is HERE else self._nodes

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is started."""
        return self._is_draining

    @property
    def is_over(self) -> bool:
        """Whether nothing runs, and nothing will start unless a request changes that."""
        with self._lock:
            if self._handed or self._is_draining:
                return not self._handed
            if set(self._stages.values()) & {"ready", "running", "later", "elsewhere"}:
                return False
            moment_s = self._settings.clock()
            return all(moment_s - self._unread_since_s[one] >= _UNREAD_S for one in self._of("unread"))

    @property
    def to_start(self) -> tuple[PlannedTrial, ...]:
        """What may start now or later."""
        with self._lock:
            stages = self._stages
            return tuple(one for one in self._plan.entries if stages[one.trial.id] in ("ready", "later", "elsewhere"))

    def adopt(self, plan: Plan) -> tuple[int, int]:
        """Work on this plan from here on; how many trials came and went. What runs already runs on."""
        with self._lock:
            view, asked = (
                SweepView(self._store, plan.entries, data_folder=self._settings.data_folder),
                self._requests.all(),
            )
            rows = view.rows()  # before anything changes, as a record may not read
            old, self._trials = self._trials, {planned.trial.id: planned for planned in plan.entries}
            self._plan, self._order, self._view, self._asked = plan, None, view, asked
            self._is_look_due = True
            for row in rows:
                if row.id not in old:
                    self._since.setdefault(row.id, row.attempts)
                    self._stages[row.id] = _FIRST_STAGE.get(row.state, "ready")
                    if row.state == "running":
                        self._settings.on_event(f"waiting for {row.id}, which another process is running")
                elif self._stages[row.id] == "over" and row.state == "partial":
                    self._stages[row.id] = "ready"
            gone = [trial_id for trial_id in self._stages if trial_id not in self._trials]
            for trial_id in gone:
                del self._stages[trial_id]
            self._stages |= {trial_id: "running" for trial_id in self._handed if trial_id in self._trials}
            return len(self._trials.keys() - old.keys()), len(gone)

    def see_nodes(self, nodes: Sequence[Node]) -> None:
        """Tell what the cluster has now."""
        with self._lock:
            if Counter(nodes) != Counter(self._nodes) or self._nodes is HERE:
                self._nodes, self._order = tuple(nodes), None

    def next(self) -> PlannedTrial | None:
        """The trial to start now; None while nothing fits or nothing is due."""
        with self._lock:
            while not self._is_draining and (planned := self._start_order().next()) is not None:
                trial_id = planned.trial.id
                with self._set_aside_unread(trial_id):
                    culprit = self._culprit(trial_id)
                    if culprit is None:
                        self._handed[trial_id] = (planned, self._num_attempts(trial_id))
                        self._stages[trial_id] = "running"
                        return planned
                    log.warning("%s is held: %s, which differs in its seed only, failed", trial_id, culprit)
                    self._start_order().finish(trial_id)
                    self._stages[trial_id], self._blocked_by[trial_id] = "blocked", culprit
            return None

    def finish(self, trial_id: str, *, problem: str | None = None, node: str | None = None) -> None:
        """A trial that was handed out has ended, however it did.

        Args:
            trial_id: of the trial.
            problem: why its supervisor could not work, where it could not.
            node: name of the node where that was.
        """
        with self._lock:
            _, num_before = self._handed.pop(trial_id)
            if self._order is not None:
                self._order.finish(trial_id)
            if trial_id in self._trials:
                with self._set_aside_unread(trial_id):
                    has_tried = self._num_attempts(trial_id) > num_before
                    if has_tried and problem is not None:
                        self._settings.on_event(f"the supervisor of {trial_id} failed: {problem}")
                    self._settle(trial_id, has_tried=has_tried, problem=problem, node=node)
            self._grow()

    def finish_all(self) -> None:
        """What was handed out has ended with the scheduler that ran it."""
        with self._lock:
            for trial_id in [*self._handed]:
                self.finish(trial_id)

    def tell(self, event: str) -> None:
        """Pass on, in one line, what a scheduler has to say."""
        self._settings.on_event(event)

    def avoids(self, trial_id: str) -> frozenset[str]:
        """Names of the nodes on which a trial shall not be started now."""
        with self._lock:
            planned = self._trials.get(trial_id)
            return self._start_order().request(planned).avoid if planned is not None else frozenset()

    def is_asked_to_stop(self, trial_id: str) -> bool:
        """Whether a running trial was paused or cancelled."""
        return self._asked_of(trial_id).hold is not None

    def is_unplaceable(self, trial_id: str, *, waited_s: float) -> bool:
        """Whether the cluster will not place what was handed out so long ago; gives up on it if that is too long."""
        with self._lock:
            planned, _ = self._handed[trial_id]
            if StartOrder([planned], self._nodes, rules=self._rules()).unplaceable:
                return True
            deadline_s = self._plan.schedule.deadline_s
            if deadline_s is None or waited_s < deadline_s:
                return False
            self._give_up(planned, f"the cluster has what it asks for, and did not place it for {waited_s:.0f} s")
            return True

    def refresh(self) -> None:
        """Take in requests, what is due, what others have let go, and deadlines that are over."""
        with self._lock:
            self._read_requests()
            moment_s = self._settings.clock()
            for trial_id, stage in list(self._stages.items()):
                if stage == "later" and self._due[trial_id][0] <= moment_s:
                    self._move(trial_id, "ready")
                if trial_id in self._handed:
                    continue
                with self._set_aside_unread(trial_id):
                    if stage == "unread" or (stage == "elsewhere" and not self._store.is_locked(trial_id)):
                        self._settle(trial_id, has_tried=self._num_attempts(trial_id) > self._since[trial_id])
                    elif stage == "blocked" and self._culprit(trial_id) is None:
                        self._move(trial_id, "ready")
            self._give_up_overdue(moment_s)
            self._grow()

    def waiting(self) -> tuple[Waiting, ...]:
        """What everything that does not run waits for."""
        with self._lock:
            found: dict[Wait, list[str]] = {}
            if self._is_draining:
                found[Wait(reason="draining, see orch ctl drain --undo")] = self._of("ready")
            else:
                order = self._start_order()
                found |= {Wait(reason=reason): [*ids] for reason, ids in order.reasons().items()}
                for planned in order.unplaceable:
                    found.setdefault(self._unplaceable_wait(planned), []).append(planned.trial.id)
            for trial_id in self._of("later"):
                found.setdefault(self._retry_wait(trial_id), []).append(trial_id)
            found[Wait(reason="another process works on it")] = self._of("elsewhere")
            found[Wait(reason="its record does not read")] = self._of("unread")
            for trial_id in self._of("blocked"):
                culprit = self._blocked_by[trial_id]
                found.setdefault(Wait(reason=f"held: {culprit}, of another seed, failed"), []).append(trial_id)
            for trial_id in self._of("held"):
                asked = self._asked_of(trial_id)
                found.setdefault(Wait(reason=f"{asked.hold} by {asked.by}"), []).append(trial_id)
            return tuple(Waiting(wait=wait, trials=tuple(ids)) for wait, ids in found.items() if ids)

    def _settle(self, trial_id: str, *, has_tried: bool, problem: str | None = None, node: str | None = None) -> None:
        """Decide the next stage of a trial that this driver does not run now."""
        record, request = self._store.find(trial_id), self._requests.of(trial_id)
        if self._view.row(self._trials[trial_id]).state == "done":
            self._move(trial_id, "over")
        elif request.hold is not None:
            self._move(trial_id, "held")
        elif not has_tried and problem is not None:
            self._wait_for_supervisor(trial_id, problem, node)
        elif request.is_due(len(record.attempts) if record else 0):
            self._move(trial_id, "ready")
        elif self._store.is_locked(trial_id):
            self._settings.on_event(f"waiting for {trial_id}, which another process is running")
            self._move(trial_id, "elsewhere")
        elif record is None or not has_tried:
            self._wait_s(trial_id, _NOT_BEGUN_WAIT_S, "not begun")
        elif record.status is Status.STOPPED and (
            self._settings.is_stopping() or class_of(record.attempts[-1]) is None
        ):
            self._move(trial_id, "ready")  # it is left for the next call, or what stopped it was taken back by now
        else:
            self._try_again(trial_id, record)

    def _try_again(self, trial_id: str, record: RunRecord) -> None:
        self._holds.note(record.trial)
        self._not_begun.pop(trial_id, None)
        self._avoid[trial_id] = tuple(dict.fromkeys((*nodes_to_avoid(record), *self._avoid.get(trial_id, ()))))
        since = max(self._since[trial_id], self._asked_of(trial_id).requeued_after or 0)
        wait_s = wait_before_retry_s(record, since=since, first_wait_s=self._settings.first_retry_wait_s)
        if wait_s is None:
            self._move(trial_id, "over")
            return
        self._settings.on_event(f"{trial_id} failed for a passing reason: again in {wait_s:.0f} s")
        self._wait_s(trial_id, wait_s, str(class_of(record.attempts[-1]) or "not begun"))

    def _wait_for_supervisor(self, trial_id: str, problem: str, node: str | None) -> None:
        """Of a trial that could not even begin: a node without the runs folder, say, or without orch."""
        moment_s, deadline_s = self._settings.clock(), self._plan.schedule.deadline_s
        since_s, number = self._not_begun.get(trial_id, (moment_s, 0))
        if deadline_s is not None and moment_s - since_s >= deadline_s:
            self._not_begun.pop(trial_id, None)
            self._give_up(self._trials[trial_id], f"it could not begin for {moment_s - since_s:.0f} s: {problem}")
            return
        self._not_begun[trial_id] = (since_s, number + 1)
        if node is not None:
            self._avoid[trial_id] = tuple(dict.fromkeys((*self._avoid.get(trial_id, ()), node)))
        wait_s = min(_NOT_BEGUN_WAIT_S * 2**number, _LONGEST_NOT_BEGUN_WAIT_S)
        self._settings.on_event(f"{trial_id} could not begin: {problem}; again in {wait_s:.0f} s")
        self._wait_s(trial_id, wait_s, f"could not begin ({problem})")

    def _wait_s(self, trial_id: str, wait_s: float, why: str) -> None:
        self._due[trial_id] = (self._settings.clock() + wait_s, why)
        self._move(trial_id, "later" if wait_s > 0 else "ready")

    @contextlib.contextmanager
    def _set_aside_unread(self, trial_id: str) -> Iterator[None]:
        """Where the block finds that a record does not read, say so once and set the trial aside until it does."""
        try:
            yield
        except (OrchError, OSError) as error:
            if self._stages.get(trial_id, "unread") != "unread":
                self._unread_since_s[trial_id] = self._settings.clock()
                self._settings.on_event(f"{trial_id} is set aside: {error}")
                self._move(trial_id, "unread")

    def _grow(self) -> None:
        """Take in what a look at the results adds, before anybody can find that all is over."""
        if not self._is_look_due or self._plan.until is None:
            return
        try:
            plan = self._settings.grow(self._plan)
            num_more = self.adopt(plan)[0] if plan is not self._plan else 0
        except (OrchError, OSError) as error:
            log.warning("the results cannot be looked at now: %s", error)
            return
        self._is_look_due = False
        if num_more:
            self._settings.on_event(f"not decided yet: {num_more} more trial{'' if num_more == 1 else 's'}")

    def _move(self, trial_id: str, stage: Stage) -> None:
        self._is_look_due = self._is_look_due or stage == "over"
        if "ready" in (stage, self._stages[trial_id]):
            self._order = None
        self._stages[trial_id] = stage

    def _read_requests(self) -> None:
        try:
            requests, drain = self._requests.all(), self._requests.draining(self._plan.experiment)
        except (OrchError, OSError) as error:
            log.warning("requests are not followed: %s", error)
            return
        if self._is_draining != (drain is not None):
            self._is_draining = drain is not None
            self._settings.on_event(
                "draining: what runs is finished, nothing new is started" if drain else "drain undone"
            )
        changed = [one for one in requests.keys() | self._asked.keys() if requests.get(one) != self._asked.get(one)]
        self._asked = requests
        for trial_id in changed:
            if trial_id in self._stages:
                with self._set_aside_unread(trial_id):
                    self._follow(trial_id, requests.get(trial_id, NO_REQUEST))
                self._order = None

    def _follow(self, trial_id: str, request: TrialRequest) -> None:
        stage = self._stages[trial_id]
        if request.hold is not None:
            if stage in ("ready", "later", "blocked"):
                self._move(trial_id, "held")
        elif stage == "held" or (
            stage in ("over", "later", "blocked") and request.is_due(self._num_attempts(trial_id))
        ):
            is_done = self._view.row(self._trials[trial_id]).state == "done"
            self._move(trial_id, "over" if is_done else "ready")

    def _start_order(self) -> StartOrder:
        """Made anew whenever what may start changes."""
        if self._order is None:
            ready = [planned for planned in self._plan.entries if self._stages[planned.trial.id] == "ready"]
            running = [planned for planned, _ in self._handed.values()]
            self._order = StartOrder(ready, self._nodes, rules=self._rules(), running=running)
        return self._order

    def _rules(self) -> StartRules:
        priorities = {
            trial_id: request.priority for trial_id, request in self._asked.items() if request.priority is not None
        }
        return StartRules(
            schedule=self._plan.schedule,
            priorities=priorities,
            max_running=self._settings.max_running,
            avoid=self._avoid,
        )

    def _culprit(self, trial_id: str) -> str | None:
        """The sibling whose failure holds a trial back, unless either was requeued."""
        culprit = self._holds.culprit(self._trials[trial_id].trial)
        if culprit is None or any(self._asked_of(one).is_due(self._num_attempts(one)) for one in (trial_id, culprit)):
            return None
        return culprit

    def _give_up_overdue(self, moment_s: float) -> None:
        unplaceable = {planned.trial.id: planned for planned in self._start_order().unplaceable}
        since_s = {trial_id: self._unplaced_since_s.get(trial_id, moment_s) for trial_id in unplaceable}
        self._unplaced_since_s, deadline_s = since_s, self._plan.schedule.deadline_s
        for trial_id, planned in unplaceable.items():
            if deadline_s is not None and moment_s - since_s[trial_id] >= deadline_s:
                self._give_up(planned, f"{_lack(planned, self._nodes)} for {deadline_s:g} s")

    def _give_up(self, planned: PlannedTrial, why: str) -> None:
        trial_id = planned.trial.id
        self._settings.on_event(f"{trial_id} is given up: {why}")
        with self._set_aside_unread(trial_id):
            self._settings.give_up(planned, why)
            if trial_id in self._stages and trial_id not in self._handed:
                self._move(trial_id, "over")

    def _unplaceable_wait(self, planned: PlannedTrial) -> Wait:
        deadline_s, moment_s = self._plan.schedule.deadline_s, self._settings.clock()
        since_s = self._unplaced_since_s.get(planned.trial.id, moment_s)
        left_s = None if deadline_s is None else since_s + deadline_s - moment_s
        return Wait(reason=_lack(planned, self._nodes), deadline_at=None if left_s is None else _in(left_s))

    def _retry_wait(self, trial_id: str) -> Wait:
        due_s, why = self._due[trial_id]
        return Wait(reason=f"{why}: again", due_at=_in(due_s - self._settings.clock()))

    def _of(self, stage: Stage) -> list[str]:
        return [trial_id for trial_id, one in self._stages.items() if one == stage]

    def _asked_of(self, trial_id: str) -> TrialRequest:
        return self._asked.get(trial_id, NO_REQUEST)

    def _num_attempts(self, trial_id: str) -> int:
        record = self._store.find(trial_id)
        return len(record.attempts) if record is not None else 0


def _lack(planned: PlannedTrial, nodes: Sequence[Node]) -> str:
    """What the cluster lacks for a trial that it cannot hold."""
    request = request_of(planned.resources)
    able = sum(node.holds(request) for node in nodes)
    share = Node(num_gpus=request.num_gpus, num_cpus=request.num_cpus, memory_gb=request.memory_gb)
    return f"no node has {share}" if not able else f"{able} of {request.num_nodes} nodes have {share}"


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=round(seconds))).isoformat(timespec="seconds")
