"""What of a runs folder may go by a policy, and its removal; never what a table, `orch why`, `verify` or resume reads.

    checkpoint   resumable states of a finished training, beyond the newest, the best and every so many steps
    log          text logs of a finished trial's earlier attempts; their metrics stay
    model        models built into the cache that no plan, record or evaluation names
    temporary    what killed writers left: hidden files and folders untouched for an hour
    unplanned    trials that no kept plan names; only when asked for

Trials at work are left alone: what belongs to a trial goes under its lock.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Literal

from filelock import FileLock, Timeout

from eval.graders.api import OURS, grader_name
from orchestrator.archive.exchange import STAGING
from orchestrator.store.files import explained
from orchestrator.store.record import RunRecord, Status
from orchestrator.store.store import Store, TrialLocked
from trainers.checkpoints import step_folders
from trainers.models.resolve import BUILTINS

Kind = Literal["checkpoint", "log", "model", "temporary", "unplanned"]

TEMPORARY_AGE_S = 3600.0
"""A writer that lives renames its temporary file within seconds."""
_BUILT_MODEL = re.compile(f"({'|'.join(re.escape(spec.name) for spec in BUILTINS.values())})-[0-9a-f]{{12}}")
"""Folders of the cache that can be built again; a user's own models may lie beside them."""
_REMOVED = ".removed-"
_TEMPORARIES = (
    ".*.tmp",
    ".probe.*",
    f"{STAGING}*",
    f"{_REMOVED}*",
    "sweeps/.*.tmp",
    "sweeps/.*.stop",
    "mlflow/.*.tmp",
    "[0-9a-f]*/.*.tmp",
    "[0-9a-f]*/checkpoints/.partial-*",
    "[0-9a-f]*/checkpoints/" + f"{_REMOVED}*",
    "[0-9a-f]*/eval/*/.s*.json*",
    "evaluations/*/eval/*/.s*.json*",
)
"""Of the runs folder; the names under which our writers work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRule:
    """What is kept of what could go."""

    keep_last: int = 1
    """Newest resumable checkpoints of a finished training."""
    keep_every: int | None = None
    """Also those at multiples of so many steps."""
    with_unplanned: bool = False
    """Remove whole trials that no kept plan names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One file or folder that may go."""

    kind: Kind
    path: Path
    num_bytes: int
    trial: str | None
    """Whose lock its removal needs; None where it belongs to no trial."""


def removable(store: Store, policy: KeepRule, *, cache_folder: Path) -> list[Removal]:
    """Say what may go, trial by trial; what is locked at this moment is left out.

    Raises:
        StoreError: a plan or a record does not read: nothing is removed from a store that is not understood.
    """
    planned = {trial_id for name in store.plans.names() for trial_id in store.plans.trial_ids(name)}
    found: list[Removal] = []
    for trial_id in store.trial_ids():
        if not store.is_locked(trial_id):
            found += _of_trial(trial_id, store, policy, is_planned=trial_id in planned)
    leaving = {one.trial for one in found if one.kind == "unplanned"}
    found += _unnamed_models(store, cache_folder, leaving)
    return [*found, *_temporaries(store.root, found)]


def remove(removals: list[Removal], store: Store) -> tuple[list[Removal], list[Removal]]:
    """Remove, each trial's under its lock; returns what is gone, and what was kept because its trial is at work.

    A folder is renamed before it is emptied, so that a kill leaves no half of it under its name.
    """
    gone: list[Removal] = []
    kept: list[Removal] = []
    for trial_id, group in groupby(removals, key=lambda one: one.trial):
        own = list(group)
        try:
            with store.lock(trial_id) if trial_id is not None else contextlib.nullcontext():
                for one in own:
                    (gone if _may_go(one, store) and _remove(one) else kept).append(one)
        except TrialLocked:
            kept += own
    return gone, kept


def _may_go(one: Removal, store: Store) -> bool:
    """Whether an unplanned trial is still one, now that its lock is held and no other process can start it."""
    return one.kind != "unplanned" or all(one.trial not in store.plans.trial_ids(name) for name in store.plans.names())


def _of_trial(trial_id: str, store: Store, policy: KeepRule, *, is_planned: bool) -> Iterator[Removal]:
    folder = store.trial_folder(trial_id)
    if not is_planned and policy.with_unplanned:
        yield _removal("unplanned", folder, trial_id)
        return
    record = store.find(trial_id)
    if record is None or record.train is None:
        return
    for path in _spare_checkpoints(store.checkpoint_folder(trial_id), record, policy):
        yield _removal("checkpoint", path, trial_id)
    if record.status is Status.DONE:
        for number in store.attempt_numbers(trial_id)[:-1]:
            for log in sorted(store.attempt_folder(trial_id, number).glob("*.log")):
                yield _removal("log", log, trial_id)


def _spare_checkpoints(folder: Path, record: RunRecord, policy: KeepRule) -> list[Path]:
    """Resumable states that the policy does not keep; the final policy is another folder, and always stays."""
    assert record.train is not None, "only a finished training has spare checkpoints"
    final = Path(record.train.model_folder).name
    steps = [(step, path) for step, path in step_folders(folder) if path.name != final]
    best = _best_step(record)
    return [
        path
        for place, (step, path) in enumerate(steps)
        if place >= policy.keep_last
        and step != best
        and not (policy.keep_every is not None and step % policy.keep_every == 0)
    ]


def _best_step(record: RunRecord) -> int | None:
    """The step with the best mean over its benchmarks, among the steps with the most of them; ties to the later."""
    scores = [entry for entry in record.scores if grader_name(entry.grader_version) == OURS]
    steps = {entry.step: [one.avg for one in scores if one.step == entry.step] for entry in scores}
    if not steps:
        return None
    return max(steps, key=lambda step: (len(steps[step]), fmean(steps[step]), step))


def _unnamed_models(store: Store, cache_folder: Path, leaving: set[str | None]) -> Iterator[Removal]:
    named = _named_models(store, leaving)
    for path in sorted(cache_folder.glob("*")):
        if path.is_dir() and _BUILT_MODEL.fullmatch(path.name) and path.name not in named:
            yield _removal("model", path, None)


def _named_models(store: Store, leaving: set[str | None]) -> set[str]:
    """Folder names of built-in models that a plan, a record that stays, or an evaluation may ask for."""
    trials = [entry.trial for name in store.plans.names() for entry in store.plans.read(name).entries]
    trials += [record.trial for record in store.list() if record.trial.id not in leaving]
    named = {f"{Path(one.model.path.partition(':')[2]).name}-{one.model_digest[:12]}" for one in trials}
    if any(store.root.glob("evaluations/*/model.json")):
        named |= {f"{spec.name}-{spec.digest[:12]}" for spec in BUILTINS.values()}
    return named


def _temporaries(root: Path, others: list[Removal]) -> Iterator[Removal]:
    newest = time.time() - TEMPORARY_AGE_S
    leaving = {one.path for one in others}
    for path in sorted({path for pattern in _TEMPORARIES for path in root.glob(pattern)}):
        if leaving.isdisjoint(path.parents) and _touched_at(path) < newest:
            yield _removal("temporary", path, None)


def _touched_at(path: Path) -> float:
    """Last change of anything in it."""
    try:
        return max(path.lstat().st_mtime, *(inner.lstat().st_mtime for inner in path.rglob("*")), 0.0)
    except FileNotFoundError:  # its writer is at work
        return time.time()


def _removal(kind: Kind, path: Path, trial: str | None) -> Removal:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Removal(kind=kind, path=path, num_bytes=sum(file.lstat().st_size for file in files), trial=trial)


def _remove(one: Removal) -> bool:
    with explained(one.path):
        if one.kind != "model":
            _erase(one.path)
            return True
        with contextlib.suppress(Timeout), FileLock(f"{one.path}.lock", timeout=0):
            _erase(one.path)
            return True
    return False


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f"{_REMOVED}{path.name}-{secrets.token_hex(4)}")
        path.rename(aside)
        shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)
