"""Names to benchmarks: the one door through which problems enter evaluation and training.

`declared` and `digest` are light (standard library); only fetching from the hub loads a data set library.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from eval.api import Benchmark, Problem
from eval.benchmarks import (
    aime2023,
    aime2024,
    aime2025,
    amc23,
    dapo_math_17k,
    gpqa_diamond,
    gsm8k,
    gsm8k_train,
    math12k,
    math500,
    math_train_part,
    minerva_math,
    mmlu_stem,
    olympiadbench,
)
from eval.benchmarks.declaration import Declaration, digest_of_problems, problem_of_row, verify
from eval.errors import DataError

_FILES = (
    aime2023,
    aime2024,
    aime2025,
    amc23,
    math500,
    minerva_math,
    olympiadbench,
    gsm8k,
    mmlu_stem,
    gpqa_diamond,
    gsm8k_train,
    math_train_part,
    math12k,
    dapo_math_17k,
)
_DECLARATIONS: dict[str, Declaration] = {module.DECLARATION.name: module.DECLARATION for module in _FILES}
_GENERATED = ("arithmetic", "arithmetic_train")

NAMES: tuple[str, ...] = (*_DECLARATIONS, *_GENERATED)


def declared(name: str) -> Declaration:
    """Return what is fixed about a benchmark or training set.

    Raises:
        DataError: no such name; the message proposes the nearest ones.
    """
    if name in _GENERATED:
        return _generated(name)
    if name not in _DECLARATIONS:
        near = difflib.get_close_matches(name, NAMES, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise DataError(
            f"unknown benchmark or training set {name!r}",
            fix=f"{hint}known: {', '.join(NAMES)}; or the path of a .jsonl file",
        )
    return _DECLARATIONS[name]


def load(name: str, *, data_folder: Path | None, limit: int | None = None) -> Benchmark:
    """Load and verify a set by name, or read a user's jsonl file.

    Looks in `data_folder`, then in the cache of fetched sets, then asks the Hugging Face hub for the pinned revision
    and keeps it in that cache.

    Args:
        name: one of `NAMES`, or a path ending in `.jsonl` with rows {question, answer, kind?, error?, choices?}.
        data_folder: folder of jsonl files, or None.
        limit: keep only the first rows; the digest stays that of the whole set.

    Raises:
        DataError: unknown name, malformed row, wrong count or wrong digest, or nothing to load from.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}", fix="a limit is at least 1; leave it out for the whole set")
    if _is_path(name):
        benchmark = _load_user_file(Path(name))
    elif name in _GENERATED:
        benchmark = Benchmark(name=name, problems=_generated_problems(name), digest=digest(name, data_folder))
    else:
        benchmark = _load_declared(declared(name), data_folder)
    return benchmark if limit is None else replace(benchmark, problems=benchmark.problems[:limit])


def short_name(name: str) -> str:
    """What the scores of a set call it: the name itself, or the stem of a `.jsonl` path."""
    return Path(name).stem if _is_path(name) else name


def identity(name: str) -> str:
    """Return what stands for a set in a trial's id: the same before and after it is fetched.

    The declared digest, or that of a user's file; else its source, whose rows are trusted on first use.

    Raises:
        DataError: unknown name, or no such file.
    """
    if _is_path(name):
        return _hash_of_file(Path(name))
    declaration = declared(name)
    return declaration.digest or declaration.origin


def digest(name: str, data_folder: Path | None) -> str:
    """Return the digest of a set's rows without loading it where it is declared.

    Raises:
        DataError: unknown name, or a set without a declared digest whose file is not at hand.
    """
    if _is_path(name):
        return _hash_of_file(Path(name))
    declaration = declared(name)
    if declaration.digest is not None:
        return declaration.digest
    file = find_file(declaration, data_folder)
    if file is None:
        raise DataError(
            f"{name} is not on this machine and has no digest declared",
            fix=f"run `orch data fetch {name}`",
        )
    return digest_of_problems(read_problems(declaration, file))


def find_file(declaration: Declaration, data_folder: Path | None) -> Path | None:
    """Return the local file of a set: in the given folder, else in the cache of fetched sets, else None."""
    folders = [cache_folder()] if data_folder is None else [data_folder, cache_folder()]
    return next((folder / declaration.file for folder in folders if (folder / declaration.file).is_file()), None)


def cache_folder() -> Path:
    """Folder in which fetched sets are kept."""
    return Path.home() / ".cache" / "orch" / "data"


def read_problems(declaration: Declaration, file: Path) -> tuple[Problem, ...]:
    """Read a set's local file into problems, unverified.

    Raises:
        DataError: the file cannot be read, or a row is malformed (with its line number).
    """
    return tuple(
        problem_of_row(row, name=declaration.name, index=index, kind=declaration.kind, where=where)
        for index, (row, where) in enumerate(rows_of_file(file))
    )


def _load_declared(declaration: Declaration, data_folder: Path | None) -> Benchmark:
    file = find_file(declaration, data_folder)
    if file is None:
        from eval.benchmarks.hub import fetch

        file = fetch(declaration, cache_folder())
    problems = read_problems(declaration, file)
    found = verify(declaration, problems, where=str(file))
    return Benchmark(name=declaration.name, problems=problems, digest=found)


def _load_user_file(file: Path) -> Benchmark:
    problems = tuple(
        problem_of_row(row, name=file.stem, index=index, kind="expression", where=where)
        for index, (row, where) in enumerate(rows_of_file(file))
    )
    if not problems:
        raise DataError("the file holds no rows", where=str(file))
    return Benchmark(name=file.stem, problems=problems, digest=_hash_of_file(file), source=str(file.resolve()))


def rows_of_file(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the JSON objects of a jsonl file, each with `file:line` for messages.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_row(line, f"{file}:{number}"), f"{file}:{number}"
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", where=str(file)) from error


def _parse_row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"not a JSON row: {error}", where=where) from error
    if not isinstance(row, dict):
        raise DataError("a row is not a JSON object", where=where)
    return row


def _hash_of_file(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", where=str(file)) from error


def _is_path(name: str) -> bool:
    return name.endswith(".jsonl")


def _generated(name: str) -> Declaration:
    from eval.benchmarks.arithmetic import COUNTS, DIGESTS

    split = _split(name)
    return Declaration(
        name=name,
        purpose="training" if split == "train" else "evaluation",
        file="",
        count=COUNTS[split],
        digest=DIGESTS[split],
        kind="integer",
        licence="Apache-2.0 (generated)",
        template="chat",
        max_new_tokens=96,
        note="two-digit additions, generated",
    )


def _generated_problems(name: str) -> tuple[Problem, ...]:
    from eval.benchmarks.arithmetic import problems

    return problems(_split(name))


def _split(name: str) -> Literal["train", "test"]:
    return "train" if name.endswith("_train") else "test"
