"""Verdicts of a judge, kept in a file of JSON lines: a rerun asks nothing twice and costs nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from eval.errors import DataError

log = logging.getLogger(__name__)

JudgeVerdict = Literal["right", "wrong", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One reply of a judge and what it cost."""

    verdict: JudgeVerdict
    reply: str
    prompt_tokens: int | None
    """None where the endpoint does not say."""
    completion_tokens: int | None
    elapsed_ms: float
    is_kept: bool = False
    """Read from the file, and so without cost."""


class JudgementCache:
    """The verdicts of one version of a judge, by what it was asked."""

    def __init__(self, file: Path) -> None:
        """Read a file, which need not exist; a line torn by a kill is left out."""
        self._file, self._lock = file, threading.Lock()
        self._kept = dict(_read(file))

    def get(self, prompt: str) -> Judgement | None:
        """Return what was replied to a prompt, or None."""
        return self._kept.get(_key(prompt))

    def keep(self, prompt: str, judgement: Judgement) -> None:
        """Add a reply; it survives a kill of this process once this returns.

        Raises:
            DataError: the file cannot be written.
        """
        key = _key(prompt)
        row = {"key": key, **asdict(judgement)}
        del row["is_kept"]
        with self._lock:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                # One write of a whole line, so that several processes may append to one file.
                with self._file.open("ab", buffering=0) as out:
                    out.write(b"\n" * self._is_torn() + json.dumps(row).encode() + b"\n")
            except OSError as error:
                raise DataError(
                    f"cannot keep a verdict: {error.strerror}", where=str(self._file), fix="free some space, or --store"
                ) from error
            self._kept[key] = replace(judgement, is_kept=True)

    def _is_torn(self) -> bool:
        if not self._file.stat().st_size:
            return False
        with self._file.open("rb") as content:
            content.seek(-1, 2)
            return content.read(1) != b"\n"


def _key(prompt: str) -> str:
    return hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest()[:24]


def _read(file: Path) -> Iterator[tuple[str, Judgement]]:
    if not file.is_file():
        return
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            yield row.pop("key"), Judgement(**row, is_kept=True)
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("%s:%d is damaged; its verdict will be asked for again", file, number)
