"""Which scores a planned trial wants, and under which keys: what plan, run and status compare a record with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eval.api import SamplingSettings
from eval.benchmarks.registry import digest, short_name
from eval.graders.api import OURS, GraderName, grader_name
from eval.grading.version import grader_version
from eval.score_file import score_key
from orchestrator.config.blocks import EvalSettings
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.outline import Outline
from orchestrator.store.record import RunRecord, ScoreEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredScore:
    """One benchmark at one checkpoint of one trial."""

    key: str
    benchmark: str
    step: int
    settings: SamplingSettings
    limit: int | None


def final_step(planned: PlannedTrial) -> int:
    """The training step whose policy the tables show: 0 for the base model."""
    return planned.trial.recipe.steps if planned.trial.recipe is not None else 0


def required_scores(planned: PlannedTrial, *, step: int, data_folder: Path | None) -> tuple[RequiredScore, ...]:
    """The scores that `planned.evaluation` asks for at a step, in its order.

    Raises:
        DataError: a benchmark is unknown, or its file is missing.
    """
    settings = sampling_settings(planned.evaluation)
    return tuple(
        RequiredScore(
            key=score_key(
                trial_id=planned.trial.id,
                step=step,
                benchmark_digest=_digest(name, data_folder),
                settings=settings,
                limit=planned.evaluation.limit,
                grader_version=grader_version(),
            ),
            benchmark=name,
            step=step,
            settings=settings,
            limit=planned.evaluation.limit,
        )
        for name in planned.evaluation.benchmarks
    )


def missing_scores(record: Outline | RunRecord | None, wanted: Sequence[RequiredScore]) -> tuple[RequiredScore, ...]:
    """Those of `wanted` that the record does not hold."""
    present = {entry.key for entry in record.scores} if record is not None else set()
    return tuple(one for one in wanted if one.key not in present)


def is_complete(record: Outline | RunRecord | None, planned: PlannedTrial, *, data_folder: Path | None) -> bool:
    """Whether nothing is left to do: trained where there is training, and every wanted score there."""
    wanted = required_scores(planned, step=final_step(planned), data_folder=data_folder)
    return holds_all(record, planned, wanted)


def holds_all(record: Outline | RunRecord | None, planned: PlannedTrial, wanted: Sequence[RequiredScore]) -> bool:
    """`is_complete` for scores that are at hand."""
    if record is None or (planned.trial.kind == "train" and record.train is None):
        return False
    return not missing_scores(record, wanted)


def sampling_settings(evaluation: EvalSettings) -> SamplingSettings:
    """The part of the evaluation settings that shapes completions."""
    return SamplingSettings(
        num_samples=evaluation.num_samples,
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
        max_new_tokens=evaluation.max_new_tokens,
        template=evaluation.template,
        seed=evaluation.seed,
    )


@cache
def _digest(name: str, data_folder: Path | None) -> str:
    """Digests are read once a process: a plan asks for the same few of them for every trial."""
    return digest(name, data_folder)


def shown_scores(
    record: RunRecord | None, evaluation: EvalSettings, grader: GraderName = OURS
) -> dict[tuple[str, int], ScoreEntry]:
    """The scores that an experiment asked for, by (benchmark as asked for, step), all by one grader.

    Of those that several versions of the grader gave, the latest.
    """
    wanted = sampling_settings(evaluation)
    asked = {short_name(benchmark): benchmark for benchmark in evaluation.benchmarks}
    chosen: dict[tuple[str, int], ScoreEntry] = {}
    for entry in sorted(record.scores if record else (), key=lambda entry: entry.finished_at):
        if grader_name(entry.grader_version) != grader:
            continue
        if entry.settings == wanted and entry.limit == evaluation.limit and entry.benchmark in asked:
            chosen[asked[entry.benchmark], entry.step] = entry
    return chosen


def is_shown_whole(record: RunRecord, planned: PlannedTrial) -> bool:
    """Whether training is over and a table has a score for every benchmark of the plan, of whatever version of ours.

    Unlike `is_complete` it asks for no benchmark's file: mirrors and reports run where those need not be.
    """
    step, scores = final_step(planned), shown_scores(record, planned.evaluation)
    is_trained = planned.trial.kind == "base" or record.train is not None
    return is_trained and all((benchmark, step) in scores for benchmark in planned.evaluation.benchmarks)
