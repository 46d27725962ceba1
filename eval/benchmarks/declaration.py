"""What a benchmark file declares, and how a raw row becomes a normalised `Problem`.

Standard library only: planning reads declarations and digests without loading a data set library.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from eval.api import AnswerKind, Problem
from eval.errors import DataError

Purpose = Literal["evaluation", "training"]
RawRow = Mapping[str, Any]

_INTEGER = re.compile(r"[+-]?\d+(?:,\d{3})*(?:\.0*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """One split of one Hugging Face data set."""

    repository: str
    split: str
    config: str | None = None
    revision: str | None = None
    """Commit of the data set; None where no commit could be confirmed: then only the row digest guards it."""
    read: Callable[[RawRow], RawRow | None]
    """Maps a hub row to our layout {question, answer, choices?, error?}; None leaves the row out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """Everything that is fixed about a benchmark before a byte of it is read."""

    name: str
    purpose: Purpose
    file: str
    """Name of its jsonl file in a data folder; empty for a generated set."""
    hub: tuple[HubSource, ...] = ()
    """Splits that, concatenated in order, make up the set."""
    count: int
    digest: str | None
    """sha256 of the normalised rows; None where they may not be kept here (gated, or never seen whole)."""
    kind: AnswerKind
    """Kind of an answer unless a row states a tolerance, which makes it `numeric`."""
    licence: str
    template: str = "qwen-math"
    """Prompt template used unless another is asked for."""
    max_new_tokens: int = 4096
    stop: tuple[str, ...] = ()
    note: str = ""
    """What a reader of a table must know about this set."""

    @property
    def origin(self) -> str:
        """Which rows these are by their source, for example `hiyouga/math12k@main train`; empty without one."""
        parts = ([f"{one.repository}@{one.revision or 'main'}", one.config, one.split] for one in self.hub)
        return " + ".join(" ".join(word for word in words if word) for words in parts)


def problem_of_row(row: RawRow, *, name: str, index: int, kind: AnswerKind, where: str) -> Problem:
    """Normalise one row of our layout: {question, answer, choices?, error?, kind?, id?}.

    Args:
        row: the parsed JSON object.
        name: benchmark name; ids are `name-0000` by position unless `where` is a user's file with ids of its own.
        index: position in the set, from 0.
        kind: kind of answer the benchmark declares.
        where: file and line, for messages.

    Raises:
        DataError: a field is missing, of the wrong type, or not an answer of the declared kind.
    """
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise DataError("a row has no question text", where=where, fix='each row needs "question": "…"')
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise DataError("a row has no answer", where=where, fix='each row needs "answer": "…"')
    error = _tolerance(row.get("error"), where)
    choices = _choices(row.get("choices"), where)
    stated = row.get("kind", "numeric" if error else kind)
    if stated not in get_args(AnswerKind):
        raise DataError(f"unknown answer kind {stated!r}", where=where, fix=f"one of {', '.join(get_args(AnswerKind))}")
    return Problem(
        id=f"{name}-{index:04d}",
        question=question.replace("\r\n", "\n").strip(),
        answer=_canonical_answer(str(answer).strip(), stated, choices, where),
        kind=stated,
        tolerance=error,
        choices=choices,
    )


def _tolerance(value: Any, where: str) -> float | None:
    """The absolute error that a numeric answer may have; 0 and nothing are None."""
    if value is None or value == "":
        return None
    try:
        error = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        error = math.nan
    if not math.isfinite(error) or error < 0:
        fix = '"error" is the absolute error that an answer may have: a number of 0 or more'
        raise DataError(f"a row's error is {value!r}", where=where, fix=fix)
    return error or None


def _choices(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | int | float) for one in value):
        raise DataError(f"a row's choices are {value!r}", where=where, fix='"choices" is a list of texts')
    return tuple(str(choice).strip() for choice in value)


def digest_of_problems(problems: Iterable[Problem]) -> str:
    """Return the sha256 of the rows in order: id, question, answer, kind, tolerance, choices."""
    digest = hashlib.sha256()
    for problem in problems:
        row = [problem.id, problem.question, problem.answer, problem.kind, problem.tolerance, list(problem.choices)]
        digest.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _canonical_answer(answer: str, kind: AnswerKind, choices: tuple[str, ...], where: str) -> str:
    if kind == "integer":
        if not _INTEGER.fullmatch(answer):
            raise DataError(f"answer {answer!r} is not an integer", where=where)
        return str(int(answer.split(".")[0].replace(",", "")))
    if kind == "choice":
        letters = "ABCDEFGHIJ"[: len(choices)]
        if len(answer) != 1 or answer.upper() not in letters:
            raise DataError(f"answer {answer!r} is not one of the {len(choices)} choices", where=where)
        return answer.upper()
    return answer


def fields(question: str, answer: str) -> Callable[[RawRow], RawRow]:
    """Return a reader that takes the two named columns of a hub row."""

    def read(row: RawRow) -> RawRow:
        value = row[answer]
        return {"question": row[question], "answer": value if isinstance(value, str) else format(value, "g")}

    return read


def verify(declaration: Declaration, problems: tuple[Problem, ...], *, where: str) -> str:
    """Return the digest of the problems if count and digest are the declared ones.

    Raises:
        DataError: another count or digest than declared.
    """
    if len(problems) != declaration.count:
        raise DataError(
            f"{declaration.name} has {len(problems)} rows, but {declaration.count} are declared",
            where=where,
            fix="another version of this set circulates: use the declared one, or load it as a .jsonl path",
        )
    found = digest_of_problems(problems)
    if declaration.digest not in (None, found):
        raise DataError(
            f"{declaration.name} is not the declared set: its rows hash to {found[:12]}…, "
            f"declared is {(declaration.digest or '')[:12]}…",
            where=where,
            fix="restore the file, or load the changed rows under their own .jsonl path",
        )
    return found
