"""The append-only sample store: every completion and its grade, one JSON line each, safe to kill at any moment.

    {"key": …, "index": k, "problem": id, "text": …, "tokens": n, "finish": …, "engine": …, "grade": {…}}

A sample's key covers the model digest, the prompt tokens and the sampling settings except K: raising K extends, another
grader re-grades, and the same prompt of the same model is found again under any score. A line that was torn by a kill
is cut off when the store is next opened; its sample is drawn again, with its batch (`eval.batches`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from eval.api import Completion, Grade, SamplingSettings
from eval.errors import OrchError
from eval.score_file import write_text

log = logging.getLogger(__name__)

FILE = "samples.jsonl"
LOCK = "samples.lock"
FRESH = "fresh"
"""Lies beside samples that were to be drawn anew: what other scores hold of the same ones is passed over."""
_KEY_CHARS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One stored completion with its verdict."""

    key: str
    """`sample_key` of its model, prompt and settings."""
    completion: Completion
    grade: Grade
    engine: str

    @property
    def has_failed(self) -> bool:
        """Whether no completion came: it counts as wrong, and is drawn again by the next evaluation."""
        return self.completion.finish_reason == "failed"


def sample_key(model_digest: str, prompt_tokens: Sequence[int], settings: SamplingSettings) -> str:
    """Return 24 hex digits over all that shapes a sample but its index; K is left out."""
    shaping = asdict(replace(settings, num_samples=0))
    text = json.dumps([model_digest, list(prompt_tokens), shaping], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=_KEY_CHARS // 2).hexdigest()


def samples_digest(samples: Iterable[Sample]) -> str:
    """Return a sha256 of what was drawn, in whatever order: texts, lengths and how they ended, without the verdicts."""
    drawn = sorted([one.completion.problem_id, one.completion.index, one.key, *_content(one)] for one in samples)
    return hashlib.sha256(json.dumps(drawn, separators=(",", ":")).encode()).hexdigest()


class SampleStore:
    """The samples of one folder, open for appending by one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Open or create the store and cut off a torn last line.

        Raises:
            OrchError: another process is writing to it, or the folder cannot be written.
        """
        self.file = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / LOCK).open("ab")
            self._out = self._open()
        except OSError as error:
            raise _disk_error(error, self.file) from error
        _take(self._lock, self.file)
        _cut_torn_line(self.file)

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, keys: Mapping[str, object]) -> dict[tuple[str, int], Sample]:
        """Return the stored samples whose key is asked for, by (key, index)."""
        return {(sample.key, sample.completion.index): sample for sample in read_samples(self.file, keys)}

    @property
    def is_fresh(self) -> bool:
        """Whether all samples here were to be drawn anew."""
        return (self.file.parent / FRESH).exists()

    def set_aside(self) -> None:
        """Rename what is stored, so that nothing of it is used again and nothing is lost.

        Raises:
            OrchError: the folder cannot be written.
        """
        folder, at = self.file.parent, f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        try:
            (folder / FRESH).touch()
            for file in (self.file, folder / "score.json"):
                if file.exists() and file.stat().st_size:
                    file.rename(file.with_name(f"{file.stem}.{at}.before{file.suffix}"))
            self._out.close()
            self._out = self._open()
        except OSError as error:
            raise _disk_error(error, self.file) from error

    def append(self, sample: Sample) -> None:
        """Add one sample; it survives a kill of this process once this returns.

        Raises:
            OrchError: the disk is full or the file cannot be written.
        """
        try:
            rest = memoryview(_line(sample))
            while rest:
                rest = rest[self._out.write(rest) :]
        except OSError as error:
            raise _disk_error(error, self.file) from error

    def regrade(self, graded: Callable[[Sample], Sample]) -> int:
        """Pass every stored sample through a function and rewrite the store atomically; return how many changed.

        Raises:
            OrchError: the disk is full or the file cannot be written.
        """
        before = list(read_samples(self.file))
        after = [graded(sample) for sample in before]
        try:
            write_text(self.file, b"".join(map(_line, after)).decode())
            self._out.close()
            self._out = self._open()
        except OSError as error:
            raise _disk_error(error, self.file) from error
        return sum(old != new for old, new in zip(before, after, strict=True))

    def close(self) -> None:
        """Make everything durable and release the store.

        Raises:
            OrchError: the disk is full or failed.
        """
        if self._out.closed:
            return
        try:
            os.fsync(self._out.fileno())
        except OSError as error:
            raise _disk_error(error, self.file) from error
        finally:
            self._out.close()
            self._lock.close()

    def _open(self) -> FileIO:
        """Unbuffered: what could not be written must not be tried again when the file is closed."""
        return FileIO(self.file, "ab")


def read_samples(file: Path, keys: Mapping[str, object] | None = None) -> Iterator[Sample]:
    """Yield the samples of a store's file, all or those with a wanted key; a damaged line is left out and logged.

    Each (key, index) once: the first line that holds it, or where all of them failed, the first that did, at the end.
    """
    if not file.is_file():
        return
    seen: set[tuple[str, int]] = set()
    failed: dict[tuple[str, int], Sample] = {}
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            # The key stands first, so that lines of other prompts are passed over without parsing them.
            if keys is not None and line[9 : 9 + _KEY_CHARS].decode(errors="replace") not in keys:
                continue
            sample = _parse(line, file, number)
            if sample is None or (place := (sample.key, sample.completion.index)) in seen:
                continue
            if sample.has_failed:  # a later line may hold what was drawn for it
                failed.setdefault(place, sample)
                continue
            seen.add(place)
            yield sample
    yield from (sample for place, sample in failed.items() if place not in seen)


def _content(sample: Sample) -> tuple[str, int, str]:
    return sample.completion.text, sample.completion.num_tokens, sample.completion.finish_reason


def _line(sample: Sample) -> bytes:
    completion, grade = sample.completion, sample.grade
    row = {
        "key": sample.key,
        "index": completion.index,
        "problem": completion.problem_id,
        "text": completion.text,
        "tokens": completion.num_tokens,
        "finish": completion.finish_reason,
        **({"reasoning": True} if completion.is_reasoning else {}),
        "engine": sample.engine,
        "grade": {
            "is_correct": grade.is_correct,
            "answer": grade.answer,
            "method": grade.method,
            "status": grade.status,
            "ms": round(grade.elapsed_ms, 3),
            "version": grade.grader_version,
        },
    }
    # ASCII output: a lone surrogate in a decoded text must not make the line unwritable.
    return json.dumps(row, separators=(", ", ": ")).encode() + b"\n"


def _parse(line: bytes, file: Path, number: int) -> Sample | None:
    try:
        row: dict[str, Any] = json.loads(line)
        grade = row["grade"]
        return Sample(
            key=row["key"],
            completion=Completion(
                problem_id=row["problem"],
                index=row["index"],
                text=row["text"],
                num_tokens=row["tokens"],
                finish_reason=row["finish"],
                is_reasoning=row.get("reasoning", False),
            ),
            grade=Grade(
                is_correct=grade["is_correct"],
                answer=grade["answer"],
                method=grade["method"],
                status=grade["status"],
                elapsed_ms=grade["ms"],
                grader_version=grade["version"],
            ),
            engine=row["engine"],
        )
    except (ValueError, KeyError, TypeError):
        log.warning("%s:%d is damaged; its sample will be drawn again", file, number)
        return None


def _take(lock: IO[bytes], file: Path) -> None:
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OrchError(
            "another evaluation is writing to this sample store",
            where=str(file),
            fix="wait for it to end, or stop it; samples already drawn are kept",
        ) from error


def _cut_torn_line(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb+") as content:
        position = size
        while position > 0:
            start = max(0, position - 65536)
            content.seek(start)
            newline = content.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < size:
            log.info("%s: cutting a torn line of %d bytes", file, size - position)
            content.truncate(position)


def _disk_error(error: OSError, file: Path) -> OrchError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return OrchError(
        f"cannot write samples: {'the disk is full' if full else error.strerror}",
        where=str(file),
        fix="free some space and run the same command again; samples already drawn are kept"
        if full
        else "check that the folder exists and is writable",
    )
