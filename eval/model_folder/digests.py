"""The content digest of a Hugging Face model folder: what tells two models apart in ids and sample keys.

Every byte counts: weights, tokenizer, chat templates, generation config and code that the folder brings along. Large
files are read in pieces by several threads, and what was read once is kept (`kept.py`), so that the same
folder costs one `stat` a file from then on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from eval.errors import ModelError
from eval.model_folder.kept import FolderDigests, keeping, kept

OnBytes = Callable[[int, int], None]
"""Told how many bytes were read, and how many there are to read."""

PIECE_BYTES = 1 << 26
"""What one thread reads at a time: a single file of many gigabytes keeps all of them busy."""

_CONTENT = (".json", ".safetensors", ".bin", ".txt", ".model", ".jinja")
"""What earlier versions counted as content, and what a model needs at least."""
_MORE_CONTENT = (".py", ".tiktoken", ".spm")
_TEMPLATES = "additional_chat_templates"
"""Folder in which transformers keeps the chat templates of a tokenizer beside its default one."""
_BUFFER_BYTES = 1 << 20
_MAX_THREADS = 8
_BLOCK_BYTES, _NUM_BLOCKS = 1 << 16, 64
"""Of files above their product, earlier versions read so many evenly spaced blocks."""


def folder_digest(
    folder: Path, *, patterns: Sequence[str] = ("*",), on_bytes: OnBytes = lambda done, total: None
) -> str:
    """Return a sha256 over the names, sizes and all bytes of a model folder's files: `folder_digests`'s `digest`."""
    return folder_digests(folder, patterns=patterns, on_bytes=on_bytes).digest


def folder_digests(
    folder: Path, *, patterns: Sequence[str] = ("*",), on_bytes: OnBytes = lambda done, total: None
) -> FolderDigests:
    """Return what tells a folder's content apart, and what earlier versions called it.

    Documents and hidden files do not count, nor does what matches none of the patterns. Reads nothing where no file
    has changed its size, times or inode since the last call.

    Args:
        folder: a Hugging Face folder.
        patterns: of the names of files that count.
        on_bytes: told of progress while files are read.

    Raises:
        ModelError: the folder is missing, has no config.json or no weights, or cannot be read.
    """
    files = [one for one in (*_files(folder), *_further_files(folder)) if any(one.match(name) for name in patterns)]
    try:
        with keeping(folder, files) as keep:
            found = kept(folder, files)
            if found is None:
                found = _read(folder, files, on_bytes)
                keep(found)
    except OSError as error:
        raise ModelError(f"cannot read the model: {error.strerror}", where=str(error.filename or folder)) from error
    return found


def check_folder(folder: Path) -> None:
    """Raise ModelError unless the folder looks like a whole Hugging Face model."""
    _files(folder)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModelError("the model folder does not exist", where=str(folder), fix="correct model.path")
    files = sorted(file for file in folder.iterdir() if file.suffix in _CONTENT and not file.name.startswith("."))
    names = {file.name for file in files}
    if "config.json" not in names:
        raise ModelError("the model folder has no config.json", where=str(folder), fix="give a Hugging Face folder")
    if not any(file.suffix in (".safetensors", ".bin") for file in files):
        raise ModelError("the model folder has no weights", where=str(folder), fix="copy *.safetensors beside it")
    return files


def _further_files(folder: Path) -> list[Path]:
    """Content that earlier versions passed over."""
    return sorted(
        file
        for file in (*folder.iterdir(), *folder.glob(f"{_TEMPLATES}/*.jinja"))
        if (file.suffix in _MORE_CONTENT or file.parent.name == _TEMPLATES) and not file.name.startswith(".")
    )


def _read(folder: Path, files: Sequence[Path], on_bytes: OnBytes) -> FolderDigests:
    known_before = [file for file in files if file.suffix in _CONTENT and file.parent == folder]
    former = _sampled(known_before)
    # Of small files every byte was read before, too: such folders, and the ids of trials on them, stay what they were.
    if known_before == list(files) and all(file.stat().st_size <= _BLOCK_BYTES * _NUM_BLOCKS for file in files):
        return FolderDigests(digest=former, former=former)
    pieces = [piece for file in files for piece in _pieces(file)]
    total, done = sum(piece.num_bytes for piece in pieces), 0
    digest = hashlib.sha256(b"every byte\0")
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        for piece, content in zip(pieces, threads.map(_Piece.digest, pieces), strict=True):
            digest.update(content)
            done += piece.num_bytes
            on_bytes(done, total)
    return FolderDigests(digest=digest.hexdigest(), former=former)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a file that one thread reads."""

    file: Path
    start: int
    num_bytes: int

    def digest(self) -> bytes:
        found, left = hashlib.sha256(), self.num_bytes
        with self.file.open("rb", buffering=0) as content:
            content.seek(self.start)
            while left > 0:
                read = content.read(min(left, _BUFFER_BYTES))
                if not read:  # it became shorter; `keeping` sees that its status changed
                    break
                found.update(read)
                left -= len(read)
        return found.digest()


def _pieces(file: Path) -> Iterator[_Piece]:
    size = file.stat().st_size
    for start in range(0, size, PIECE_BYTES):
        yield _Piece(file, start, min(PIECE_BYTES, size - start))


def _sampled(files: Sequence[Path]) -> str:
    """The digest of earlier versions, which did not see what lies between the blocks of a large file."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as content:
            if size <= _BLOCK_BYTES * _NUM_BLOCKS:
                digest.update(content.read())
                continue
            for block in range(_NUM_BLOCKS):
                content.seek((size - _BLOCK_BYTES) * block // (_NUM_BLOCKS - 1))
                digest.update(content.read(_BLOCK_BYTES))
    return digest.hexdigest()
