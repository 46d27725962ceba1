"""Fetches a declared set from the Hugging Face hub into a folder of jsonl files. The only `datasets` import."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eval.api import Problem
from eval.benchmarks.declaration import Declaration, HubSource, problem_of_row, verify
from eval.errors import DataError
from eval.files import replacing


def commits_of(declaration: Declaration) -> dict[str, str]:
    """Repository → its commit: the declared one, else what `main` stands for now.

    Raises:
        DataError: no network, no such repository, or no permission.
    """
    from huggingface_hub import HfApi

    found = dict[str, str]()
    for source in declaration.hub:
        if source.repository not in found:
            with _explained(declaration, source):
                found[source.repository] = source.revision or str(HfApi().dataset_info(source.repository).sha)
    return found


def fetch(declaration: Declaration, folder: Path, *, commits: Mapping[str, str] | None = None) -> Path:
    """Download, normalise and verify a set, and write it as `folder/<file>` atomically.

    Args:
        declaration: the set.
        folder: made if need be.
        commits: repository → the commit to fetch, where none is declared.

    Raises:
        DataError: no hub source, no network or no permission, or rows other than the declared ones.
    """
    if not declaration.hub:
        raise DataError(
            f"{declaration.name} has no hub source",
            fix=f"put {declaration.file} into a folder and pass --data-dir (or set ORCH_DATA_DIR)",
        )
    rows = [row for source in declaration.hub for row in _rows(declaration, source, commits or {})]
    problems = tuple(
        problem_of_row(row, name=declaration.name, index=index, kind=declaration.kind, where=f"hub row {index}")
        for index, row in enumerate(rows)
    )
    verify(declaration, problems, where=", ".join(dict.fromkeys(source.repository for source in declaration.hub)))
    return _write(problems, folder / declaration.file)


def _rows(declaration: Declaration, source: HubSource, commits: Mapping[str, str]) -> list[dict[str, Any]]:
    from datasets import load_dataset

    revision = source.revision or commits.get(source.repository)
    with _explained(declaration, source):
        raw = load_dataset(source.repository, source.config, split=source.split, revision=revision)
    rows = (source.read({**row, "_repository": source.repository}) for row in raw)
    return [dict(row) for row in rows if row is not None]


@contextlib.contextmanager
def _explained(declaration: Declaration, source: HubSource) -> Iterator[None]:
    """Turn whatever the hub's libraries raise into what a user can do: they have no common base."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise DataError(
            f"{declaration.name} could not be fetched from the hub: {type(error).__name__}: {reason}",
            where=f"{source.repository} @ {source.revision or 'main'}",
            fix=f"{declaration.note + '; or ' if 'gated' in declaration.note else ''}"
            f"put {declaration.file} into a folder and pass --data-dir (or set ORCH_DATA_DIR)",
        ) from error


def _write(problems: tuple[Problem, ...], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as out:
        for problem in problems:
            row: dict[str, Any] = {"id": problem.id, "question": problem.question, "answer": problem.answer}
            if problem.choices:
                row["choices"] = list(problem.choices)
            if problem.tolerance is not None:
                row["error"] = problem.tolerance
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return file
