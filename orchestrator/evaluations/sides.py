"""The two sides of `orch compare`: trials, arms or models, and the scores that they share.

A side holds scores of one grader, drawn under the same conditions, one a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from eval.api import SamplingSettings, Score
from eval.comparison import Arm
from eval.errors import OrchError
from eval.graders.api import OURS, GraderName, grader_name, regrade_command
from eval.score_file import read_score
from orchestrator.evaluations.targets import Target, evaluated_target, evaluations_folder
from orchestrator.plan.arm import arm_of
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.store import Store

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
    trials: tuple[str, ...]
    """The trials behind the runs; none for models that no trial trained."""

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
    seeds = [seed for seed, _, _ in found]
    runs = [[score for score in scores if grader_name(score.grader_version) == grader] for _, _, scores in found]
    if not any(runs):
        is_graded_otherwise = any(scores for _, _, scores in found)
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
    trials = tuple(trial for _, trial, _ in found if trial is not None)
    return Side(label=text, scores=merged, seeds=places, is_trained=is_trained, trials=trials)


def evaluated_alike(target: Target, scores: Sequence[Score], store: Store) -> str | None:
    """The id of the latest other model beside the trials that has all these scores under the same conditions."""
    wanted = {_conditions(score) for score in scores}
    folders = sorted(evaluations_folder(store).glob("*/model.json"), key=lambda file: -file.stat().st_mtime_ns)
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


def _runs(text: str, store: Store, cache_folder: Path) -> Iterator[tuple[int | None, str | None, list[Score]]]:
    """Yield seed, trial (each None for a model) and scores of each run that `text` names, oldest first."""
    experiment, _, wanted = text.partition(":")
    if wanted and experiment in store.plans.names():
        for planned in _arm(experiment, wanted, store):
            yield planned.trial.seed, planned.trial.id, _scores_of_trial(planned.trial.id, None, store)
        return
    for part in text.split(","):
        name, _, step = part.partition("@")
        if not step.isdigit():
            name, step = part, ""
        target = evaluated_target(name, store, cache_folder=cache_folder)
        if target.trial_id is not None:
            seed = store.read(target.trial_id).trial.seed
            yield seed, target.trial_id, _scores_of_trial(target.trial_id, int(step) if step else None, store)
        else:
            yield None, None, _scores_in(target.eval_folder)


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
