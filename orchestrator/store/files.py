"""Files that survive crashes, and the errors of disks in words: what `store` writes and reads with."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from eval.files import replacing
from orchestrator.codec import CodecError, decode
from orchestrator.errors import StoreError

T = TypeVar("T")

REBUILD = (
    "move the file aside and run the same `orch sweep` again: it is made anew from the checkpoints and scores beside it"
)
"""What to do about a file that does not read."""

_SEAL = re.compile(rb'\{\n "seal": "([0-9a-f]{16})",\n')
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class FileDamaged(StoreError):
    """A file does not hold what was written: it was cut short, or a bit of it flipped."""


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace a file so that a reader, or a crash at any moment, finds the old or the new content, whole.

    Args:
        path: the file; folders are made as needed.
        content: all of it.
        mode: permissions of the file, less the process's umask.

    Raises:
        StoreError: not writable, or the disk is full; the old content stands.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode=mode) as file:
            file.write(content)


def write_view(path: Path, content: bytes) -> None:
    """Replace a file that is a view, never the truth: the disk is not waited for, and a failure is no matter."""
    with contextlib.suppress(OSError), replacing(path, is_synced=False) as file:
        file.write(content)


def write_synced(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file and wait until the disk has it; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the block's OSErrors into StoreErrors that name the file and the fix."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> StoreError:
    """What an OSError means for the runs folder."""
    where = str(path)
    if error.errno in _FULL_DISK:
        return StoreError(
            "the disk of the runs folder is full (or its quota is used up)",
            where=where,
            fix="free some space, then run the same command again: nothing that was written is lost",
        )
    if error.errno in _NOT_WRITABLE:
        return StoreError(
            f"the runs folder is not writable: {error.strerror}",
            where=where,
            fix="give another one with --store, or set its permissions",
        )
    return StoreError(f"the runs folder does not work: {error}", where=where, fix="give another one with --store")


def write_json(path: Path, payload: dict[str, Any], *, mode: int = 0o666) -> None:
    """Replace a file by a JSON object and a seal over it: a bit that flips on the disk must not become a result.

    Raises:
        StoreError: not writable, or the disk is full; the old content stands.
    """
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n"
    body = text.removeprefix(b"{\n")
    write_atomically(path, b'{\n "seal": "' + _digest(body) + b'",\n' + body, mode=mode)


def create_json(path: Path, payload: dict[str, Any]) -> bool:
    """Write a sealed JSON object unless the file is there; whether it was this call that wrote it.

    Raises:
        StoreError: not writable, or the disk is full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    write_json(draft, payload)
    try:
        with explained(path):
            os.link(draft, path)  # of several processes one succeeds, and what the others find is whole
    except StoreError as error:
        if isinstance(error.__cause__, FileExistsError):
            return False
        raise
    finally:
        draft.unlink(missing_ok=True)
    return True


def read_json(path: Path) -> Any:
    """Parsed content, or None where there is no such file. Without a seal it is taken as it is.

    Raises:
        FileDamaged: it is no JSON, or not what was sealed. StoreError: it cannot be opened.
    """
    content = read_whole(path)
    if content is None:
        return None
    try:
        payload = _parsed(content)
    except ValueError as error:
        raise FileDamaged(f"a file is truncated or corrupt: {error}", where=str(path), fix=REBUILD) from error
    if isinstance(payload, dict) and payload.pop("seal", None) is not None and _SEAL.match(content) is None:
        raise _broken_seal(path)
    return payload


def decoded(kind: type[T], payload: Any, *, what: str, where: object, fix: str = REBUILD) -> T:
    """Decode what was read from a file of the runs folder.

    Args:
        kind: what it holds.
        payload: its JSON.
        what: what a message calls it, such as `a record`.
        where: the file.
        fix: what to do about one that does not read.

    Raises:
        StoreError: it does not read.
    """
    try:
        return decode(kind, payload)
    except (CodecError, TypeError, ValueError) as error:
        raise StoreError(f"{what} does not read: {error}", where=str(where), fix=fix) from error


def read_view(kind: type[T], path: Path) -> T | None:
    """Read what `write_view` wrote; None where there is nothing, or it does not read: a view is never the truth."""
    try:
        return decode(kind, json.loads(path.read_text()))
    except (OSError, ValueError):  # CodecError is a ValueError
        return None


def read_whole(path: Path) -> bytes | None:
    """Content that is what its seal says, if it has one; None where there is no such file.

    Raises:
        FileDamaged: it is not what was sealed. StoreError: it cannot be opened.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise explain(error, path) from error
    seal = _SEAL.match(content)
    if seal is not None and _digest(content[seal.end() :]) != seal[1]:
        raise _broken_seal(path)
    return content


def _parsed(content: bytes) -> Any:
    """Parse by msgspec, several times as quick, and by json what has the NaN of a score of one question."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return json.loads(content)


def _broken_seal(path: Path) -> FileDamaged:
    return FileDamaged("a file is truncated or corrupt: it is not what its seal says", where=str(path), fix=REBUILD)


def complete_lines(path: Path) -> list[bytes]:
    """Lines that end in a newline: one that a crash cut short has not been written as far as we are concerned."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return [line for line in content.split(b"\n")[:-1] if line.strip()]


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).hexdigest().encode()


def stamp(path: Path) -> tuple[int, int]:
    """Return (modification time in ns, size) of a file: changes whenever it is replaced; (0, 0) without one."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
