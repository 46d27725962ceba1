"""Are a model's weights whole? What a safetensors file says of itself is compared with its size; nothing is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from eval.errors import ModelError

_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
"""The format's own limit."""
_FIX = "copy or fetch the file again"


def check_weights(folder: Path) -> None:
    """Refuse weights that were cut off on their way, and shards that are missing.

    Raises:
        ModelError: naming the file.
    """
    for index in sorted(folder.glob("*.safetensors.index.json")):
        for shard in sorted(_shards(index)):
            if not (folder / shard).is_file():
                raise ModelError(f"a shard of the model is missing: {shard}", where=str(index), fix=_FIX)
    for file in sorted(folder.glob("*.safetensors")):
        _check_file(file)


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the index of the weights does not read: {error}", where=str(index), fix=_FIX) from error


def _check_file(file: Path) -> None:
    """Compare a file's size with what its header promises: 8 bytes of length, the header in JSON, the tensors."""
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            header_bytes = int.from_bytes(content.read(_LENGTH_BYTES), "little")
            if not 0 < header_bytes <= _LONGEST_HEADER:
                raise ModelError("a file of weights is no safetensors file", where=str(file), fix=_FIX)
            header = content.read(header_bytes)
        if len(header) < header_bytes:
            raise ModelError(
                f"a file of weights was cut off within its header: {size} bytes", where=str(file), fix=_FIX
            )
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        wanted = _LENGTH_BYTES + header_bytes + max((entry["data_offsets"][1] for entry in tensors), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"a file of weights does not read: {error}", where=str(file), fix=_FIX) from error
    if size < wanted:
        raise ModelError(f"a file of weights was cut off: {size:,} of {wanted:,} bytes", where=str(file), fix=_FIX)
