"""What `orch eval` and `orch compare` are pointed at: a trial of the store, or any model by folder, hub id or name.

runs/<trial>/eval/<key>/            scores of a trial; its record knows them too
runs/evaluations/<digest>/eval/<key>/    scores of other models, beside a model.json that says which
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eval.api import SamplingSettings, Score
from eval.comparison import Arm
from eval.engines.fingerprint import Fingerprint
from eval.errors import OrchError
from eval.graders.api import OURS, GraderName, grader_name, regrade_command
from eval.grading.version import grader_version
from eval.model_folder import FolderDigests
from eval.score_file import read_score, score_key, write_text
from orchestrator.plan.arm import arm_of
from orchestrator.plan.trial import PlannedTrial
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
        digests, store, label=text, is_known=lambda one: (_evaluations(store) / owner_of(one)).is_dir()
    )
    owner_id = owner_of(digest)
    folder = _evaluations(store) / owner_id
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
    folder = _evaluations(store)
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
    files = sorted(_evaluations(store).glob("*/model.json"), key=lambda file: file.stat().st_mtime_ns)
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
    return [_evaluated_model(file, cache_folder) for file in sorted(_evaluations(store).glob("*/model.json"))]


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


def _evaluations(store: Store) -> Path:
    return store.root / "evaluations"


def _find_evaluated(text: str, store: Store, cache_folder: Path) -> Target | None:
    """The model of `runs/evaluations/` that goes by this id, or by this name; a path is a folder's."""
    models = [] if Path(text).exists() else evaluated_models(store, cache_folder=cache_folder)
    by_id = [one for one in models if _TRIAL_ID.fullmatch(text) and one.owner_id.startswith(text)]
    found = by_id or [one for one in models if one.label == text]
    if len(found) > 1:
        raise OrchError(
            f"{text} names {len(found)} models that were evaluated here",
            where=str(_evaluations(store)),
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


Conditions = tuple[str, str, SamplingSettings, str]
"""(benchmark, data digest, settings, grader version): scores that may be compared share them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison: a score a benchmark and run."""

    label: str
    scores: Mapping[str, tuple[Score, ...]]
    """Benchmark → the scores of all runs (training seeds) under the same conditions."""
    seeds: tuple[int, ...]
    """One a run; of models that no trial trained, their places."""
    is_trained: bool
    """Whether the runs are training seeds of one recipe."""

    def arm(self, benchmark: str) -> Arm:
        """Its answers on a benchmark, as comparisons take them."""
        runs = (score.per_problem for score in self.scores[benchmark])
        return Arm(runs=dict(zip(self.seeds, runs, strict=True)), is_trained=self.is_trained)


def read_side(text: str, store: Store, *, cache_folder: Path, grader: GraderName = OURS) -> Side:
    """Find the scores behind one side of a comparison, all by one grader.

    Raises:
        OrchError: nothing is called that, or nothing of it has been evaluated.
    """
    found = list(_runs(text, store, cache_folder))
    seeds = [seed for seed, _ in found]
    runs = [[score for score in scores if grader_name(score.grader_version) == grader] for _, scores in found]
    if not any(runs):
        is_graded_otherwise = any(scores for _, scores in found)
        is_arm = text.partition(":")[0] in store.plans.names()
        fix = "finish its sweep" if is_arm else f"orch eval {text} --bench … evaluates it"
        raise OrchError(
            f"{text} has no scores by the grader {grader} yet" if is_graded_otherwise else f"{text} has no scores yet",
            where=str(store.root),
            fix=regrade_command(grader) if is_graded_otherwise else fix,
        )
    _check_seeds(text, seeds)
    merged: dict[str, tuple[Score, ...]] = {}
    for benchmark in dict.fromkeys(score.benchmark for run in runs for score in run):
        scores = [_newest(run, benchmark) for run in runs]
        missing = sum(score is None for score in scores)
        if missing:
            raise OrchError(
                f"{missing} of {len(runs)} runs of {text} have no score on {benchmark}",
                where=str(store.root),
                fix="finish the sweep, or compare the runs that are done by their ids",
            )
        merged[benchmark] = tuple(score for score in scores if score is not None)
    is_trained = any(seed is not None for seed in seeds)
    places = tuple(place if seed is None else seed for place, seed in enumerate(seeds))
    return Side(label=text, scores=merged, seeds=places, is_trained=is_trained)


def evaluated_alike(target: Target, scores: Sequence[Score], store: Store) -> str | None:
    """The id of the latest other model beside the trials that has all these scores under the same conditions."""
    wanted = {_conditions(score) for score in scores}
    folders = sorted(_evaluations(store).glob("*/model.json"), key=lambda file: -file.stat().st_mtime_ns)
    for folder in (file.parent for file in folders if file.parent.name != target.owner_id):
        if wanted <= {_conditions(score) for score in _scores_in(folder / "eval")}:
            return folder.name
    return None


def shared_benchmarks(first: Side, second: Side, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the benchmarks both sides were evaluated on under the same conditions.

    Raises:
        OrchError: none, or a wanted one is missing or was evaluated otherwise.
    """
    names = wanted or tuple(name for name in first.scores if name in second.scores)
    if not names:
        raise OrchError(
            f"{first.label} and {second.label} share no benchmark",
            fix=f"evaluated: {', '.join(first.scores) or '–'} and {', '.join(second.scores) or '–'}",
        )
    for name in names:
        for side in (first, second):
            if name not in side.scores:
                raise OrchError(f"{side.label} has no score on {name}", fix=f"orch eval {side.label} --bench {name}")
        conditions = {_conditions(score) for side in (first, second) for score in side.scores[name]}
        if len(conditions) > 1:
            raise OrchError(
                f"{name} was evaluated under different conditions, which cannot be compared",
                where="; ".join(_differences(conditions)),
                fix="evaluate both sides alike",
            )
    return names


def _check_seeds(text: str, seeds: Sequence[int | None]) -> None:
    """Refuse what is no arm: two runs of one seed, or trained runs beside models."""
    is_mixed = None in seeds and len(set(seeds)) > 1
    twice = next((seed for seed in seeds if seed is not None and seeds.count(seed) > 1), None)
    if is_mixed or twice is not None:
        raise OrchError(
            f"{text} is no arm: " + ("trials beside models" if is_mixed else f"two runs of seed {twice}"),
            fix="name runs of one recipe that differ in their seed, or compare them one by one",
        )


def _runs(text: str, store: Store, cache_folder: Path) -> Iterator[tuple[int | None, list[Score]]]:
    """Yield the seed, None for a model, and the scores of each run that `text` names, oldest first."""
    experiment, _, wanted = text.partition(":")
    if wanted and experiment in store.plans.names():
        for planned in _arm(experiment, wanted, store):
            yield planned.trial.seed, _scores_of_trial(planned.trial.id, None, store)
        return
    for part in text.split(","):
        name, _, step = part.partition("@")
        if not step.isdigit():
            name, step = part, ""
        target = evaluated_target(name, store, cache_folder=cache_folder)
        if target.trial_id is not None:
            seed = store.read(target.trial_id).trial.seed
            yield seed, _scores_of_trial(target.trial_id, int(step) if step else None, store)
        else:
            yield None, _scores_in(target.eval_folder)


def _arm(experiment: str, wanted: str, store: Store) -> list[PlannedTrial]:
    entries = store.plans.read(experiment).entries
    trials = [one for one in entries if _matches(one, wanted)]
    arms = {(arm_of(one), one.arm_label): one.arm_label for one in trials or entries}
    if not trials:
        raise OrchError(f"no arm of {experiment} is called {wanted!r}", fix=f"arms: {'; '.join(arms.values())}")
    if len(arms) > 1:
        raise OrchError(
            f"{experiment}:{wanted} is {len(arms)} arms, not one", fix=f"be more exact: {'; '.join(arms.values())}"
        )
    return trials


def _matches(planned: PlannedTrial, wanted: str) -> bool:
    """Every word of `wanted` (`dapo,gmts,0.2`, or the label itself) is one of the trial's axis values."""
    if planned.trial.kind == "base" or wanted == planned.arm_label:
        return wanted == planned.arm_label
    words = {word.strip() for word in wanted.replace("·", ",").split(",")}
    return words <= {str(value) for value in planned.axes.values()}


def _scores_of_trial(trial_id: str, step: int | None, store: Store) -> list[Score]:
    """The scores of a trial at a step, or at its last one."""
    record = store.find(trial_id)
    if record is None:
        return []
    final = record.train.step if record.train is not None else 0
    wanted = final if step is None else step
    found = (store.read_score(trial_id, entry.key) for entry in record.scores if entry.step == wanted)
    return [score for score in found if score is not None]


def _scores_in(folder: Path) -> list[Score]:
    files = sorted(folder.glob("*/score.json"), key=lambda file: file.stat().st_mtime_ns)
    return [score for score in map(read_score, files) if score is not None]


def _newest(scores: list[Score], benchmark: str) -> Score | None:
    """The score with most questions, then most samples, then the latest: a trial run first must not win."""
    of_benchmark = [(s.num_problems, s.num_samples, at, s) for at, s in enumerate(scores) if s.benchmark == benchmark]
    return max(of_benchmark, key=lambda entry: entry[:3])[-1] if of_benchmark else None


def _conditions(score: Score) -> Conditions:
    # K may differ: it shows in the errors.
    return score.benchmark, score.benchmark_digest, replace(score.settings, num_samples=1), score.grader_version


def _differences(conditions: set[Conditions]) -> list[str]:
    rows = [asdict(settings) | {"data": data[:12], "grader": grader} for _, data, settings, grader in conditions]
    return [
        f"{name}: {', '.join(sorted({str(row[name]) for row in rows}))}"
        for name in rows[0]
        if len({str(row[name]) for row in rows}) > 1
    ]
