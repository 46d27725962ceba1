"""Sweeps out of a runs folder and into another: what travels, what is refused, and that nothing arrives half.

runs folder ─ export ─▶ archive ─ unpack, check ─▶ staging folder ─ whole trials, plan last ─▶ another runs folder
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.archive.format import SUFFIXES, Manifest, Member, Policies, unpack, write_archive
from orchestrator.errors import StoreError
from orchestrator.store.files import explained
from orchestrator.store.redact import now
from orchestrator.store.store import Store
from trainers.manifest import HIDDEN_MANIFEST, sha256_of

STAGING = ".import-"
"""Beginning of the folder in which an archive is unpacked; what a kill left of it is no one's."""
_RUNS_CODE = re.compile(r".*\.(py|so|pickle|pkl)|[^/]+/checkpoints/global_step_\d+/.+\.pt")
"""Files that could run what their maker wrote when they are read: modules, pickles, and verl's checkpoints."""
_NUM_SHOWN = 8


def export(store: Store, experiment: str, file: Path, *, policies: Policies = "none") -> Manifest:
    """Pack an experiment into an archive, gzipped unless its name ends in .tar; appears whole or not at all.

    Raises:
        StoreError: no such experiment, one of its trials is at work, or the file cannot be written.
    """
    if not file.name.endswith(SUFFIXES):
        raise StoreError(
            f"{file.name} does not end in {', '.join(SUFFIXES)}", where=str(file), fix=f"{file.stem}.tar.gz"
        )
    trial_ids = store.plans.trial_ids(experiment)
    busy = [trial_id for trial_id in trial_ids if store.is_locked(trial_id)]
    if busy:
        raise StoreError(
            f"trial {busy[0]} is being worked on",
            where=str(store.trial_folder(busy[0])),
            fix=f"wait for the sweep to end, or stop it with Ctrl-C; `orch status {experiment}` shows it",
        )
    paths = [store.plans.file(experiment)]
    paths += [path for trial_id in trial_ids for path in _files_of(store, trial_id, policies)]
    members = tuple(_member(path, store.root) for path in paths)
    manifest = Manifest(experiment=experiment, policies=policies, created_at=now(), files=members)
    write_archive(manifest, store.root, file)
    return manifest


def import_archive(file: Path, store: Store, *, is_trusted: bool = False) -> tuple[Manifest, int]:
    """Unpack an archive into a runs folder; returns its manifest and how many files were not there yet.

    Every byte is checked first, beside the store; then whole trials move in, the plan last. Files that are there and
    equal are left alone. Killed at any moment, the same call finishes.

    Args:
        file: of `export`.
        store: need not exist yet.
        is_trusted: also take files that run code when they are read.

    Raises:
        ArchiveDamaged: the archive is not what its manifest says.
        StoreError: the store holds another content under one of the names, a trial is at work, or there is code in it.
    """
    store.check_writable()
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=store.root))
    try:
        manifest = unpack(file, staging)
        if not is_trusted:
            _refuse_code(manifest, file)
        present = [member for member in manifest.files if (store.root / member.path).exists()]
        _refuse_other_content(present, store)
        new = set(manifest.files) - set(present)
        by_owner: dict[str, list[Member]] = {}
        for member in manifest.files:
            if member in new:
                by_owner.setdefault(member.path.split("/")[0], []).append(member)
        plans = by_owner.pop("sweeps", [])
        with explained(store.root):
            for owner, members in by_owner.items():
                _move_trial(owner, members, staging, store)
            _move_files(plans, staging, store.root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest, len(new)


def _files_of(store: Store, trial_id: str, policies: Policies) -> Iterator[Path]:
    """A trial's files that travel, in a fixed order: no locks, no temporaries, nothing of this machine's moment."""
    folder = store.trial_folder(trial_id)
    parts = [folder / name for name in ("recipe.json", "record.json", "attempts", "eval", "diagnosis")]
    if policies == "all":
        parts.append(store.checkpoint_folder(trial_id))
    elif policies == "final":
        record = store.find(trial_id)
        if record is not None and record.train is not None:
            parts.append(folder / record.train.model_folder)
    for part in parts:
        for path in [part] if part.is_file() else sorted(part.rglob("*")):
            is_ours = path.is_file() and not path.is_symlink() and path.is_relative_to(folder)
            if is_ours and path.suffix not in (".lock", ".pickle") and not _is_temporary(path.relative_to(folder)):
                yield path


def _is_temporary(path: Path) -> bool:
    """Hidden names are of writers at work; `.manifest.json` of a trained policy is not."""
    return any(part.startswith(".") and part != HIDDEN_MANIFEST for part in path.parts)


def _member(path: Path, root: Path) -> Member:
    return Member(path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=sha256_of(path))


def _refuse_code(manifest: Manifest, file: Path) -> None:
    found = [member.path for member in manifest.files if _RUNS_CODE.fullmatch(member.path)]
    if found:
        raise StoreError(
            f"{len(found)} of its files run what they hold when they are read, {found[0]} the first",
            where=str(file),
            fix="import it with --trust if you trust its maker, or ask for an archive without checkpoints",
        )


def _refuse_other_content(present: Sequence[Member], store: Store) -> None:
    other = [(one, sha256_of(store.root / one.path)) for one in present]
    other = [(one, digest) for one, digest in other if digest != one.sha256]
    if other:
        shown = [f"{one.path}: here {digest}, in the archive {one.sha256}" for one, digest in other[:_NUM_SHOWN]]
        raise StoreError(
            f"the runs folder holds other content for {len(other)} of the files:\n    " + "\n    ".join(shown),
            where=str(store.root),
            fix="import into an empty folder with --store; nothing was changed here",
        )


def _move_trial(trial_id: str, members: Sequence[Member], staging: Path, store: Store) -> None:
    """A new trial moves in as a whole, files of a known one each as a whole and its record last."""
    if not store.trial_folder(trial_id).exists():
        (staging / trial_id).rename(store.trial_folder(trial_id))
        return
    with store.lock(trial_id):
        _move_files(sorted(members, key=lambda member: member.path.endswith("/record.json")), staging, store.root)


def _move_files(members: Sequence[Member], staging: Path, root: Path) -> None:
    for member in members:
        (root / member.path).parent.mkdir(parents=True, exist_ok=True)
        (staging / member.path).replace(root / member.path)
