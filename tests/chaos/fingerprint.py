"""What must be the same, byte for byte, however often a sweep was killed; and what must not be there twice.

Compared: weights, every metric of every step, samples, scores, the table, MLflow's points. Left out, as they say when
and where and not what: times, speeds, memory, hosts, numbers of attempts.
"""

import hashlib
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from arena import Arena

_MEASURED = ("time/", "memory/", "sampling/tokens_per_s", "cost/", "system/")
"""Metrics that differ between two undisturbed runs too."""
_COST = re.compile(r"\([\d.,]+ (core|GPU)-h\) *| +|─+")
"""A cost, and the spaces and rules whose widths follow from it."""


def assert_same(arena: Arena, undisturbed: Arena, *, is_mirrored: bool = True) -> None:
    """The trials of an arena are as in the undisturbed sweep: in the runs folder, in MLflow, in the table."""
    found, expected = results(arena.runs), results(undisturbed.runs)
    assert len(found) == arena.num_trials
    for name, trial in found.items():
        differing = {
            part: _apart(trial[part], expected[name][part]) for part in trial if trial[part] != expected[name][part]
        }
        assert differing == {}, name
    if is_mirrored:
        assert_same_points(arena, undisturbed)
    if arena.num_trials == undisturbed.num_trials:
        assert table_of(arena) == table_of(undisturbed)


def table_of(arena: Arena) -> str:
    """The printed table without what more seeds would cost, which follows from measured times."""
    return _COST.sub(" ", arena.call("table", "smoke").stdout)


def assert_same_points(arena: Arena, undisturbed: Arena) -> None:
    """MLflow holds of the arena's trials what it holds of them in the undisturbed sweep, and that once."""
    points, expected = mirrored(arena.root / "mlflow.db"), mirrored(undisturbed.root / "mlflow.db")
    trials = {record.parent.name for record in arena.runs.glob("*/record.json")}
    wanted = {place: value for place, value in expected.items() if place[0] in trials}
    assert sorted(points.items() ^ wanted.items(), key=str)[:5] == []


def _apart(found: Any, expected: Any) -> Any:
    """What differs, as far down as there are names for it."""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return found, expected
    names = sorted(found.keys() | expected.keys())
    return {one: _apart(found.get(one), expected.get(one)) for one in names if found.get(one) != expected.get(one)}


def results(runs: Path) -> dict[str, Any]:
    """Trial id → digest of the weights, metrics by step, sample lines and scores."""
    return {
        record.parent.name: {
            "status": json.loads(record.read_text())["status"],
            "weights": _digests(record.parent / "checkpoints" / "final"),
            "metrics": _metrics(record.parent),
            "samples": {file.parent.name: _samples(file) for file in record.parent.glob("eval/*/samples.jsonl")},
            "scores": scores(record.parent),
        }
        for record in sorted(runs.glob("*/record.json"))
    }


def scores(trial: Path) -> dict[str, Any]:
    """Folder under `eval/` → the score in it."""
    return {file.parent.name: _score(file) for file in trial.glob("eval/*/score.json")}


def mirrored(database: Path) -> dict[tuple[str, str, int], Any]:
    """(trial id, metric, step) → value, of every point in MLflow that is no measurement of time or memory.

    Raises:
        AssertionError: a run or a point is there twice.
    """
    with closing(sqlite3.connect(database)) as connection:
        tags = connection.execute("select run_uuid, value from tags where key = 'orch.trial_id'").fetchall()
        trial_of = dict(tags)
        assert len(set(trial_of.values())) == len(tags), f"a trial has two runs: {tags}"
        roles = Counter(row[0] for row in connection.execute("select value from tags where key = 'orch.role'"))
        assert roles["sweep"] == 1, f"runs by role: {roles}"
        assert roles.total() == connection.execute("select count(*) from runs").fetchone()[0], "a run without a role"
        rows = connection.execute("select run_uuid, key, step, value, is_nan from metrics").fetchall()
    points = [row for row in rows if not row[1].startswith(_MEASURED)]
    places = Counter(row[:3] for row in points)
    doubled = [place for place, number in places.items() if number > 1]
    assert doubled == [], f"points that are there twice: {doubled[:5]}"
    return {(trial_of[run], key, step): None if is_nan else value for run, key, step, value, is_nan in points}


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _metrics(trial: Path) -> dict[int, dict[str, Any]]:
    steps: dict[int, dict[str, Any]] = {}
    for file in sorted(trial.glob("attempts/*/metrics.jsonl"), key=lambda path: int(path.parent.name)):
        for line in _lines(file):
            row = json.loads(line)
            steps[row["step"]] = {key: value for key, value in row.items() if not key.startswith(_MEASURED)}
    return dict(sorted(steps.items()))


def _samples(file: Path) -> list[str]:
    """Every line, one that is there twice too, without the milliseconds of its grading."""
    rows = [json.loads(line) for line in _lines(file)]
    for row in rows:
        del row["grade"]["ms"]
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _lines(file: Path) -> list[str]:
    """Whole lines: a torn last one counts as not written."""
    return file.read_text().split("\n")[:-1]


def _score(file: Path) -> dict[str, Any]:
    return {key: value for key, value in json.loads(file.read_text()).items() if key != "elapsed_s"}
