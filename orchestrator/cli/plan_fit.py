"""What `orch plan --cluster` says of the GPUs: a line for each way in which a model's trials are cut to fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.codec import encode
from orchestrator.config.shape import shape_of
from orchestrator.config.spec import SweepSpec
from orchestrator.forecast.trial_cost import Coster
from orchestrator.plan.trial import Plan
from orchestrator.sizing.devices import Device
from orchestrator.sizing.fit import Fit, fit
from orchestrator.sizing.phases import GB

_LEAVES = {
    "none": "nothing leaves the GPUs",
    "sampling": "weights and optimizer leave the GPUs while vLLM samples",
    "always": "weights and optimizer stay in host memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLine:
    """What trials of one model have in common."""

    experiment: str
    model: str
    trainer: str
    engine: str
    """That evaluates."""
    fit: Fit

    def text(self) -> str:
        """For example `Qwen/Qwen3-8B on 8 GPUs: vLLM on 2 of them with .6 of each, …`."""
        resources = self.fit.resources
        gpus = resources.num_gpus * resources.num_nodes
        passes = (
            f"{resources.tokens_per_pass:,} tokens"
            if resources.tokens_per_pass
            else f"{resources.sequences_per_pass} rows"
        )
        parts = [f"passes of {passes}", f"{resources.sequences_at_once} sequences at once"]
        if resources.offload is not None:
            engine = f"vLLM engines of {resources.tensor_parallel}, {resources.gpu_memory_share:.2f} of the memory"
            parts = [engine, *reversed(parts), _LEAVES[resources.offload]]
        seconds = sum(self.fit.seconds.values())
        parts += [
            f"a checkpoint every {resources.steps_per_checkpoint} steps",
            f"{amount_s(seconds)} a step, a hang after {amount_s(resources.step_limit_s)}",
        ]
        peaks = ", ".join(f"{phase} {self.fit.peak(phase) / GB:.0f}" for phase in self.fit.phases)
        return f"{self.model} on {gpus} GPU{'s' * (gpus > 1)}: {'; '.join(parts)}; peak GB: {peaks}"

    def json(self) -> dict[str, Any]:
        """Everything, terms of memory included."""
        return {
            "experiment": self.experiment,
            "model": self.model,
            "trainer": self.trainer,
            "engine": self.engine,
            "resources": encode(self.fit.resources),
            "bytes_per_device": {phase: dict(terms) for phase, terms in self.fit.phases.items()},
            "seconds_a_step": dict(self.fit.seconds),
        }


def fit_lines(plans: Sequence[Plan], coster: Coster) -> tuple[FitLine, ...]:
    """A line for each model and cut of an experiment, each once; those on CPUs have no phases.

    Raises:
        PlanError: a trial that cannot fit.
    """
    lines: dict[tuple[object, ...], FitLine] = {}
    for plan in plans:
        for planned in plan.entries:
            recipe, found = planned.trial.recipe, coster.fit(planned)
            if recipe is None:
                continue
            cut = found.resources
            key = (plan.experiment, recipe.model.path, cut.tokens_per_pass, cut.micro_batch_sequences, cut.offload)
            line = FitLine(
                experiment=plan.experiment,
                model=recipe.model.path,
                trainer=recipe.trainer,
                engine=planned.evaluation.engine,
                fit=found,
            )
            # Arms differ by a reference or an epoch: the longest step stands for all.
            if key not in lines or sum(found.seconds.values()) > sum(lines[key].fit.seconds.values()):
                lines[key] = line
    return tuple(lines.values())


def check_here(spec: SweepSpec, plan: Plan, device: Device | None) -> None:
    """Refuse a trial that cannot fit this machine's GPUs before anything is fetched or booked.

    Args:
        spec: whose models' files declare their shapes.
        plan: its trials.
        device: the smallest GPU here; None leaves the question to each trial's node.

    Raises:
        PlanError: with bytes, key and fix.
    """
    declared = {point.recipe.model.path: point.shape for point in spec.points}
    checked = {(planned.trial.recipe, planned.resources): planned.trial.model for planned in plan.entries}
    for (recipe, resources), model in checked.items():
        shape = shape_of(model, declared.get(model.path))
        if device is not None and shape is not None and resources.num_gpus:
            fit(recipe, resources, shape, device)


def print_fits(lines: Sequence[FitLine]) -> None:
    """All lines as a table: what is chosen, bytes on the fullest GPU by phase, seconds."""
    from dashboards.columns import Column
    from orchestrator.cli.terminal import print_columns

    columns = [
        Column(header="experiment", role="key", cells=tuple(line.experiment for line in lines)),
        Column(header="model", role="name", cells=tuple(line.model.rpartition("/")[2] for line in lines)),
    ]
    numbers = [_numbers(line) for line in lines]
    for name in numbers[0] if numbers else ():
        columns.append(Column(header=name, is_number=True, cells=tuple(one[name] for one in numbers)))
    print_columns(columns)


def _numbers(line: FitLine) -> dict[str, str]:
    resources, found = line.fit.resources, line.fit
    peaks = {
        f"{phase} GB": f"{found.peak(phase) / GB:.0f}" if phase in found.phases else ""
        for phase in ("sample", "send", "score", "update")
    }
    return {
        "trainer": line.trainer,
        "engine": line.engine,
        "GPUs": str(resources.num_gpus * resources.num_nodes),
        "TP": str(resources.tensor_parallel or ""),
        "share": f"{resources.gpu_memory_share:.2f}" if resources.gpu_memory_share else "",
        "live": str(resources.sequences_at_once) if found.phases else "",
        "tokens a pass": f"{resources.tokens_per_pass:,}" if resources.tokens_per_pass else "",
        "offload": resources.offload or "",
        **peaks,
        "s a step": f"{sum(found.seconds.values()):,.0f}" if found.seconds else "",
        "hang s": f"{resources.step_limit_s:,.0f}" if found.phases else "",
    }


def amount_s(seconds: float) -> str:
    """Seconds, or hours from two on."""
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds:.0f} s"
