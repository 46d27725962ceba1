"""What `orch compare` compares: each side is a model, a trial, several trials, or an arm of an experiment.

smoke:gmts      the trials of experiment `smoke` whose label or axis values hold `gmts`, all their seeds
a1b2c3,d4e5f6   several trials, one a seed
a1b2c3          one trial, final policy
a1b2c3@20       the same at training step 20
path/to/model   a model that `orch eval` evaluated
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from eval.api import SamplingSettings, Score
from eval.errors import OrchError
from eval.score_file import read_score
from orchestrator.store import Store
from orchestrator.targets import resolve_target
from orchestrator.trial import PlannedTrial

Conditions = tuple[str, str, SamplingSettings, str]
"""(benchmark, data digest, settings, grader version): scores that may be compared share them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison: a score a benchmark and run."""

    label: str
    scores: Mapping[str, tuple[Score, ...]]
    """Benchmark → the scores of all runs (training seeds) under the same conditions."""


def read_side(text: str, store: Store, *, cache_folder: Path) -> Side:
    """Find the scores behind one side of a comparison.

    Raises:
        OrchError: nothing is called that, or nothing of it has been evaluated.
    """
    runs = list(_runs(text, store, cache_folder))
    if not any(runs):
        is_arm = text.partition(":")[0] in store.plans.names()
        mend = "finish its sweep" if is_arm else f"orch eval {text} --bench … evaluates it"
        raise OrchError(f"{text} has no scores yet", where=str(store.root), mend=mend)
    merged: dict[str, tuple[Score, ...]] = {}
    for benchmark in dict.fromkeys(score.benchmark for run in runs for score in run):
        scores = [_newest(run, benchmark) for run in runs]
        missing = sum(score is None for score in scores)
        if missing:
            raise OrchError(
                f"{missing} of {len(runs)} runs of {text} have no score on {benchmark}",
                where=str(store.root),
                mend="finish the sweep, or compare the runs that are done by their ids",
            )
        merged[benchmark] = tuple(score for score in scores if score is not None)
    return Side(label=text, scores=merged)


def shared_benchmarks(first: Side, second: Side, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the benchmarks both sides were evaluated on under the same conditions.

    Raises:
        OrchError: none, or a wanted one is missing or was evaluated otherwise.
    """
    names = wanted or tuple(name for name in first.scores if name in second.scores)
    if not names:
        raise OrchError(
            f"{first.label} and {second.label} share no benchmark",
            mend=f"evaluated: {', '.join(first.scores) or '–'} and {', '.join(second.scores) or '–'}",
        )
    for name in names:
        for side in (first, second):
            if name not in side.scores:
                raise OrchError(f"{side.label} has no score on {name}", mend=f"orch eval {side.label} --bench {name}")
        conditions = {_conditions(score) for side in (first, second) for score in side.scores[name]}
        if len(conditions) > 1:
            raise OrchError(
                f"{name} was evaluated under different conditions, which cannot be compared",
                where="; ".join(_differences(conditions)),
                mend="evaluate both sides alike",
            )
    return names


def _runs(text: str, store: Store, cache_folder: Path) -> Iterator[list[Score]]:
    """Yield the scores of each run that `text` names, oldest first."""
    experiment, _, wanted = text.partition(":")
    if wanted and experiment in store.plans.names():
        for planned in _arm(experiment, wanted, store):
            yield _scores_of_trial(planned.trial.id, None, store)
        return
    for part in text.split(","):
        name, _, step = part.partition("@")
        if not step.isdigit():
            name, step = part, ""
        target = resolve_target(name, store, cache_folder=cache_folder)
        if target.trial_id is not None:
            yield _scores_of_trial(target.trial_id, int(step) if step else None, store)
        else:
            yield _scores_in(target.eval_folder)


def _arm(experiment: str, wanted: str, store: Store) -> list[PlannedTrial]:
    entries = store.plans.read(experiment).entries
    trials = [one for one in entries if _matches(one, wanted)]
    arms = dict.fromkeys(one.label.rsplit(" · seed", 1)[0] for one in trials or entries)
    if not trials:
        raise OrchError(f"no arm of {experiment} is called {wanted!r}", mend=f"arms: {'; '.join(arms)}")
    if len(arms) > 1:
        raise OrchError(f"{experiment}:{wanted} is {len(arms)} arms, not one", mend=f"be more exact: {'; '.join(arms)}")
    return trials


def _matches(planned: PlannedTrial, wanted: str) -> bool:
    """Every word of `wanted` (`dapo,gmts,0.2`, or the label itself) is one of the trial's axis values."""
    if planned.trial.kind == "base":
        return wanted == "base"
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
