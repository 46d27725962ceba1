"""The content digest of a Hugging Face model folder: what tells two models apart in ids and sample keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from eval.errors import ModelError

_CONTENT = (".json", ".safetensors", ".bin", ".txt", ".model", ".jinja")
_BLOCK_BYTES = 1 << 16
_NUM_BLOCKS = 64


def folder_digest(folder: Path, *, patterns: Sequence[str] = ("*",)) -> str:
    """Return a sha256 over the names, sizes and contents of a model folder's files.

    Of files above 4 MiB, 64 evenly spaced blocks of 64 KiB are read: training moves weights everywhere, and planning
    must not read gigabytes. Documents and hidden files do not count, nor does what matches none of the patterns.

    Raises:
        ModelError: the folder is missing, has no config.json or no weights, or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in (one for one in _files(folder) if any(one.match(pattern) for pattern in patterns)):
            size = file.stat().st_size
            digest.update(f"{file.name}\0{size}\0".encode())
            _update_with_content(digest, file, size)
    except OSError as error:
        raise ModelError(f"cannot read the model: {error.strerror}", where=str(error.filename or folder)) from error
    return digest.hexdigest()


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


def _update_with_content(digest: hashlib._Hash, file: Path, size: int) -> None:
    with file.open("rb") as content:
        if size <= _BLOCK_BYTES * _NUM_BLOCKS:
            digest.update(content.read())
            return
        for block in range(_NUM_BLOCKS):
            content.seek((size - _BLOCK_BYTES) * block // (_NUM_BLOCKS - 1))
            digest.update(content.read(_BLOCK_BYTES))
