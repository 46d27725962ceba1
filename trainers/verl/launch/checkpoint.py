"""verl's checkpoints made trustworthy: a manifest of hashes written last, and only verified folders resumed from.

checkpoints/global_step_10/{actor/…, data.pt, manifest.json}     verl's layout, and ours on top
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

from eval.errors import OrchError
from eval.files import sync
from trainers.checkpoints import kept_steps
from trainers.manifest import MANIFEST, damaged_files, reward_of, sha256_of
from trainers.recipe import Resources

log = logging.getLogger(__name__)

_STEP_FOLDER = re.compile(r"global_step_(\d+)")


def seal(folder: Path, *, fingerprint: str, reward: float | None) -> None:
    """Write the manifest of a finished checkpoint, when the disk has all of it: from now on it counts as whole.

    Args:
        folder: `global_step_<k>`.
        fingerprint: of recipe and seed.
        reward: mean training reward of the step, by which the best are kept.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.endswith(MANIFEST)]
    for file in files:
        sync(file)
    digests = {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
    partial = folder / f".{MANIFEST}"
    partial.write_text(json.dumps({"fingerprint": fingerprint, "reward": reward, "files": digests}, indent=1))
    sync(partial)
    partial.rename(folder / MANIFEST)
    sync(folder)


def newest_whole(checkpoints: Path, *, fingerprint: str) -> tuple[Path | None, int]:
    """Return the newest checkpoint that is what was written, and its step; (None, 0) where there is none.

    Raises:
        OrchError: it belongs to another recipe or seed.
    """
    for step, folder in _steps(checkpoints):
        damaged = damaged_files(folder)
        if damaged:
            log.warning("checkpoint of step %d is passed over: %s is not what was written", step, damaged[0])
            continue
        if json.loads((folder / MANIFEST).read_text()).get("fingerprint") != fingerprint:
            raise OrchError(
                "the checkpoint belongs to another recipe or seed",
                where=str(folder),
                fix="delete the folder to train from the start",
            )
        return folder, step
    return None, 0


def prune(checkpoints: Path, resources: Resources, *, newest: int) -> None:
    """Delete what `resources` does not ask to keep, and all beyond step `newest`: these had been passed over."""
    kept = kept_steps({step: reward_of(folder) for step, folder in _steps(checkpoints) if step <= newest}, resources)
    for step, folder in _steps(checkpoints):
        if step not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _steps(checkpoints: Path) -> list[tuple[int, Path]]:
    """The checkpoint folders, newest first."""
    if not checkpoints.is_dir():
        return []
    matches = ((_STEP_FOLDER.fullmatch(path.name), path) for path in checkpoints.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)
