"""Files that are replaced whole: the one place where something is written under a temporary name and renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o666, is_synced: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write into; when the block ends well, it takes the place of `path`.

    A reader, or a crash at any moment, finds the old or the new content, whole. When the block raises, the old one
    stands and nothing is left beside it.

    Args:
        path: the file, in a folder that is there: what was removed is not made anew by who still writes into it.
        mode: permissions of the file, less the process's umask.
        is_synced: wait until the disk has it. False suits what may be lost, such as a progress bar.

    Raises:
        OSError: not writable, or the disk is full.
    """
    # Hidden, and with the ending by which what killed writers left is found and removed.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            if is_synced:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if is_synced:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
