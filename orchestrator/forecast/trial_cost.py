"""What one planned trial costs, in pieces that experiments can share: its training, and each of its evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.api import SamplingSettings
from eval.benchmarks.registry import declared, load, short_name
from orchestrator.config.blocks import EvalSettings
from orchestrator.config.shape import BYTES_OF_DTYPE, ModelShape
from orchestrator.forecast.measured import Estimate, Measurement, Work, estimate
from orchestrator.plan.trial import PlannedTrial
from orchestrator.sizing.assumptions import Assumptions
from orchestrator.sizing.devices import Device
from orchestrator.sizing.fit import Fit, fit
from orchestrator.sizing.phases import (
    GB,
    Place,
    checkpoint_gb,
    decoding_seconds,
    place_of,
    run_seconds,
    startup_seconds,
    step_seconds,
)
from orchestrator.sweep.nodes import ResourceRequest, request_of
from trainers.recipe import Recipe, Resources

_SAMPLE_BYTES = 2_000
"""A kept completion with its verdict, in the mean."""

ShapeOf = Callable[[PlannedTrial], ModelShape]
CountOf = Callable[[str], int]
"""Benchmark → number of its questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a trial that is done once, whoever wants it."""

    name: str
    """Unique within the trial: `train`, or what is evaluated, at which step and how."""
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCost:
    """One trial on a given cluster."""

    request: ResourceRequest
    pieces: tuple[Piece, ...]
    phase_seconds: Mapping[str, float]
    """As modelled: `prepare`, `sample`, `score`, `update`, `checkpoint`, `evaluate`."""
    disk_gb: float
    fit: Fit
    """How it is cut to fit its GPUs."""

    @property
    def num_gpus(self) -> float:
        """GPUs of all its nodes."""
        return self.request.num_gpus * self.request.num_nodes


class Coster:
    """Costs trials; equal recipes on equal resources are computed once."""

    def __init__(
        self,
        *,
        device_of: Callable[[Resources], Device],
        shape_of: ShapeOf,
        count_of: CountOf,
        assumed: Assumptions,
        measured: Sequence[Measurement] = (),
    ) -> None:
        """Take what the costs follow from; `shape_of` raises PlanError for a model of unknown shape."""
        self._fits: dict[tuple[Recipe | None, Resources, ModelShape, Device], Fit] = {}
        self._device_of, self._shape_of, self._count_of = device_of, shape_of, count_of
        self._assumed, self._measured = assumed, measured
        self._known: dict[tuple[int, int, int], tuple[PlannedTrial, TrialCost]] = {}

    def cost(self, planned: PlannedTrial) -> TrialCost:
        """What a trial costs.

        Raises:
            PlanError: nothing says what shape its model has.
        """
        subject = planned.trial.recipe or planned.trial.model
        key = (id(subject), id(planned.evaluation), id(planned.resources))
        if key not in self._known:  # the entry holds the trial, so that its parts' ids stay theirs
            self._known[key] = (planned, self._cost(planned))
        return self._known[key][1]

    def fit(self, planned: PlannedTrial) -> Fit:
        """The trial's resources with what is null chosen.

        Raises:
            PlanError: it cannot fit.
        """
        device = self._device_of(planned.resources)
        key = (planned.trial.recipe, planned.resources, self._shape_of(planned), device)
        if key not in self._fits:
            host_gb = device.host_memory_gb * planned.resources.num_gpus
            self._fits[key] = fit(*key, assumed=self._assumed, host_gb=host_gb)
        return self._fits[key]

    def work(self, planned: PlannedTrial) -> dict[str, Work]:
        """Piece → the work that it is: what measurements are compared by."""
        planned = replace(planned, resources=self.fit(planned).resources)
        shape, place = self._shape_of(planned), place_of(planned.resources, self._device_of(planned.resources))
        works = {}
        if planned.trial.recipe is not None:
            works["train"] = self._training(planned.trial.recipe, planned.resources, shape, place)
        for step in evaluated_steps(planned):
            for benchmark in planned.evaluation.benchmarks:
                name = evaluation_key(planned.evaluation, benchmark, step, planned.evaluation.limit)
                works[name] = self._evaluating(planned, benchmark, shape, place)
        return works

    def _cost(self, planned: PlannedTrial) -> TrialCost:
        fitted = self.fit(planned)
        planned = replace(planned, resources=fitted.resources)
        shape, place = self._shape_of(planned), place_of(planned.resources, self._device_of(planned.resources))
        works = self.work(planned)
        estimates: dict[Work, Estimate] = {}
        for work in works.values():
            if work not in estimates:
                estimates[work] = estimate(work, self._measured, self._assumed)
        pieces = tuple(Piece(name=name, estimate=estimates[work]) for name, work in works.items())
        phases = {"evaluate": sum(work.modelled_s for work in works.values() if work.kind == "evaluate")}
        recipe = planned.trial.recipe
        if recipe is not None:
            phases |= _training_phases(recipe, planned.resources, shape, place, self._assumed)
        return TrialCost(
            request=request_of(planned.resources),
            pieces=pieces,
            phase_seconds=phases,
            disk_gb=self._disk_gb(planned, shape),
            fit=fitted,
        )

    def _training(self, recipe: Recipe, resources: Resources, shape: ModelShape, place: Place) -> Work:
        phases = _training_phases(recipe, resources, shape, place, self._assumed)
        return Work(
            kind="train",
            backend=recipe.trainer,
            device=place.device.name,
            variant=repr(recipe),
            modelled_s=sum(phases.values()),
        )

    def _evaluating(self, planned: PlannedTrial, benchmark: str, shape: ModelShape, place: Place) -> Work:
        evaluation = planned.evaluation
        count = min(self._count_of(benchmark), evaluation.limit or self._count_of(benchmark))
        seconds = decoding_seconds(
            shape,
            place,
            self._assumed,
            dtype=planned.trial.model.dtype,
            num_sequences=count * evaluation.num_samples,
            prompt_tokens=self._assumed.prompt_tokens,
            response_tokens=self._assumed.mean_response_share * evaluation.max_new_tokens,
            longest=evaluation.max_new_tokens,
            batch_sequences=planned.resources.sequences_at_once,
            is_graph=evaluation.engine == "vllm",
        )
        if planned.trial.recipe is None:
            seconds += startup_seconds(place, self._assumed) / len(evaluation.benchmarks)
        return Work(
            kind="evaluate",
            backend=evaluation.engine,
            device=place.device.name,
            variant=f"{benchmark} {planned.trial.model.path}",
            modelled_s=seconds,
        )

    def _disk_gb(self, planned: PlannedTrial, shape: ModelShape) -> float:
        evaluation = planned.evaluation
        num_samples = sum(self._count_of(name) for name in evaluation.benchmarks) * evaluation.num_samples
        samples_gb = len(evaluated_steps(planned)) * num_samples * _SAMPLE_BYTES / GB
        if planned.trial.recipe is None:
            return samples_gb
        dtype = planned.trial.model.dtype
        policy_gb = shape.num_parameters * BYTES_OF_DTYPE[dtype] / GB
        return samples_gb + policy_gb + planned.resources.keep_checkpoints * checkpoint_gb(dtype, shape)


def evaluated_steps(planned: PlannedTrial) -> tuple[int, ...]:
    """Training steps whose policy is evaluated: every `every_steps`-th, and the last; 0 for a base model."""
    if planned.trial.recipe is None:
        return (0,)
    steps, every = planned.trial.recipe.steps, planned.evaluation.every_steps
    during = range(every, steps, every) if every is not None else ()
    return (*during, steps)


def evaluation_key(settings: SamplingSettings | EvalSettings, benchmark: str, step: int, limit: int | None) -> str:
    """Equal for evaluations that make the same score of one trial; scores of a user's file go by its stem."""
    how = (settings.num_samples, settings.temperature, settings.top_p, settings.max_new_tokens)
    return f"{short_name(benchmark)} at {step}: {(*how, settings.template, settings.seed, limit)}"


def question_counter(data_folder: Path | None) -> CountOf:
    """Number of questions of a benchmark: as declared, or the rows of a user's file."""
    counts: dict[str, int] = {}

    def count_of(name: str) -> int:
        if name not in counts:
            is_file = name.endswith(".jsonl")
            counts[name] = len(load(name, data_folder=data_folder).problems) if is_file else declared(name).count
        return counts[name]

    return count_of


def _training_phases(
    recipe: Recipe, resources: Resources, shape: ModelShape, place: Place, assumed: Assumptions
) -> dict[str, float]:
    step = step_seconds(recipe, resources, shape, place, assumed)
    return {
        **{phase: recipe.steps * seconds for phase, seconds in step.items()},
        **run_seconds(recipe, resources, shape, place, assumed),
    }
