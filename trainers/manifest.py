"""What a checkpoint folder held when it was written: sha256 of its files, and which of them differ now.

    checkpoints/step-00000010/manifest.json     `lite`: {"sha256": of state.pt, …}
    checkpoints/global_step_10/manifest.json    `verl`: {"files": {name: sha256}, …}
    checkpoints/final/.manifest.json            the trained policy: hidden, so that no model's digest counts it

Light at import, so that verifying a runs folder needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MANIFEST, HIDDEN_MANIFEST = "manifest.json", ".manifest.json"
LITE_STATE = "state.pt"


def write_hidden_manifest(folder: Path) -> None:
    """Write down what a folder holds, in a file that does not count as content of a model."""
    files = {
        file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }
    (folder / HIDDEN_MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n")


def has_manifest(folder: Path) -> bool:
    """Whether the folder says what it should hold; checkpoints of older versions' final policies do not."""
    return (folder / MANIFEST).is_file() or (folder / HIDDEN_MANIFEST).is_file()


def damaged_files(folder: Path) -> list[str]:
    """Names of the files that are not what the manifest says, the manifest itself where it does not read; sorted."""
    name = MANIFEST if (folder / MANIFEST).is_file() else HIDDEN_MANIFEST
    try:
        manifest = json.loads((folder / name).read_bytes())
        files = manifest["files"] if "files" in manifest else {LITE_STATE: manifest["sha256"]}
        return sorted(file for file, digest in files.items() if not _is_whole(folder / file, digest))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [name]


def reward_of(folder: Path) -> float | None:
    """Return the mean training reward of a checkpoint's step, or None where its manifest does not say it."""
    try:
        reward = json.loads((folder / MANIFEST).read_bytes())["reward"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return reward if isinstance(reward, float | int) else None


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _is_whole(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_of(file) == digest
