"""Digests of model folders that were read before: one small file a folder in orch's cache, never in the folder itself.

    ~/.cache/orch/digests/<hash of the path>.json    {"files": [[name, size, mtime, ctime, inode, device], …], …}

An entry counts as long as no file of the folder has another status. The time of the last change of status (ctime) is
part of it, because a tool may set the time of modification back (`cp -p`, `touch -r`), but not that one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.files import replacing

FORMAT = 2
"""Raised when a digest comes to mean something else."""
CLOCK_TICK_S = 0.02
"""File systems stamp changes by a clock that ticks every few milliseconds: two changes within a tick look like one."""

Status = list[list[str | int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDigests:
    """What a model folder is called."""

    digest: str
    """Of every byte of its content."""
    former: str
    """What earlier versions called it: large files only sampled. The same where that covered every byte."""


def kept(folder: Path, files: Sequence[Path]) -> FolderDigests | None:
    """Return the digests of a folder that was read before, or None where it was not, or has changed since."""
    try:
        entry = json.loads(_entry_file(folder, files).read_text())
        if entry["format"] == FORMAT and entry["files"] == _status(files):
            return FolderDigests(digest=entry["digest"], former=entry["former"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no entry, or a damaged one: the folder is read again
    return None


@contextlib.contextmanager
def keeping(folder: Path, files: Sequence[Path]) -> Iterator[Callable[[FolderDigests], None]]:
    """Give a function that keeps the digests of files which are read meanwhile; it keeps nothing if they change.

    Raises:
        OSError: a file cannot be looked at.
    """
    before = _status(files)
    newest_s = max((max(int(one[2]), int(one[3])) for one in before), default=0) / 1e9
    # A change after the reading must get another stamp than the last one before it.
    time.sleep(min(CLOCK_TICK_S, max(0.0, newest_s + CLOCK_TICK_S - time.time())))

    def keep(found: FolderDigests) -> None:
        if _status(files) != before:
            return
        file = _entry_file(folder, files)
        entry = {"format": FORMAT, "path": str(folder.resolve()), "files": before, **asdict(found)}
        with contextlib.suppress(OSError):  # without a cache the folder is read again
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file, is_synced=False) as out:
                out.write(json.dumps(entry).encode())

    yield keep


def cache_folder() -> Path:
    """Folder in which digests are kept."""
    return Path.home() / ".cache" / "orch" / "digests"


def _entry_file(folder: Path, files: Sequence[Path]) -> Path:
    # The same folder may be asked for with other patterns, hence other files.
    named = json.dumps([str(folder.resolve()), [str(file.relative_to(folder)) for file in files]])
    return cache_folder() / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.json"


def _status(files: Sequence[Path]) -> Status:
    found: Status = []
    for file in files:
        one = file.stat()
        found.append([file.name, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_dev])
    return found
