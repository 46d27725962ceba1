"""What is added to a file, read piece by piece: logs that are followed, metrics that grow."""

from __future__ import annotations

import codecs
from pathlib import Path


class FileTail:
    """Reads a growing file; one that was cut or replaced by a shorter one is read anew."""

    def __init__(self, path: Path, *, last_bytes: int | None = None) -> None:
        """Begin at the start, or that many bytes before the end. The file need not be there yet."""
        self.path = path
        self._offset = max(0, _size(path) - last_bytes) if last_bytes is not None else 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._unfinished = ""

    def read(self) -> str:
        """All that was added since the last call."""
        if _size(self.path) < self._offset:
            self._offset, self._unfinished = 0, ""
            self._decoder.reset()
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
        except OSError:
            return ""
        self._offset += len(added)
        return self._decoder.decode(added)

    def read_lines(self) -> list[str]:
        """The whole lines that were added; one that is still being written waits for its end."""
        *lines, self._unfinished = (self._unfinished + self.read()).split("\n")
        return lines


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
