"""A thread of the driver that keeps its queue fresh, takes in an edited plan, and says what waits for what.

It prepares the models of trials that were added before the queue hears of them. What it cannot do, it says once and
tries again: a controller never ends a sweep.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from eval.background import repeated
from orchestrator.errors import OrchError
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.status.driver import DriverReport, report_file, write_report
from orchestrator.store.progress import HEARTBEAT_S
from orchestrator.store.redact import now
from orchestrator.store.store import Store
from orchestrator.sweep.queue import TrialQueue

INTERVAL_S = 0.5


class Controller:
    """Looks after one queue."""

    def __init__(
        self,
        queue: TrialQueue,
        store: Store,
        *,
        prepare: Callable[[Sequence[PlannedTrial]], None],
        check: Callable[[Sequence[PlannedTrial]], None],
        on_event: Callable[[str], None],
    ) -> None:
        """Nothing is done yet.

        Args:
            queue: kept fresh.
            store: where plans, requests and records are.
            prepare: makes sure of the models of trials that were added.
            check: raises OrchError for trials that cannot end well here.
            on_event: called with a line for each change.
        """
        self._queue, self._store = queue, store
        self._prepare, self._check, self._on_event = prepare, check, on_event
        self._path = report_file(store.root, queue.plan.experiment)
        self._report = DriverReport(
            experiment=queue.plan.experiment,
            plan_digest=queue.plan.digest,
            pid=os.getpid(),
            host=socket.gethostname(),
            started_at=now(),
            updated_at=now(),
        )
        self._written_s = 0.0
        self._stamp: object = None
        self._refused: str | None = None
        self._complaint = ""

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Look after the queue while the block runs; then take the report away."""
        self.look()
        try:
            with repeated(self.look, every_s=INTERVAL_S, name="controller"):
                yield
        finally:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def look(self) -> None:
        """Take in what has changed, and write the report if it has; what fails keeps nothing else from being done."""
        complaint = "\n".join(filter(None, (_problem_of(self._take_plan), _problem_of(self._queue.refresh))))
        if complaint and complaint != self._complaint:
            self._on_event(f"the driver goes on as before: {complaint}")
        self._complaint = complaint
        self._write()

    def _take_plan(self) -> None:
        experiment = self._queue.plan.experiment
        stamp = self._store.plans.stamp(experiment)
        if stamp == self._stamp:
            return
        digest = self._store.plans.digest(experiment)
        if digest not in (None, self._queue.plan.digest, self._refused):
            self._adopt(self._store.plans.read(experiment))
        self._stamp = stamp

    def _adopt(self, plan: Plan) -> None:
        known = {planned.trial.id for planned in self._queue.plan.entries}
        added = [planned for planned in plan.entries if planned.trial.id not in known]
        try:
            self._check(added)
            if added:
                self._prepare(added)
        except OrchError:
            self._refused = plan.digest
            raise
        num_come, num_gone = self._queue.adopt(plan)
        self._on_event(f"the plan has changed: {num_come} trials more, {num_gone} fewer")

    def _write(self) -> None:
        content = replace(
            self._report,
            plan_digest=self._queue.plan.digest,
            is_draining=self._queue.is_draining,
            nodes=tuple(map(str, self._queue.nodes)),
            waiting=self._queue.waiting(),
        )
        if content == self._report and time.monotonic() - self._written_s < HEARTBEAT_S:
            return
        self._report = replace(content, updated_at=now())
        self._written_s = time.monotonic()
        write_report(self._path, self._report)


def _problem_of(step: Callable[[], None]) -> str:
    """Do it; empty, or why that was not possible."""
    try:
        step()
    except (OrchError, OSError) as error:
        return str(error)
    return ""
