"""How a trial is cut to fit its GPUs: every key of `cluster:` that is null, chosen from shapes and memory. Pure.

For each way to keep the training state and each width of vLLM's engines that the memory allows (`memory.py` has the
bytes), `phases.py` says how long a step takes. Of those within a tenth of the shortest step the one that offloads least
and has the narrowest engines wins, since neither has been timed. Of what is left the largest is taken:

    passes       as many tokens as fit while the policy is updated, at least one longest sequence, at most PASS_TOKENS
    vLLM's share what the training state leaves, at most what all sequences at their longest could fill
    live         sequences of mean length that its keys and values hold, at most MOST_LIVE
    checkpoints  every √(2·w·F) seconds, w to write one, F between failures
                 (Source: Young, Communications of the ACM 17 (1974), equation 5)
    time limits  `time_limit_margin` × what the start, and what the longest phase or a checkpoint should take without a
                 sign of life, at least what holds on a CPU

What a person set stays as it is. What does not fit is refused with its bytes, the key, and what would fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, sqrt
from typing import Any

from orchestrator.config.shape import ModelShape
from orchestrator.errors import PlanError
from orchestrator.sizing.assumptions import Assumptions
from orchestrator.sizing.devices import Device
from orchestrator.sizing.memory import FREE_SHARE, VLLM_OWN, Load, Terms, engine_weights, lite_phases, verl_phases
from orchestrator.sizing.phases import GB, Place, checkpoint_gb, place_of, startup_seconds, step_seconds
from trainers.recipe import Recipe, Resources
from trainers.recipe.resources import Offload
from trainers.verl.launch.support import sequences_together

PASS_TOKENS = 32_768
"""Enough for the matrix units; more only adds to what a pass keeps."""
MOST_LIVE = 1024
_LARGEST_SHARE = 0.9
_AS_GOOD = 0.1
"""Estimates of steps that differ by less say nothing."""
_OFFLOADS: tuple[Offload, ...] = ("none", "sampling", "always")
_CHOSEN = ("tokens_per_pass", "micro_batch_sequences", "tensor_parallel", "gpu_memory_share", "offload")
"""Keys that a person may have set so that nothing fits."""
_LITE_SEQUENCES = tuple(2**power for power in range(6, -1, -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Resources without a null that matters, and what follows from them."""

    resources: Resources
    phases: Mapping[str, Terms] = field(default_factory=dict)
    """Phase → term → bytes on one GPU; empty where nothing had to fit: on CPUs, without training, other trainers."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Phase → seconds a step."""

    def peak(self, phase: str) -> float:
        """Bytes on one GPU."""
        return sum(self.phases[phase].values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What is to be fitted, and on what."""

    recipe: Recipe
    resources: Resources
    shape: ModelShape
    device: Device
    assumed: Assumptions
    host_gb: float | None

    @property
    def place(self) -> Place:
        return place_of(self.resources, self.device)

    @property
    def limit(self) -> float:
        """Bytes of a GPU that may be planned for."""
        return (1 - FREE_SHARE) * self.device.memory_gb * GB

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.recipe.data.max_prompt_tokens + self.recipe.data.max_response_tokens


def fit(
    recipe: Recipe | None,
    resources: Resources,
    shape: ModelShape,
    device: Device,
    *,
    assumed: Assumptions | None = None,
    host_gb: float | None = None,
) -> Fit:
    """Choose what is null of a trial's resources.

    Args:
        recipe: None for a base model, which is only sampled from.
        resources: as the plan has them.
        shape: of the model.
        device: one of the trial's GPUs, the smallest of them.
        assumed: what estimates of time rest on.
        host_gb: host memory of a node that is the trial's, where it is known: what leaves the GPUs must fit there.

    Raises:
        PlanError: it cannot fit, with the bytes of the phase that is nearest to fitting, and what would fit.
    """
    if recipe is None or not resources.num_gpus or recipe.trainer not in _FITTERS:
        return Fit(resources=filled(resources))
    trial = _Trial(
        recipe=recipe,
        resources=resources,
        shape=shape,
        device=device,
        assumed=assumed or Assumptions(),
        host_gb=host_gb,
    )
    if recipe.model.dtype == "bfloat16" and not device.has_bfloat16:
        raise PlanError(
            f"{recipe.model.path} is to be trained in bfloat16, which a {device.name} does not compute in",
            where="model.dtype",
            fix="write model.dtype: float16, or use GPUs from the A100 on",
        )
    candidates = list(_FITTERS[recipe.trainer](trial))
    fitting = [one for one in candidates if _excess(one, trial) <= 0]
    if not fitting:
        raise _refused(trial, min(candidates, key=lambda one: _excess(one, trial)))
    return _with_times(_best(fitting), trial)


def filled(resources: Resources) -> Resources:
    """With what holds where nothing has to fit."""
    return replace(
        resources,
        micro_batch_sequences=resources.sequences_per_pass,
        sample_batch_sequences=resources.sequences_at_once,
        checkpoint_every=resources.steps_per_checkpoint,
        start_timeout_s=resources.start_limit_s,
        step_timeout_s=resources.step_limit_s,
    )


def _best(fitting: Sequence[Fit]) -> Fit:
    """The plainest of those that take hardly longer than the shortest step."""
    shortest = min(sum(one.seconds.values()) for one in fitting)
    return next(one for one in fitting if sum(one.seconds.values()) <= (1 + _AS_GOOD) * shortest)


def _verl(trial: _Trial) -> Iterator[Fit]:
    """Every way to keep the state and to spread vLLM, plain ones first, each with the largest passes and share."""
    resources = trial.resources
    for offload in [resources.offload] if resources.offload else _OFFLOADS:
        for width in [resources.tensor_parallel] if resources.tensor_parallel else _widths(trial):
            load = _largest_passes(trial, offload, width)
            load = replace(load, vllm_bytes=_share(trial, load) * trial.device.memory_gb * GB)
            chosen = replace(
                resources,
                offload=offload,
                tensor_parallel=width,
                gpu_memory_share=_share(trial, load),
                tokens_per_pass=load.update_tokens if load.is_packed else None,
                sample_batch_sequences=resources.sample_batch_sequences or _live(trial, load),
            )
            seconds = step_seconds(trial.recipe, chosen, trial.shape, trial.place, trial.assumed)
            yield Fit(resources=chosen, phases=verl_phases(load), seconds=seconds)


def _lite(trial: _Trial) -> Iterator[Fit]:
    """From the largest passes to single sequences."""
    resources = trial.resources
    given = resources.micro_batch_sequences
    for num_sequences in [given] if given else _LITE_SEQUENCES:
        live = resources.sample_batch_sequences or 16 * num_sequences
        tokens = num_sequences * trial.longest
        load = _load(trial, offload="none", width=1, update_tokens=tokens, score_tokens=tokens, is_packed=False)
        has_reference = trial.recipe.algorithm.kl_coef > 0
        chosen = replace(resources, micro_batch_sequences=num_sequences, sample_batch_sequences=live)
        yield Fit(
            resources=chosen,
            phases=lite_phases(load, has_reference=has_reference, live_tokens=live * trial.longest),
            seconds=step_seconds(trial.recipe, chosen, trial.shape, trial.place, trial.assumed),
        )


_FITTERS = {"verl": _verl, "lite": _lite}


def _widths(trial: _Trial) -> Iterator[int]:
    """Powers of two that divide a node's GPUs and the heads: vLLM would keep copies of keys and values beyond."""
    width = 1
    while trial.resources.num_gpus % width == 0 and trial.shape.num_key_value_heads % width == 0:
        yield width
        width *= 2


def _largest_passes(trial: _Trial, offload: Offload, width: int) -> Load:
    """The load with the largest passes that fit, or with the smallest there can be."""
    recipe, resources = trial.recipe, trial.resources
    if resources.tokens_per_pass is None and resources.micro_batch_sequences is not None:
        tokens = resources.micro_batch_sequences * trial.longest
        return _load(
            trial,
            offload=offload,
            width=width,
            update_tokens=tokens,
            score_tokens=tokens,
            is_packed=False,
        )
    least = trial.longest
    share = recipe.mini_batch_prompts * recipe.group_size * trial.longest // trial.place.num_devices
    most = max(least, min(PASS_TOKENS, share))
    sizes = {least, *(max(least, most * quarters // 4) for quarters in (4, 3, 2, 1))}
    loads = [
        _load(trial, offload=offload, width=width, update_tokens=tokens, score_tokens=tokens, is_packed=True)
        for tokens in ([resources.tokens_per_pass] if resources.tokens_per_pass else sorted(sizes, reverse=True))
    ]
    return next((load for load in loads if _passes_fit(trial, load)), loads[-1])


def _load(
    trial: _Trial, *, offload: Offload, width: int, update_tokens: int, score_tokens: int, is_packed: bool
) -> Load:
    recipe = trial.recipe
    together = sequences_together(recipe)
    is_asked = recipe.model.gradient_checkpointing
    return Load(
        shape=trial.shape,
        dtype=recipe.model.dtype,
        num_workers=trial.place.num_devices,
        update_tokens=update_tokens,
        score_tokens=score_tokens,
        group_tokens=together * recipe.data.max_response_tokens if together > 1 else 0,
        is_packed=is_packed,
        has_checkpointing=True if is_asked is None else is_asked,
        offload=offload,
        tensor_parallel=width,
        vllm_bytes=0.0,
    )


def _passes_fit(trial: _Trial, load: Load) -> bool:
    phases = verl_phases(load)
    return all(sum(phases[phase].values()) <= trial.limit for phase in ("score", "update"))


def _share(trial: _Trial, load: Load) -> float:
    """VLLM's share of a GPU, in hundredths."""
    if trial.resources.gpu_memory_share is not None:
        return trial.resources.gpu_memory_share
    memory = trial.device.memory_gb * GB
    beside = sum(verl_phases(replace(load, vllm_bytes=0.0))["sample"].values())
    most = min(_LARGEST_SHARE, (trial.limit - beside) / memory)
    every = _sequences_each(trial, load) * trial.longest * trial.shape.key_value_bytes(load.dtype)
    wanted = (engine_weights(load) + 2 * VLLM_OWN + every / load.tensor_parallel) / memory
    return max(0.01, min(floor(100 * most), ceil(100 * wanted)) / 100)


def _live(trial: _Trial, load: Load) -> int:
    assumed, data = trial.assumed, trial.recipe.data
    mean = min(assumed.prompt_tokens, data.max_prompt_tokens) + assumed.mean_response_share * data.max_response_tokens
    held = int(_cache(load) / (mean * trial.shape.key_value_bytes(load.dtype)))
    return max(1, min(MOST_LIVE, _sequences_each(trial, load), held))


def _sequences_each(trial: _Trial, load: Load) -> int:
    """Sequences of a step that one engine draws."""
    num_engines = max(1, load.num_workers // load.tensor_parallel)
    return -(-trial.recipe.prompts_per_step * trial.recipe.group_size // num_engines)


def _cache(load: Load) -> float:
    """Bytes of an engine for keys and values."""
    return load.tensor_parallel * (load.vllm_bytes - VLLM_OWN - engine_weights(load))


def _excess(one: Fit, trial: _Trial) -> float:
    """Bytes by which the fullest phase is above what may be planned for; 0 or less where all fit."""
    over = max(one.peak(phase) for phase in one.phases) - trial.limit
    return max(over, *_needs(one, trial).values())


def _needs(one: Fit, trial: _Trial) -> dict[str, float]:
    """What else must hold → bytes that it lacks."""
    resources, shape = one.resources, trial.shape
    lacking = {"": -float("inf")}
    if resources.tensor_parallel is not None and resources.gpu_memory_share is not None:
        dtype, width = trial.recipe.model.dtype, resources.tensor_parallel
        weights = shape.num_parameters * (4 if dtype == "float32" else 2) / width
        least = weights + VLLM_OWN + trial.longest * shape.key_value_bytes(dtype) / width
        lacking["vLLM's weights and one longest sequence"] = (
            least - resources.gpu_memory_share * trial.device.memory_gb * GB
        )
    if trial.host_gb is not None and resources.offload in ("sampling", "always"):
        kept = 16 if resources.offload == "always" else 12
        there = shape.num_parameters * kept / trial.place.num_devices * resources.num_gpus
        lacking["host memory for what leaves the GPUs"] = there - 0.8 * trial.host_gb * GB
    return lacking


def _with_times(one: Fit, trial: _Trial) -> Fit:
    """Checkpoints and time limits, from what a step takes."""
    assumed, resources = trial.assumed, one.resources
    step_s = sum(one.seconds.values())
    checkpoint_s = checkpoint_gb(trial.recipe.model.dtype, trial.shape) / assumed.disk_gb_s
    interval_s = sqrt(2 * checkpoint_s * assumed.hours_between_failures * 3600)
    every = resources.checkpoint_every or max(1, min(trial.recipe.steps, round(interval_s / step_s)))
    margin = assumed.time_limit_margin
    # Signs of life come within phases, but the first response may be as long in coming as the last.
    silence_s = margin * max(checkpoint_s, *one.seconds.values())
    start_s = margin * startup_seconds(trial.place, assumed)
    return replace(
        one,
        resources=replace(
            resources,
            checkpoint_every=every,
            start_timeout_s=resources.start_timeout_s or ceil(max(resources.start_limit_s, start_s)),
            step_timeout_s=resources.step_timeout_s or ceil(max(resources.step_limit_s, silence_s)),
        ),
    )


def _refused(trial: _Trial, nearest: Fit) -> PlanError:
    phase = max(nearest.phases, key=nearest.peak)
    lack, lacking = max(((bytes_, name) for name, bytes_ in _needs(nearest, trial).items()), default=(0.0, ""))
    over = nearest.peak(phase) - trial.limit
    place = f"{trial.place.num_devices} × {trial.device.name} of {trial.device.memory_gb:g} GB"
    if lack > max(over, 0):
        what = f"{lacking} lack {lack:,.0f} bytes on {place}"
    else:
        terms = sorted(nearest.phases[phase].items(), key=lambda term: -term[1])[:3]
        largest = ", ".join(f"{name} {amount / GB:.1f} GB" for name, amount in terms)
        what = (
            f"phase {phase} takes {nearest.peak(phase):,.0f} bytes a GPU on {place}, of which "
            f"{trial.limit:,.0f} can be planned for; most of it {largest}"
        )
    key, fix = _mend(trial)
    return PlanError(f"{trial.recipe.model.path} does not fit: {what}", where=key, fix=fix)


def _mend(trial: _Trial) -> tuple[str, str]:
    """The key to change, and to what: first one that a person set, then more GPUs."""
    for name in _CHOSEN:
        if getattr(trial.resources, name) is not None:
            without: dict[str, Any] = {name: None}
            chosen = _fitted(replace(trial, resources=replace(trial.resources, **without)))
            if chosen is not None:
                return f"cluster.{name}", f"leave it out: {getattr(chosen, name)} would be chosen"
    if trial.recipe.model.gradient_checkpointing is False:
        return "model.gradient_checkpointing", "leave it out: layers made again take no memory"
    if trial.recipe.trainer == "lite":
        return "trainer", "write trainer: verl, which spreads the state over GPUs and moves it off them"
    for num_gpus, num_nodes in ((2, 1), (4, 1), (8, 1), (8, 2), (8, 4), (8, 8)):
        more = replace(trial.resources, num_gpus=num_gpus, num_nodes=num_nodes)
        if num_gpus * num_nodes > trial.place.num_devices and _fitted(replace(trial, resources=more)) is not None:
            nodes = f" and cluster.num_nodes: {num_nodes}" if num_nodes > 1 else ""
            return "cluster.num_gpus", f"it fits with cluster.num_gpus: {num_gpus}{nodes}"
    return "data.max_response_tokens", "shorten the responses, or choose a smaller model or larger GPUs"


def _fitted(trial: _Trial) -> Resources | None:
    found = [one for one in _FITTERS[trial.recipe.trainer](trial) if _excess(one, trial) <= 0]
    return _best(found).resources if found else None
