"""verl's checkpoints made trustworthy: a manifest of hashes written last, and only verified folders resumed from.

checkpoints/global_step_10/{actor/…, data.pt, manifest.json}     verl's layout, and ours on top
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from pathlib import Path

from eval.errors import OrchError

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_STEP_FOLDER = re.compile(r"global_step_(\d+)")


def seal(folder: Path, *, fingerprint: str) -> None:
    """Write the manifest of a finished checkpoint: from now on it counts as whole."""
    files = {str(file.relative_to(folder)): _sha256(file) for file in _files(folder)}
    partial = folder / f".{_MANIFEST}"
    partial.write_text(json.dumps({"fingerprint": fingerprint, "files": files}, indent=1))
    partial.rename(folder / _MANIFEST)


def newest_whole(checkpoints: Path, *, fingerprint: str) -> tuple[Path | None, int]:
    """Return the newest checkpoint that is what was written, and its step; (None, 0) where there is none.

    Raises:
        OrchError: it belongs to another recipe or seed.
    """
    for step, folder in _steps(checkpoints):
        try:
            manifest = json.loads((folder / _MANIFEST).read_text())
            damaged = [name for name, digest in manifest["files"].items() if _sha256(folder / name) != digest]
        except (OSError, ValueError, KeyError) as error:
            log.warning("checkpoint of step %d is passed over: %s: %s", step, type(error).__name__, error)
            continue
        if damaged:
            log.warning("checkpoint of step %d is passed over: %s is not what was written", step, damaged[0])
            continue
        if manifest["fingerprint"] != fingerprint:
            raise OrchError(
                "the checkpoint belongs to another recipe or seed",
                where=str(folder),
                mend="delete the folder to train from the start",
            )
        return folder, step
    return None, 0


def prune(checkpoints: Path, *, keep: int, newest: int) -> None:
    """Delete all but the newest `keep` checkpoints up to step `newest`; those beyond it had been passed over."""
    kept = [folder for step, folder in _steps(checkpoints) if step <= newest][:keep]
    for _, folder in _steps(checkpoints):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _steps(checkpoints: Path) -> list[tuple[int, Path]]:
    """The checkpoint folders, newest first."""
    if not checkpoints.is_dir():
        return []
    matches = ((_STEP_FOLDER.fullmatch(path.name), path) for path in checkpoints.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(_MANIFEST))


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
