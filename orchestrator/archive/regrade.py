"""Scores made again from their stored samples by the present version of a grader, under keys of its own.

The scores of our grader are what others start from: each set of samples has one, and its key says what it was drawn
under. A score of another grader stands beside it and replaces nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.api import Score
from eval.graders.api import OURS, Grader, grader_name
from eval.grading.version import grader_version
from eval.score_file import read_score
from eval.scoring import load_again, regrade
from orchestrator.evaluations.targets import Target, evaluated_models, evaluated_target, keep_score, resolve_target
from orchestrator.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One score, before and after."""

    owner: str
    """Trial id, or id of the model's folder."""
    before: Score
    after: Score
    num_changed: int
    """Verdicts that turned."""


def regrade_all(
    store: Store, only: str | None, *, data_folder: Path | None, cache_folder: Path, grader: Grader
) -> Iterator[Change]:
    """Grade again what this version of a grader has not graded, in one target or in all of the runs folder.

    Each change is kept before it is told of.

    Raises:
        OrchError: the target is unknown, or a benchmark's data are not here.
    """
    targets = [evaluated_target(only, store, cache_folder=cache_folder)] if only else _everything(store, cache_folder)
    for target in targets:
        yield from _regrade(target, store, data_folder, grader)


def _everything(store: Store, cache_folder: Path) -> list[Target]:
    records = [record for record in store.list() if record.trial.kind == "base" or record.train is not None]
    trials = [resolve_target(record.trial.id, store, cache_folder=cache_folder) for record in records]
    return [*trials, *evaluated_models(store, cache_folder=cache_folder)]


def _regrade(target: Target, store: Store, data_folder: Path | None, grader: Grader) -> Iterator[Change]:
    for folder, before in _by_ours(target):
        if before.grader_version == grader.version:
            continue
        limit, step = _limit_and_step(target, folder.name, before, store, data_folder)
        key = target.key(before.benchmark_digest, before.settings, limit, step=step, grader=grader.version)
        into = target.eval_folder / key
        if grader.name != OURS and (into / "score.json").is_file():
            continue
        after = regrade(folder, into=into, data_folder=data_folder, grader=grader)
        keep_score(target, after, key=key, limit=limit, step=step, store=store)
        turned = sum(
            old != new
            for problem, verdicts in before.per_problem.items()
            for old, new in zip(verdicts, after.per_problem[problem], strict=True)
        )
        yield Change(owner=target.owner_id, before=before, after=after, num_changed=turned)


def _by_ours(target: Target) -> Iterator[tuple[Path, Score]]:
    """The scores of our grader, the present version first: what two versions graded is graded by another once."""
    found = [(folder, read_score(folder / "score.json")) for folder in sorted(target.eval_folder.glob("*"))]
    ours = [(folder, score) for folder, score in found if score and grader_name(score.grader_version) == OURS]
    yield from sorted(ours, key=lambda one: one[1].grader_version != grader_version())


def _limit_and_step(
    target: Target, key: str, score: Score, store: Store, data_folder: Path | None
) -> tuple[int | None, int]:
    """What a score was made under: as its trial's record says, or as its size tells."""
    if target.trial_id is not None:
        for entry in store.read(target.trial_id).scores:
            if entry.key == key:
                return entry.limit, entry.step
    whole = len(load_again(score, data_folder=data_folder).problems)
    return (None if score.num_problems == whole else score.num_problems), target.step
