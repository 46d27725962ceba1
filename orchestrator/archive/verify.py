"""Whether a runs folder still says what its samples give: every score, record and plan made again, offline.

    samples ─▶ score.json ─▶ record.json ─▶ table          each arrow derived anew and compared
    recipe ─▶ trial id ─▶ plan; checkpoint ─▶ manifest     each identity and digest taken anew

Reads only. `cli.verify` compares the tables, which lie above this layer, through `RederivedStore`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from eval.api import Score
from eval.rederivation import rederive
from eval.score_file import score_key
from orchestrator.errors import StoreError
from orchestrator.plan.identity import base_trial_id, trial_id
from orchestrator.plan.trial import Plan, Trial, plan_digest
from orchestrator.store.record import RunRecord, ScoreEntry, score_entry
from orchestrator.store.store import Store
from trainers.manifest import damaged_files, has_manifest

ScorePlace = tuple[str, str]
"""(trial id, score key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One thing that does not agree, or could not be made again here."""

    kind: Literal["difference", "unchecked"]
    where: str
    """The file, or the table and its line."""
    what: str


@dataclass(slots=True, kw_only=True)
class Verification:
    """What was made again of one experiment, and what came of it."""

    experiment: str
    num_trials: int = 0
    num_scores: int = 0
    num_samples: int = 0
    num_checkpoints: int = 0
    findings: list[Mismatch] = field(default_factory=list)
    scores: dict[ScorePlace, Score] = field(default_factory=dict)
    """Every score as its samples give it."""

    @property
    def differences(self) -> list[Mismatch]:
        """What does not agree."""
        return [one for one in self.findings if one.kind == "difference"]

    def note(self, kind: Literal["difference", "unchecked"], where: object, what: str) -> None:
        """Add a finding."""
        self.findings.append(Mismatch(kind=kind, where=str(where), what=what))


def verify_sweep(
    store: Store,
    experiment: str,
    *,
    data_folder: Path | None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Make again all that the tables of an experiment rest on.

    Raises:
        StoreError: no such experiment, or its plan does not read.
    """
    plan = store.plans.read(experiment)
    found = Verification(experiment=experiment)
    _verify_plan(plan, store, found)
    for planned in plan.entries:
        on_progress(f"{planned.trial.id} {planned.label}")
        _verify_identity(planned.trial, planned.trial.id, store.plans.file(experiment), found)
        try:
            record = store.find(planned.trial.id)
        except StoreError as error:
            found.note("difference", error.where, error.what)
            continue
        if record is not None:
            found.num_trials += 1
            _verify_trial(planned.trial.id, record, store, data_folder, found)
    return found


class RederivedStore(Store):
    """A runs folder whose scores are those that its samples give: what a table would print, were it made today."""

    def __init__(self, root: Path, scores: Mapping[ScorePlace, Score]) -> None:
        """Scores that are not among `scores` stay as they are stored."""
        super().__init__(root)
        self._scores = scores

    def find(self, trial_id: str) -> RunRecord | None:
        """The record, its entries made from the scores."""
        record = super().find(trial_id)
        for entry in record.scores if record is not None else ():
            score = self._scores.get((trial_id, entry.key))
            if record is not None and score is not None:
                record = record.with_score(_entry(score, entry), at=record.updated_at)
        return record

    def read_score(self, trial_id: str, key: str) -> Score | None:
        """The score that the samples give."""
        return self._scores.get((trial_id, key)) or super().read_score(trial_id, key)


def _verify_plan(plan: Plan, store: Store, found: Verification) -> None:
    digest = plan_digest(plan.experiment, plan.axes, plan.entries, schedule=plan.schedule)
    if digest != plan.digest:
        where = store.plans.file(plan.experiment)
        found.note("difference", where, f"the plan's digest is {plan.digest}, its trials give {digest}")


def _verify_trial(name: str, record: RunRecord, store: Store, data_folder: Path | None, found: Verification) -> None:
    folder = store.trial_folder(name)
    _verify_identity(record.trial, name, folder / "record.json", found)
    try:
        described = store.read_recipe(name)
    except StoreError as error:
        found.note("difference", error.where, error.what)
    else:
        if described is not None:
            _verify_identity(described, name, folder / "recipe.json", found)
    for entry in record.scores:
        _verify_score(entry, name, store, data_folder, found)
    _verify_checkpoints(name, record, store, found)


def _verify_identity(trial: Trial, name: str, file: Path, found: Verification) -> None:
    if trial.recipe is None or trial.seed is None:
        expected = base_trial_id(trial.model, model_digest=trial.model_digest)
    else:
        expected = trial_id(
            trial.recipe, seed=trial.seed, data_digest=trial.data_digest or "", model_digest=trial.model_digest
        )
    if {expected, trial.id} != {name}:
        what = f"trial {name} is called {trial.id} in it, and its recipe, seed and digests give {expected}"
        found.note("difference", file, what)


def _verify_score(entry: ScoreEntry, trial: str, store: Store, data_folder: Path | None, found: Verification) -> None:
    folder = store.eval_folder(trial, entry.key)
    file = folder / "score.json"
    try:
        score = store.read_score(trial, entry.key)
    except StoreError as error:
        found.note("difference", file, error.what)
        return
    if score is None:
        found.note("difference", file, f"the score of {entry.benchmark} at step {entry.step} is gone")
        return
    found.num_scores += 1
    found.num_samples += score.num_problems * score.num_samples
    again = rederive(score, folder, data_folder=data_folder)
    for what in again.differences:
        found.note("difference", folder, what)
    for what in again.unchecked:
        found.note("unchecked", folder, what)
    if again.score is not None:
        found.scores[trial, entry.key] = again.score
    for what in _unequal_entry(entry, score, trial):
        found.note("difference", store.trial_folder(trial) / "record.json", f"{entry.benchmark}: {what}")


def _unequal_entry(entry: ScoreEntry, score: Score, trial: str) -> Iterator[str]:
    """What the record says of a score otherwise than its score.json, its key included."""
    key = score_key(
        trial_id=trial,
        step=entry.step,
        benchmark_digest=entry.benchmark_digest,
        settings=entry.settings,
        limit=entry.limit,
        grader_version=entry.grader_version,
    )
    if key != entry.key:
        yield f"its key is {entry.key}; trial, step, data, settings and grader give {key}"
    stored = _entry(score, entry)
    for one in fields(ScoreEntry):
        recorded, in_file = getattr(entry, one.name), getattr(stored, one.name)
        if recorded != in_file and not (recorded != recorded and in_file != in_file):  # NaN is NaN
            yield f"{one.name} is {recorded}, its score.json says {in_file}"


def _entry(score: Score, like: ScoreEntry) -> ScoreEntry:
    return score_entry(score, key=like.key, step=like.step, limit=like.limit, at=like.finished_at)


def _verify_checkpoints(trial: str, record: RunRecord, store: Store, found: Verification) -> None:
    folder = store.checkpoint_folder(trial)
    for checkpoint in sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")):
        if not has_manifest(checkpoint):
            found.note("unchecked", checkpoint, "no manifest says what it should hold")
            continue
        found.num_checkpoints += 1
        for name in damaged_files(checkpoint):
            found.note("difference", checkpoint / name, "its content is not what was written")
    trained = record.train
    if trained is not None and not (store.trial_folder(trial) / trained.model_folder).is_dir():
        found.note("unchecked", store.trial_folder(trial), "its final policy is not on this disk")
