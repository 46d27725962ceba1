"""The runs folder: the only module that knows its paths. The truth about every trial; all else is a view of it.

    runs/<id>/recipe.json                   the trial as planned: what its id is the hash of
    runs/<id>/record.json                   what is known about it: `record.RunRecord`
    runs/<id>/progress.json                 what it is doing now: `progress.Progress`
    runs/<id>/attempts/<n>/train.log        all that attempt n printed
    runs/<id>/attempts/<n>/metrics.jsonl    one JSON object a training step
    runs/<id>/checkpoints/                  the trainer's own
    runs/<id>/eval/<key>/                   samples.jsonl, score.json
    runs/sweeps/<experiment>.json           the last plan of each experiment: `kept_plans.KeptPlans`
    runs/inputs/<name>.json                 data and weights as they were first used: `seen_inputs.SeenInputs`
    runs/mlflow/<experiment>.json           how far each experiment is mirrored
    runs/orders/                            requests to trials and sweeps: `requests.Requests`
    runs/drivers/<experiment>.json          what a driver says of what waits: `waits.DriverReport`

Files are replaced whole (`files`), so a reader or a crash sees the old one or the new one. One process at a time works
on a trial: under a lock that the operating system frees with it, and a lease (`lease`) where that lock does not reach.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eval.api import Score
from orchestrator.codec import encode
from orchestrator.errors import StoreError
from orchestrator.plan.trial import Trial
from orchestrator.store.files import (
    complete_lines,
    decoded,
    explain,
    explained,
    read_json,
    stamp,
    write_json,
    write_synced,
)
from orchestrator.store.lease import Lease
from orchestrator.store.locks import Locks
from orchestrator.store.outline import Outline, read_outline
from orchestrator.store.plans import KeptPlans
from orchestrator.store.progress import Progress, read_progress
from orchestrator.store.record import SCHEMA_VERSION, RunRecord, check_version, from_json
from orchestrator.store.redact import without_secrets

log = logging.getLogger(__name__)

MetricRows = list[dict[str, Any]]
"""One object a training step, in order of steps."""

_ID_LENGTH = 12


class TrialLocked(StoreError):
    """Another process is at work on the trial."""


class SweepLocked(StoreError):
    """Another process drives the experiment."""


class Store:
    """One runs folder. Cheap to make; holds no open files."""

    def __init__(self, root: Path) -> None:
        """Nothing is created before something is written."""
        self.root = root
        self._leases: dict[str, Lease] = {}
        """Trial id → the lease that this process works under."""
        self._locks = Locks()
        self.plans = KeptPlans(root)
        """The last plan of each experiment."""

    def trial_folder(self, trial_id: str) -> Path:
        """`runs/<id>`."""
        return self.root / trial_id

    def attempt_folder(self, trial_id: str, number: int) -> Path:
        """`runs/<id>/attempts/<n>`."""
        return self.root / trial_id / "attempts" / str(number)

    def log_file(self, trial_id: str, number: int) -> Path:
        """All that an attempt printed."""
        return self.attempt_folder(trial_id, number) / "train.log"

    def metrics_file(self, trial_id: str, number: int) -> Path:
        """The training metrics of an attempt, a line a step."""
        return self.attempt_folder(trial_id, number) / "metrics.jsonl"

    def checkpoint_folder(self, trial_id: str) -> Path:
        """`runs/<id>/checkpoints`."""
        return self.root / trial_id / "checkpoints"

    def eval_folder(self, trial_id: str, key: str) -> Path:
        """`runs/<id>/eval/<key>`."""
        return self.root / trial_id / "eval" / key

    def progress_file(self, trial_id: str) -> Path:
        """`runs/<id>/progress.json`."""
        return self.root / trial_id / "progress.json"

    def mirror_file(self, experiment: str) -> Path:
        """`runs/mlflow/<experiment>.json`: how far `tracking.Mirror` has come. A view: losing it loses nothing."""
        return self.root / "mlflow" / f"{experiment}.json"

    def change_mark(self, trial_id: str) -> str:
        """Changes when a trial's record or training metrics do; costs a few stat calls."""
        files = [self.trial_folder(trial_id) / "record.json"]
        files += [self.metrics_file(trial_id, number) for number in self.attempt_numbers(trial_id)]
        return " ".join(f"{time_ns}:{size}" for time_ns, size in map(stamp, files) if time_ns)

    def check_writable(self) -> None:
        """Create the runs folder and prove that files can be made in it.

        Raises:
            StoreError: not writable, or the disk is full.
        """
        probe = self.root / f".probe.{secrets.token_hex(4)}"
        with explained(probe):
            try:
                write_synced(probe, b"orch\n")
            finally:
                probe.unlink(missing_ok=True)

    def prepare_trial(self, trial: Trial) -> None:
        """Create a trial's folder with its recipe.json, if it is new."""
        path = self.trial_folder(trial.id) / "recipe.json"
        if not path.exists():
            write_json(path, {"schema_version": SCHEMA_VERSION, "trial": encode(trial)})

    def read_recipe(self, trial_id: str) -> Trial | None:
        """The trial as it was planned, or None where its folder has no recipe.json.

        Raises:
            StoreError: the file does not read.
        """
        path = self.trial_folder(trial_id) / "recipe.json"
        payload = read_json(path)
        if payload is None:
            return None
        check_version(payload, where=str(path))
        fix = "remove the file: the next `orch sweep` writes it anew"
        return decoded(Trial, payload.get("trial"), what="a recipe", where=path, fix=fix)

    def trial_ids(self) -> tuple[str, ...]:
        """Ids of all trials with a folder, sorted."""
        try:
            names = [entry.name for entry in os.scandir(self.root)]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise explain(error, self.root) from error
        return tuple(sorted(name for name in names if len(name) == _ID_LENGTH and _is_hex(name)))

    def complete_id(self, beginning: str) -> str:
        """The one trial id that begins so.

        Raises:
            StoreError: none or several do.
        """
        matches = [trial_id for trial_id in self.trial_ids() if trial_id.startswith(beginning)]
        if len(matches) == 1:
            return matches[0]
        several = f"{len(matches)} trials begin with {beginning}: {', '.join(matches[:8])}"
        raise StoreError(
            several if matches else f"no trial {beginning} in the runs folder",
            where=str(self.root),
            fix="`orch status` lists the trials there; --store names another runs folder",
        )

    def find(self, trial_id: str) -> RunRecord | None:
        """The record of a trial, or None before its first attempt.

        Raises:
            StoreError: the record does not read, or a newer orch wrote it.
        """
        path = self.trial_folder(trial_id) / "record.json"
        payload = read_json(path)
        return None if payload is None else from_json(payload, where=str(path))

    def find_outline(self, trial_id: str) -> Outline | RunRecord | None:
        """What views need of a record, or None before its first attempt.

        Raises:
            StoreError: the record does not read, or a newer orch wrote it.
        """
        return read_outline(self.trial_folder(trial_id) / "record.json") or self.find(trial_id)

    def record_stamp(self, trial_id: str) -> tuple[int, int]:
        """(modification time in ns, size) of a record: changes whenever the record does; (0, 0) without one."""
        return stamp(self.trial_folder(trial_id) / "record.json")

    def read(self, trial_id: str) -> RunRecord:
        """The record of a trial.

        Raises:
            StoreError: there is none, it does not read, or a newer orch wrote it.
        """
        record = self.find(trial_id)
        if record is None:
            raise StoreError(
                f"no trial {trial_id} in the runs folder",
                where=str(self.root),
                fix="`orch status` lists the trials there; --store names another runs folder",
            )
        return record

    def list(self) -> tuple[RunRecord, ...]:
        """All records, sorted by trial id."""
        found = (self.find(trial_id) for trial_id in self.trial_ids())
        return tuple(record for record in found if record is not None)

    def write(self, record: RunRecord) -> None:
        """Replace a record, durably. The caller holds the trial's lock.

        Raises:
            LeaseLost: another process has taken the trial over. StoreError: the folder cannot be written.
        """
        self.check_lease(record.trial.id)
        write_json(self.trial_folder(record.trial.id) / "record.json", encode(record))

    @contextlib.contextmanager
    def lock(
        self, trial_id: str, *, timeout_s: float = 0.0, on_lost: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Be the only process at work on a trial, here and on every machine that sees the folder.

        Takes longer than `timeout_s` where a process of another machine may hold it: `lease.EXPIRY_S` at most.

        Args:
            trial_id: the trial.
            timeout_s: how long to wait for a process that holds it.
            on_lost: called from a thread when another process took over, because this one was silent for too long.

        Raises:
            TrialLocked: another process still held it; the message names that process.
        """
        path = self.trial_folder(trial_id) / ".lock"
        with self._locks.held(path, timeout_s=timeout_s, on_lost=on_lost) as lease:
            if not isinstance(lease, Lease):
                raise TrialLocked(
                    f"trial {trial_id} is being worked on by {lease.holder.text if lease else self._holder(trial_id)}",
                    where=str(self.trial_folder(trial_id)),
                    fix="wait for it, or stop that process",
                )
            for leftover in self.trial_folder(trial_id).glob(".*.tmp"):  # of a process that was killed while writing
                leftover.unlink(missing_ok=True)
            self._leases[trial_id] = lease
            try:
                yield
            finally:
                del self._leases[trial_id]

    def check_lease(self, trial_id: str) -> None:
        """Call before writing to a trial's folder other than through here, while holding its lock.

        Raises:
            LeaseLost: another process has taken the trial over.
        """
        if (lease := self._leases.get(trial_id)) is not None:
            lease.check()

    @contextlib.contextmanager
    def sweep_lock(self, experiment: str) -> Iterator[None]:
        """Be the only driver of a sweep.

        Raises:
            SweepLocked: another `orch sweep` drives it.
        """
        path = self.root / "sweeps" / f".{experiment}.lock"
        with self._locks.held(path) as lease:
            if not isinstance(lease, Lease):
                holder = f", {lease.holder.text}," if lease is not None else ""
                raise SweepLocked(
                    f"another `orch sweep`{holder} is driving {experiment}",
                    where=str(self.root),
                    fix=f"watch it with `orch watch {experiment}`, run failed trials again with "
                    "`orch ctl requeue`, or stop it with Ctrl-C there",
                )
            yield

    def is_locked(self, trial_id: str) -> bool:
        """Whether some process is at work on a trial at this moment.

        Of a process on another machine this is known when it has been seen to beat, or not to, for long enough: asked
        once, the answer is yes while its lease stands.
        """
        path = self.trial_folder(trial_id) / ".lock"
        if not path.exists():
            return False
        if not os.access(path, os.W_OK):  # another user's: the last sign of life tells
            progress = self.progress(trial_id)
            return progress is not None and progress.is_alive()
        return self._locks.is_held(path)

    def is_worked_on(self, trial_id: str) -> bool:
        """Whether a process works on a trial, as far as one look can tell.

        The lease of a process on another machine stands until it was watched for a minute; its last sign of life
        tells at once.
        """
        if not self.is_locked(trial_id):
            return False
        progress = self.progress(trial_id)
        return progress is None or progress.host == socket.gethostname() or progress.is_alive()

    def progress(self, trial_id: str) -> Progress | None:
        """What a trial is, or was last, doing."""
        return read_progress(self.progress_file(trial_id))

    def metrics(self, trial_id: str) -> MetricRows:
        """Training metrics by step, in order; where attempts overlap, the later one's line counts."""
        rows = [row for number in self.attempt_numbers(trial_id) for row in self.attempt_metrics(trial_id, number)]
        by_step = {int(row["step"]): row for row in rows}
        return [by_step[step] for step in sorted(by_step)]

    def attempt_metrics(self, trial_id: str, number: int) -> MetricRows:
        """Training metrics of the steps that one attempt did, in its order; a damaged line is left out and logged."""
        file = self.metrics_file(trial_id, number)
        rows = []
        for line in complete_lines(file):
            try:
                row = json.loads(line)
                rows.append({**row, "step": int(row["step"])})
            except (ValueError, KeyError, TypeError):
                log.warning("a damaged line of %s is left out: %.80r", file, line)
        return rows

    def last_written(self, trial_id: str, number: int) -> float | None:
        """When an attempt last wrote to its log or metrics, in seconds since the epoch."""
        times = []
        for file in (self.log_file(trial_id, number), self.metrics_file(trial_id, number)):
            with contextlib.suppress(OSError):
                times.append(file.stat().st_mtime)
        return max(times, default=None)

    def attempt_numbers(self, trial_id: str) -> tuple[int, ...]:
        """Numbers of the attempts that have a folder, in order."""
        try:
            names = os.listdir(self.trial_folder(trial_id) / "attempts")
        except FileNotFoundError:
            return ()
        return tuple(sorted(int(name) for name in names if name.isdigit()))

    def log_tail(self, trial_id: str, number: int, *, lines: int = 20) -> tuple[str, ...]:
        """Last lines of an attempt's log, without secrets of the environment; empty when it printed nothing."""
        try:
            with self.log_file(trial_id, number).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 400 * lines))
                text = log.read().decode(errors="replace")
        except OSError:
            return ()
        return tuple(without_secrets(text).splitlines()[-lines:])

    def read_score(self, trial_id: str, key: str) -> Score | None:
        """A score with its per-problem table, or None where it is not complete.

        Raises:
            StoreError: the file does not read.
        """
        path = self.eval_folder(trial_id, key) / "score.json"
        payload = read_json(path)
        if payload is None:
            return None
        fix = "remove the file; the next `orch sweep` derives it again from samples.jsonl beside it"
        return decoded(Score, payload, what="a score", where=path, fix=fix)

    def _holder(self, trial_id: str) -> str:
        progress = self.progress(trial_id)
        return "another process" if progress is None else f"process {progress.pid} on {progress.host}"


def _is_hex(name: str) -> bool:
    return all(character in "0123456789abcdef" for character in name)
