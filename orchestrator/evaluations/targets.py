"""What `orch eval` and `orch compare` are pointed at: a trial of the store, or any model by folder, hub id or name.

runs/<trial>/eval/<key>/            scores of a trial; its record knows them too
runs/evaluations/<digest>/eval/<key>/    scores of other models, beside a model.json that says which
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.api import SamplingSettings, Score
from eval.engines.fingerprint import Fingerprint
from eval.errors import OrchError
from eval.grading.version import grader_version
from eval.model_folder import FolderDigests
from eval.score_file import score_key, write_text
from orchestrator.store.known_models import known_digest
from orchestrator.store.record import score_entry
from orchestrator.store.redact import now
from orchestrator.store.store import Store
from trainers.models.resolve import model_digests, resolve
from trainers.recipe import Model

OnBytes = Callable[[str, int, int], None]

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
    endpoint: Fingerprint | None = None
    """Of a model behind an endpoint: where it is served, and by what it is recognised."""

    @property
    def origin(self) -> str:
        """Where the weights are, in words."""
        return self.model.path if self.endpoint is None else f"{self.model.path} at {self.endpoint.base_url}"

    def key(
        self,
        benchmark_digest: str,
        settings: SamplingSettings,
        limit: int | None,
        *,
        step: int | None = None,
        grader: str | None = None,
    ) -> str:
        """The key of one score: of these weights, or of the trial's at another step; by our grader, or by a version."""
        return score_key(
            trial_id=self.owner_id,
            step=self.step if step is None else step,
            benchmark_digest=benchmark_digest,
            settings=settings,
            limit=limit,
            grader_version=grader or grader_version(),
        )


def resolve_target(
    text: str, store: Store, *, cache_folder: Path, on_bytes: OnBytes = lambda path, done, total: None
) -> Target:
    """Read `text` as the beginning of a trial id of the store, else as a model folder, hub id or built-in name.

    Args:
        text: what a user typed.
        store: the runs folder.
        cache_folder: where built models are kept.
        on_bytes: told a model's path and how far it was read, of a folder that is read for the first time.

    Raises:
        OrchError: neither, or the trial has not finished training.
    """
    if _TRIAL_ID.fullmatch(text) and any(trial_id.startswith(text) for trial_id in store.trial_ids()):
        return _trial_target(store.complete_id(text), store, cache_folder)
    path, _, revision = text.partition("@") if not Path(text).exists() else (text, "", "")
    model = Model(path=path, revision=revision or None)
    digests = model_digests(model, on_bytes=lambda done, total: on_bytes(path, done, total))
    digest = known_digest(
        digests, store, label=text, is_known=lambda one: (evaluations_folder(store) / owner_of(one)).is_dir()
    )
    owner_id = owner_of(digest)
    folder = evaluations_folder(store) / owner_id
    return Target(
        label=Path(path).name if Path(path).is_dir() else text,
        owner_id=owner_id,
        trial_id=None,
        step=0,
        model=model,
        eval_folder=folder / "eval",
        open_model=lambda: resolve(model, cache_folder=cache_folder),
    )


def endpoint_target(fingerprint: Fingerprint, store: Store) -> Target:
    """A model behind an OpenAI-compatible endpoint, as it was recognised."""
    digests = FolderDigests(digest=fingerprint.digest, former=fingerprint.former_digest)
    folder = evaluations_folder(store)
    digest = known_digest(
        digests, store, label=fingerprint.model, is_known=lambda one: (folder / _owner_of_endpoint(one)).is_dir()
    )
    return Target(
        label=fingerprint.model,
        owner_id=_owner_of_endpoint(digest),
        trial_id=None,
        step=0,
        model=Model(path=fingerprint.model),
        eval_folder=folder / _owner_of_endpoint(digest) / "eval",
        open_model=lambda: Path(fingerprint.model),
        endpoint=fingerprint,
    )


def known_endpoints(store: Store) -> list[Fingerprint]:
    """Return the models behind endpoints that were evaluated into this store, the latest last."""
    files = sorted(evaluations_folder(store).glob("*/model.json"), key=lambda file: file.stat().st_mtime_ns)
    return [found for file in files if (found := _endpoint_in(json.loads(file.read_text()))) is not None]


def _owner_of_endpoint(digest: str) -> str:
    # A digest of an endpoint was cut, not hashed once more, before models had fingerprints.
    return digest[:12]


def evaluated_target(text: str, store: Store, *, cache_folder: Path) -> Target:
    """Read `text` as what has been evaluated: as `resolve_target` does, or the id or name of a model of this store.

    So a model behind an endpoint is found without asking the endpoint.

    Raises:
        OrchError: nothing is called that, or several models are.
    """
    is_trial = _TRIAL_ID.fullmatch(text) and any(trial_id.startswith(text) for trial_id in store.trial_ids())
    found = None if is_trial else _find_evaluated(text, store, cache_folder)
    return found or resolve_target(text, store, cache_folder=cache_folder)


def owner_of(digest: str) -> str:
    """The id under which a runs folder keeps scores of a model that none of its trials trained."""
    return hashlib.sha256(digest.encode()).hexdigest()[:12]


def evaluated_models(store: Store, *, cache_folder: Path) -> list[Target]:
    """Return the models beside the trials that were evaluated into this store, endpoints included."""
    return [_evaluated_model(file, cache_folder) for file in sorted(evaluations_folder(store).glob("*/model.json"))]


def keep_score(
    target: Target, score: Score, *, key: str, limit: int | None, store: Store, step: int | None = None
) -> None:
    """Tell the target's record of a score whose files are written: the trial's record, or model.json.

    Raises:
        StoreError: the trial is being worked on by another process.
    """
    if target.trial_id is None:
        file = target.eval_folder.parent / "model.json"
        described: dict[str, Any] = {
            "path": target.model.path,
            "revision": target.model.revision,
            "label": target.label,
        }
        if target.endpoint is not None:
            described["endpoint"] = asdict(target.endpoint)
        # Of an endpoint that an earlier version evaluated, only now is it known by what it is recognised.
        if not file.exists() or (target.endpoint is not None and _endpoint_in(json.loads(file.read_text())) is None):
            write_text(file, json.dumps(described) + "\n")
        return
    with store.lock(target.trial_id, timeout_s=10.0):
        record = store.read(target.trial_id)
        entry = score_entry(score, key=key, step=target.step if step is None else step, limit=limit, at=now())
        store.write(record.with_score(entry, at=now()))


def evaluations_folder(store: Store) -> Path:
    """Scores of models that no trial of the runs folder trained."""
    return store.root / "evaluations"


def _find_evaluated(text: str, store: Store, cache_folder: Path) -> Target | None:
    """The model of `runs/evaluations/` that goes by this id, or by this name; a path is a folder's."""
    models = [] if Path(text).exists() else evaluated_models(store, cache_folder=cache_folder)
    by_id = [one for one in models if _TRIAL_ID.fullmatch(text) and one.owner_id.startswith(text)]
    found = by_id or [one for one in models if one.label == text]
    if len(found) > 1:
        raise OrchError(
            f"{text} names {len(found)} models that were evaluated here",
            where=str(evaluations_folder(store)),
            fix=f"name one by its id: {', '.join(f'{one.owner_id} ({one.origin})' for one in found)}",
        )
    return found[0] if found else None


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
        endpoint=_endpoint_in(described),
    )


def _endpoint_in(described: dict[str, Any]) -> Fingerprint | None:
    """The fingerprint in a model.json; None for other models, and endpoints that an earlier version evaluated."""
    found = described.get("endpoint")
    return None if found is None else Fingerprint(**{**found, "answers": tuple(found["answers"])})


def _trial_target(trial_id: str, store: Store, cache_folder: Path) -> Target:
    record = store.read(trial_id)
    trial = record.trial
    if trial.kind == "train" and record.train is None:
        raise OrchError(
            f"trial {trial_id} has not finished training: it has no final policy to evaluate",
            where=str(store.trial_folder(trial_id)),
            fix="run its sweep again, then evaluate",
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
