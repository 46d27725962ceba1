"""Notifications: a command or a webhook at the end of a sweep, of a failed trial, of a guard's alarm.

A side channel: messages leave from a thread of their own, are tried a few times with a time limit, and what cannot be
delivered is a line in the log. Nothing here slows or fails a sweep. A webhook's address is a secret, so an experiment
names the environment variable that holds it, and it is never printed or recorded.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from orchestrator.config.blocks import EventKind, Notify
from orchestrator.errors import OrchError
from trainers.recipe.ranges import require

if TYPE_CHECKING:
    from orchestrator.config.spec import SweepSpec
    from orchestrator.status.rows import TrialRow

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Of one delivery."""
RETRY_WAITS_S = (1.0, 5.0)
"""Before the second and the third try."""
PATIENCE_S = 30.0
"""How long the end of a sweep waits for messages that are still on their way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A notification. `text` is what chat webhooks (Slack, Mattermost) show."""

    event: EventKind
    experiment: str
    text: str
    trial: str | None = None
    label: str | None = None
    at: str


Deliver = Callable[[Event], None]
"""Sends one event somewhere; raises when it could not."""


class RowWatch:
    """Finds what is worth telling by comparing each state of a sweep with the one before."""

    def __init__(self, experiment: str, *, now: Callable[[], str]) -> None:
        """The first rows seen are the baseline: what failed before this sweep is no news."""
        self._experiment, self._now = experiment, now
        self._seen: dict[str, tuple[str, int, int]] = {}

    def see(self, rows: Sequence[TrialRow]) -> Iterator[Event]:
        """Yield what is new."""
        for row in rows:
            state, attempts, num_alarms = self._seen.get(row.id, (row.state, row.attempts, len(row.alarms)))
            for alarm in row.alarms[num_alarms:]:
                yield self._event("guard", row, alarm)
            if row.state == "failed" and (state, attempts) != (row.state, row.attempts):
                yield self._event("failed", row, row.failure)
            self._seen[row.id] = (row.state, row.attempts, len(row.alarms))

    def finished(self, summary: str) -> Event:
        """The end of the sweep."""
        return Event(
            event="finished", experiment=self._experiment, text=f"{self._experiment}: {summary}", at=self._now()
        )

    def _event(self, kind: EventKind, row: TrialRow, what: str) -> Event:
        text = f"{self._experiment}: {kind}: {row.label} ({row.id}): {what}"
        return Event(event=kind, experiment=self._experiment, text=text, trial=row.id, label=row.label, at=self._now())


class Outbox:
    """Delivers events in order from a daemon thread."""

    def __init__(self, channels: Mapping[str, Deliver], *, retry_waits_s: Sequence[float] = RETRY_WAITS_S) -> None:
        """The thread starts with the first event."""
        self._channels, self._retry_waits_s = channels, retry_waits_s
        self._events: queue.Queue[Event] = queue.Queue()
        self._thread: threading.Thread | None = None

    def put(self, event: Event) -> None:
        """Queue an event and return at once."""
        self._events.put(event)
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver_all, name="notify", daemon=True)
            self._thread.start()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all is delivered or given up; whether that happened in time."""
        end = time.monotonic() + timeout_s
        while self._events.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.05)
        return not self._events.unfinished_tasks

    def _deliver_all(self) -> None:
        while True:
            event = self._events.get()
            for name, deliver in self._channels.items():
                self._deliver(name, deliver, event)
            self._events.task_done()

    def _deliver(self, name: str, deliver: Deliver, event: Event) -> None:
        for wait_s in (*self._retry_waits_s, None):
            try:
                return deliver(event)
            except Exception as error:  # a side channel; the message of the error may hold the address
                log.warning("notify by %s: %s did not go out (%s)", name, event.event, type(error).__name__)
            if wait_s is not None:
                time.sleep(wait_s)
        return None


def outlets(spec: SweepSpec, environment: Mapping[str, str]) -> dict[str, Deliver]:
    """The ways out of an experiment; an error carries its place in the file or on the command line.

    Raises:
        OrchError: as `channels`.
    """
    try:
        return channels(spec.notify, environment)
    except OrchError as error:
        raise OrchError(error.what, where=spec.place_of(error.where), fix=error.fix) from error


def channels(notify: Notify, environment: Mapping[str, str]) -> dict[str, Deliver]:
    """The ways out that an experiment asks for.

    Raises:
        OrchError: there is no such program, or the variable of the webhook is not set.
    """
    found: dict[str, Deliver] = {}
    if notify.command is not None:
        is_there = shutil.which(notify.command[0]) is not None
        require(is_there, "notify.command", f"{notify.command[0]}, which is not there", "a program on this machine")
        found["command"] = _by_command(notify.command)
    if notify.webhook_env is not None:
        address = environment.get(notify.webhook_env, "")
        wanted = "the name of a variable that holds an http(s) address: export it before the sweep"
        require(address.startswith(("https://", "http://")), "notify.webhook_env", notify.webhook_env, wanted)
        found["webhook"] = _by_webhook(address)
    return found


@contextmanager
def open_outbox(notify: Notify, outlets: Mapping[str, Deliver]) -> Iterator[Callable[[Event], None]]:
    """Yield a function that sends an event if it is among those asked for; waits a while for the last ones."""
    outbox = Outbox(outlets)

    def send(event: Event) -> None:
        if outlets and event.event in notify.events:
            outbox.put(event)

    try:
        yield send
    finally:
        if not outbox.drain(PATIENCE_S):
            log.warning("notify: some messages did not go out within %.0f s", PATIENCE_S)


def _by_command(command: tuple[str, ...]) -> Deliver:
    def deliver(event: Event) -> None:
        subprocess.run(
            command,
            input=json.dumps(asdict(event)).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=True,
            env=dict(os.environ),
        )

    return deliver


def _by_webhook(address: str) -> Deliver:
    def deliver(event: Event) -> None:
        from urllib.request import Request, urlopen  # says nothing of the address, as clients that log do

        headers = {"Content-Type": "application/json"}
        with urlopen(Request(address, json.dumps(asdict(event)).encode(), headers), timeout=TIMEOUT_S):
            pass

    return deliver
