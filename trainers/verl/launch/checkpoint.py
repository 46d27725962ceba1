"""verl's checkpoints made trustworthy: a manifest of hashes written last, and only verified folders resumed from.

checkpoints/global_step_10/{actor/…, data.pt, manifest.json}     verl's layout, and ours on top
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from eval.errors import OrchError
from eval.files import sync
from trainers.checkpoints import step_folders
from trainers.manifest import MANIFEST, damaged_files, sha256_of

log = logging.getLogger(__name__)


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
    for step, folder in step_folders(checkpoints):
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
