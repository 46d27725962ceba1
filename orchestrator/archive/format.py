"""A sweep as one file: a manifest with sha256, then the files. Every byte is checked before it counts.

    manifest.json                 experiment, and path, size and sha256 of each file that follows, in order
    sweeps/<experiment>.json      the plan
    <trial>/recipe.json, record.json, attempts/…, eval/<key>/…, diagnosis/…, and checkpoints/… where asked for

An archive is a stranger's file: nothing outside the manifest, no path that leaves the runs folder or is none of the
above, no link or device, no byte more than the manifest says is ever written.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from eval.files import replacing
from orchestrator.codec import decode, encode
from orchestrator.errors import StoreError
from orchestrator.store.files import explained
from trainers.manifest import HIDDEN_MANIFEST

FORMAT = 1
MANIFEST = "manifest.json"
SUFFIXES = (".tar.gz", ".tgz", ".tar")
Policies = Literal["none", "final", "all"]
"""Which checkpoints go along: none, the trained policies, or the resumable ones as well."""

_PLACE = re.compile(
    r"sweeps/[\w.+-]+\.json|[0-9a-f]{12}/(recipe\.json|record\.json|(attempts|eval|checkpoints|diagnosis)/.+)"
)
_PLAIN_FILE = (tarfile.REGTYPE, tarfile.AREGTYPE)
_LARGEST_MANIFEST = 256 * 2**20
_BLOCK = 2**20
_LARGEST_READ = 2 * _BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive."""

    path: str
    """Relative to the runs folder."""
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an archive holds."""

    format: int = FORMAT
    experiment: str
    policies: Policies
    created_at: str
    files: tuple[Member, ...]

    @property
    def num_bytes(self) -> int:
        """Sum over the files."""
        return sum(file.bytes for file in self.files)


class ArchiveDamaged(StoreError):
    """An archive is not what its manifest says, or no archive of ours."""


def write_archive(manifest: Manifest, root: Path, file: Path) -> None:
    """Pack the files of a manifest, gzipped unless the name ends in .tar; the archive appears whole or not at all.

    Raises:
        StoreError: it cannot be written, or the disk is full.
    """
    with explained(file):
        _write(manifest, root, file)


def unpack(file: Path, folder: Path) -> Manifest:
    """Write an archive's files into a folder, each checked against the manifest while it is read.

    Raises:
        ArchiveDamaged: with the first file that is not what it should be, and both digests.
        StoreError: it cannot be read, or there is no room for it.
    """
    reading = file.name
    try:
        with _opened(file) as archive:
            manifest = _read_manifest(archive, file)
            _check_room(manifest, folder)
            for member in manifest.files:
                reading = member.path
                _unpack_member(archive, member, folder, file)
            _check_end(archive, file)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise _damaged(file, f"{reading} cannot be read: {error}") from error
    except OSError as error:
        raise StoreError(
            f"an archive cannot be unpacked: {error.strerror or error}", where=str(file), fix="give another file"
        ) from error
    return manifest


def _write(manifest: Manifest, root: Path, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as out, _compressed(out, file) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        text = json.dumps(encode(manifest), indent=1).encode()
        archive.addfile(_header(MANIFEST, len(text)), io.BytesIO(text))
        for member in manifest.files:
            with (root / member.path).open("rb") as content:
                archive.addfile(_header(member.path, member.bytes), content)


@contextlib.contextmanager
def _compressed(out: IO[bytes], file: Path) -> Iterator[IO[bytes]]:
    if file.name.endswith(".tar"):
        yield out
        return
    with gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=6, mtime=0) as stream:
        yield cast(IO[bytes], stream)


def _header(path: str, num_bytes: int) -> tarfile.TarInfo:
    """The same for the same content: no owner, no times."""
    header = tarfile.TarInfo(path)
    header.size, header.mode = num_bytes, 0o644
    return header


class _Bounded:
    """A stream of which no more than some is read at once: a header cannot ask for gigabytes of memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def read(self, num_bytes: int = -1) -> bytes:
        if not 0 <= num_bytes <= _LARGEST_READ:
            raise tarfile.ReadError(f"a header asks for {num_bytes} bytes")
        return self._stream.read(num_bytes)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    with file.open("rb") as content:
        is_gzip = content.read(2) == b"\x1f\x8b"
        content.seek(0)
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=content)) if is_gzip else content
        with tarfile.open(fileobj=cast(IO[bytes], _Bounded(stream)), mode="r:") as archive:
            yield archive


def _read_manifest(archive: tarfile.TarFile, file: Path) -> Manifest:
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > _LARGEST_MANIFEST:
        raise _damaged(file, f"it does not begin with {MANIFEST}: no archive of `orch export`")
    content = archive.extractfile(first)
    assert content is not None, "a regular file has content"
    text = b"".join(iter(lambda: content.read(_BLOCK), b""))
    try:
        payload = json.loads(text)
        if isinstance(payload, dict) and payload.get("format", 0) > FORMAT:
            raise StoreError("a newer orch wrote this archive", where=str(file), fix="upgrade orch")
        manifest = decode(Manifest, payload)
    except (ValueError, TypeError) as error:  # CodecError is a ValueError
        raise _damaged(file, f"its manifest does not read: {error}") from error
    paths = [member.path for member in manifest.files]
    refused = next((path for path in paths if not _is_allowed(path)), None)
    if refused is not None or len(set(paths)) < len(paths) or any(one.bytes < 0 for one in manifest.files):
        raise _damaged(
            file, f"its manifest names {refused!r}" if refused is not None else "its manifest repeats itself"
        )
    return manifest


def _is_allowed(path: str) -> bool:
    parts = path.split("/")
    is_plain = all(part and (not part.startswith(".") or part == HIDDEN_MANIFEST) for part in parts)
    return is_plain and "\\" not in path and "\0" not in path and _PLACE.fullmatch(path) is not None


def _check_room(manifest: Manifest, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if manifest.num_bytes > free:
        raise StoreError(
            f"the archive unpacks to {manifest.num_bytes} bytes, {free} are free",
            where=str(folder),
            fix="free some space, or import into another --store",
        )


def _unpack_member(archive: tarfile.TarFile, member: Member, folder: Path, file: Path) -> None:
    header = archive.next()
    if header is None:
        raise _damaged(file, f"{member.path} is missing")
    if header.name != member.path or header.type not in _PLAIN_FILE or header.size != member.bytes:
        what = f"a file of {header.size} bytes" if header.type in _PLAIN_FILE else "no plain file"
        raise _damaged(file, f"{header.name} is {what} where {member.path} of {member.bytes} bytes is due")
    content = archive.extractfile(header)
    assert content is not None, "a plain file has content"
    digest, path = hashlib.sha256(), folder / member.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        for block in iter(lambda: content.read(_BLOCK), b""):
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != member.sha256:
        raise _damaged(file, f"{member.path} has sha256 {digest.hexdigest()}, its manifest says {member.sha256}")


def _check_end(archive: tarfile.TarFile, file: Path) -> None:
    """Refuse what follows the last file; reading to the end also lets gzip compare its checksum."""
    if archive.next() is not None:
        raise _damaged(file, "it holds more files than its manifest names")
    rest = archive.fileobj
    assert rest is not None, "an open archive has a file"
    if rest.read(_LARGEST_READ).strip(b"\0") or rest.read(1):
        raise _damaged(file, "something follows its end")


def _damaged(file: Path, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(f"the archive is damaged: {what}", where=str(file), fix="export it again, or copy it again")
