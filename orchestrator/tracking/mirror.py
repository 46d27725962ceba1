"""The mirror of an experiment in MLflow: sweep = parent run, trial = child run. The store is the outbox.

    store ─ views (view) ─▶ what MLflow lacks (sync) ─▶ batches (client)

A sync may be killed at any moment and repeated: runs are found by tag before they are created, points carry the
time and step that the store gives them, the last mirrored step is read back from MLflow itself, and artifacts
replace each other. The cursor file says what was sent, so that a sync with nothing to do costs a few stat calls.
MLflow being slow, down or gone never reaches the sweep: a thread of its own waits for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from orchestrator.errors import OrchError, TrackingError
from orchestrator.store.store import Store
from orchestrator.tracking.cursor import Cursor, load_cursor
from orchestrator.tracking.uri import absolute_uri, sqlite_file

if TYPE_CHECKING:
    from orchestrator.tracking.sync import SyncPass, TableFiles

log = logging.getLogger(__name__)

POLL_S = 5.0
"""Between passes over a live sweep."""
_MAX_BACK_OFF_S = 120.0
_LOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What one sync sent."""

    num_trials: int
    num_runs_created: int
    num_points: int
    num_artifacts: int
    elapsed_s: float
    experiment_id: str
    """MLflow's id of the experiment."""


class Mirror:
    """Keeps one experiment's runs in MLflow like its records in the store. Importing it does not import mlflow."""

    def __init__(
        self,
        store: Store,
        experiment: str,
        tracking_uri: str,
        *,
        tables: TableFiles = dict,
        poll_s: float = POLL_S,
    ) -> None:
        """Touch nothing yet.

        Args:
            store: the runs folder.
            experiment: an experiment whose plan the store keeps.
            tracking_uri: `sqlite:///FILE`, relative to the working folder, or the URL of a server.
            tables: renders the artifacts of the sweep's own run: name → text. `table.md` also becomes its
                description, and `table.json` shows in MLflow's table view.
            poll_s: pause between passes over a live sweep.
        """
        self._store, self._experiment, self._tables, self._poll_s = store, experiment, tables, poll_s
        self._uri = absolute_uri(tracking_uri)
        self._target = hashlib.blake2b(self._uri.encode(), digest_size=8).hexdigest()
        self._cursor_file = store.mirror_file(experiment)
        self._pass: SyncPass | None = None
        self._pass_mark: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_warned = False
        self._is_complete = False

    @property
    def tracking_uri(self) -> str:
        """With the path of a database made absolute. May hold a password: show it with `shown_uri`."""
        return self._uri

    def is_synced(self) -> bool:
        """Whether MLflow was sent all that the store holds; reads the cursor file and imports no mlflow.

        Raises:
            StoreError: no such experiment in the store.
        """
        database = sqlite_file(self._uri)
        if database is not None and not database.exists():
            return False
        cursor = load_cursor(self._cursor_file, target=self._target)
        plan_digest = self._store.plans.digest(self._experiment)
        if cursor.sweep is None or cursor.sweep.mark != cursor.sweep_mark() or cursor.plan != plan_digest:
            return False
        plan = self._store.plans.read(self._experiment)
        return all(self._is_trial_synced(planned.trial.id, cursor) for planned in plan.entries)

    def sync(self, *, is_live: bool = False) -> SyncReport:
        """Send what MLflow lacks; sending it again adds nothing.

        Args:
            is_live: another sync follows soon, so that a table that takes long to render may wait for it.

        Raises:
            TrackingError: MLflow cannot be reached, or another process has been syncing for a minute.
            StoreError: no such experiment, or a record does not read.
        """
        started = time.monotonic()
        plan = self._store.plans.read(self._experiment)
        with self._lock():
            current = self._connected()
            try:
                counts = current.run(plan, cursor_file=self._cursor_file, is_live=is_live)
            except BaseException:
                self._pass = None
                raise
            self._pass_mark = self._cursor_file.stat().st_mtime_ns
        return SyncReport(
            num_trials=len(plan.entries),
            num_runs_created=counts.runs,
            num_points=counts.points,
            num_artifacts=counts.artifacts,
            elapsed_s=time.monotonic() - started,
            experiment_id=current.experiment_id,
        )

    def start(self) -> None:
        """Sync now and then from a daemon thread, until `stop`."""
        assert self._thread is None, "a mirror is started once"
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Sync a last time and end the thread; never raises.

        Args:
            timeout_s: how long to wait for it at most.

        Returns:
            Whether MLflow now holds everything. If not, the log says how to make up for it.
        """
        was_warned = self._is_warned
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("MLflow is slow: left it behind after %.0f s; %s", timeout_s, self._later())
                return False
        if was_warned and not self._is_complete:  # said long ago, and where trials run in this process into their logs
            log.warning("MLflow does not hold all of %s; %s", self._experiment, self._later())
        return self._is_complete

    def _run(self) -> None:
        pause_s = self._poll_s
        while True:
            is_last = self._stop.is_set()
            self._is_complete = self._try_sync(is_live=not is_last)
            if is_last:
                return
            pause_s = self._poll_s if self._is_complete else min(2 * pause_s, _MAX_BACK_OFF_S)
            self._stop.wait(pause_s)

    def _try_sync(self, *, is_live: bool) -> bool:
        try:
            self.sync(is_live=is_live)
        except OrchError as error:
            self._warn_once(str(error))
            return False
        except Exception:  # a side channel: our own bug here must not end a sweep either
            log.exception("the MLflow mirror of %s failed; %s", self._experiment, self._later())
            return False
        if self._is_warned:
            log.info("MLflow answers again; %s is up to date there", self._experiment)
            self._is_warned = False
        return True

    def _warn_once(self, message: str) -> None:
        if not self._is_warned:
            log.warning("%s\n  the sweep goes on without it; %s", message, self._later())
            self._is_warned = True

    def _later(self) -> str:
        return f"`orch sync {self._experiment}` sends what is missing"

    def _connected(self) -> SyncPass:
        """What is known of MLflow, asked anew if this is the first pass or another process synced in between."""
        mark = self._cursor_file.stat().st_mtime_ns if self._cursor_file.exists() else None
        if self._pass is None or mark != self._pass_mark:
            from orchestrator.tracking.client import Tracker
            from orchestrator.tracking.sync import SyncPass

            cursor = load_cursor(self._cursor_file, target=self._target)
            self._pass = SyncPass(self._store, Tracker(self._uri, self._experiment), cursor, self._tables)
        return self._pass

    def _is_trial_synced(self, trial_id: str, cursor: Cursor) -> bool:
        mark, known = self._store.change_mark(trial_id), cursor.trials.get(trial_id)
        if known is None:
            return not mark
        return known.mark == mark and known.status != "RUNNING"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self._cursor_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._cursor_file.with_suffix(".lock"))
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except Timeout as error:
            raise TrackingError(
                f"another process has been syncing {self._experiment} for {_LOCK_TIMEOUT_S:.0f} s",
                where=str(self._cursor_file),
                fix="wait for it, then run `orch sync` again",
            ) from error
        try:
            yield
        finally:
            lock.release()
