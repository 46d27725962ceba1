"""What `orch eval` and `orch compare` are pointed at: a trial of the store, or any model by folder, hub id or name.

runs/<trial>/eval/<key>/            scores of a trial; its record knows them too
runs/evaluations/<digest>/eval/<key>/    scores of other models, beside a model.json that says which
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.api import SamplingSettings, Score
from eval.errors import OrchError
from eval.grading.version import grader_version
from eval.score_file import score_key, write_text
from orchestrator.provenance import now
from orchestrator.record import score_entry
from orchestrator.store import Store
from trainers.api import Model
from trainers.models import model_digest, resolve

_TRIAL_ID = re.compile(r"[0-9a-f]{4,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One set of weights that can be evaluated, and where its scores are kept."""

    label: str
    """How tables call it."""
    owner_id: str
    """Trial id, or 12 hex digits of the model's digest: the first part of its score keys."""
    trial_id: str | None
    step: int
    """Training step of the weights; 0 for a model that no trial trained."""
    model: Model
    eval_folder: Path
    """Holds one folder for each score key."""
    open_model: Callable[[], Path]
    """Builds or fetches the model if need be and returns its folder."""

    def key(
        self, benchmark_digest: str, settings: SamplingSettings, limit: int | None, *, step: int | None = None
    ) -> str:
        """The key of one score under the present grader: of these weights, or of the trial's at another step."""
        return score_key(
            trial_id=self.owner_id,
            step=self.step if step is None else step,
            benchmark_digest=benchmark_digest,
            settings=settings,
            limit=limit,
            grader_version=grader_version(),
        )


def resolve_target(text: str, store: Store, *, cache_folder: Path) -> Target:
    """Read `text` as the beginning of a trial id of the store, else as a model folder, hub id or built-in name.

    Raises:
        OrchError: neither, or the trial has not finished training.
    """
    if _TRIAL_ID.fullmatch(text) and any(trial_id.startswith(text) for trial_id in store.trial_ids()):
        return _trial_target(store.complete_id(text), store, cache_folder)
    path, _, revision = text.partition("@") if not Path(text).exists() else (text, "", "")
    model = Model(path=path, revision=revision or None)
    digest = model_digest(model)
    owner_id = hashlib.sha256(digest.encode()).hexdigest()[:12]
    folder = store.root / "evaluations" / owner_id
    return Target(
        label=Path(path).name if Path(path).is_dir() else text,
        owner_id=owner_id,
        trial_id=None,
        step=0,
        model=model,
        eval_folder=folder / "eval",
        open_model=lambda: resolve(model, cache_folder=cache_folder),
    )


def endpoint_target(name: str, store: Store, *, base_url: str | None) -> Target:
    """A model behind an OpenAI-compatible endpoint.

    Raises:
        OrchError: no endpoint is given.
    """
    if base_url is None:
        raise OrchError("the engine `openai` needs an endpoint", mend="--base-url http://host:port/v1")
    owner_id = hashlib.sha256(f"{base_url.rstrip('/')} {name}".encode()).hexdigest()[:12]
    return Target(
        label=name,
        owner_id=owner_id,
        trial_id=None,
        step=0,
        model=Model(path=name),
        eval_folder=store.root / "evaluations" / owner_id / "eval",
        open_model=lambda: Path(name),
    )


def evaluated_models(store: Store, *, cache_folder: Path) -> list[Target]:
    """Return the models beside the trials that were evaluated into this store, endpoints included."""
    return [_evaluated_model(file, cache_folder) for file in sorted(store.root.glob("evaluations/*/model.json"))]


def keep_score(
    target: Target, score: Score, *, key: str, limit: int | None, store: Store, step: int | None = None
) -> None:
    """Tell the target's record of a score whose files are written: the trial's record, or model.json.

    Raises:
        StoreError: the trial is being worked on by another process.
    """
    if target.trial_id is None:
        file = target.eval_folder.parent / "model.json"
        if not file.exists():
            described = {"path": target.model.path, "revision": target.model.revision, "label": target.label}
            write_text(file, json.dumps(described) + "\n")
        return
    with store.lock(target.trial_id, timeout_s=10.0):
        record = store.read(target.trial_id)
        entry = score_entry(score, key=key, step=target.step if step is None else step, limit=limit, at=now())
        store.write(record.with_score(entry, at=now()))


def _evaluated_model(file: Path, cache_folder: Path) -> Target:
    described = json.loads(file.read_text())
    model = Model(path=described["path"], revision=described["revision"])
    return Target(
        label=described["label"],
        owner_id=file.parent.name,
        trial_id=None,
        step=0,
        model=model,
        eval_folder=file.parent / "eval",
        open_model=lambda: resolve(model, cache_folder=cache_folder),
    )


def _trial_target(trial_id: str, store: Store, cache_folder: Path) -> Target:
    record = store.read(trial_id)
    trial = record.trial
    if trial.kind == "train" and record.train is None:
        raise OrchError(
            f"trial {trial_id} has not finished training: it has no final policy to evaluate",
            where=str(store.trial_folder(trial_id)),
            mend="run its sweep again, then evaluate",
        )
    trained = record.train
    return Target(
        label=trial_id,
        owner_id=trial_id,
        trial_id=trial_id,
        step=trained.step if trained is not None else 0,
        model=trial.model,
        eval_folder=store.trial_folder(trial_id) / "eval",
        open_model=lambda: (
            store.trial_folder(trial_id) / trained.model_folder
            if trained is not None
            else resolve(trial.model, cache_folder=cache_folder)
        ),
    )
