"""A `Score` as JSON, for `score.json` and records; and the key under which a store keeps it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from eval.api import SamplingSettings, Score
from eval.files import replacing


def score_key(
    *,
    trial_id: str,
    step: int | None,
    benchmark_digest: str,
    settings: SamplingSettings,
    limit: int | None,
    grader_version: str,
) -> str:
    """Return 12 hex digits that name one score: any of the arguments changes it."""
    parts = f"[{json.dumps(trial_id)}, {json.dumps(step)}, {_rest(benchmark_digest, settings, limit, grader_version)}"
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


@cache
def _rest(benchmark_digest: str, settings: SamplingSettings, limit: int | None, grader_version: str) -> str:
    """The part of a key's JSON that thousands of scores share."""
    return json.dumps([benchmark_digest, asdict(settings), limit, grader_version], sort_keys=True)[1:]


def write_score(score: Score, file: Path) -> None:
    """Write a score atomically."""
    write_text(file, json.dumps(asdict(score), indent=1) + "\n")


def read_score(file: Path) -> Score | None:
    """Return the score in a file, or None where there is none.

    Raises:
        KeyError, TypeError, ValueError: not a score.
    """
    try:
        data = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    settings = {**data["settings"], "stop": tuple(data["settings"]["stop"])}
    per_problem = {problem: tuple(samples) for problem, samples in data["per_problem"].items()}
    return Score(**{**data, "settings": SamplingSettings(**settings), "per_problem": per_problem})


def write_text(file: Path, text: str) -> None:
    """Replace a file's content."""
    with replacing(file) as out:
        out.write(text.encode())
