"""Seconds of each phase of a trial from the model's shape: operations where they bind, memory traffic in decoding.

    step = sample (rounds × decoding) + score (old policy, reference) + update (forward, backward, recomputation)

Source of the operation counts: docs/methods.md#cost; decoding reads the weights once a token step and each live
sequence's keys and values once a token.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.shape import BYTES_OF_DTYPE, ModelShape
from orchestrator.sizing.assumptions import Assumptions
from orchestrator.sizing.devices import Device
from orchestrator.sizing.memory import VLLM_OWN
from trainers.recipe import Recipe, Resources

GB = 1e9
_TRAINING_BYTES = 12
"""A weight beside its own dtype: float32 master copy and Adam's two moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One copy of the weights that samples."""

    num_devices: int
    cache_bytes: float
    """For keys and values, on all its devices together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a trial computes on: all its devices together."""

    device: Device
    num_devices: int

    @property
    def has_gpus(self) -> bool:
        """Whether the devices are GPUs."""
        return self.device.name != "cpu"

    @property
    def flops(self) -> float:
        """Operations a second of all devices, at best."""
        return self.num_devices * self.device.tflops * 1e12


def place_of(resources: Resources, device: Device) -> Place:
    """The devices of a trial: its GPUs on all its nodes, or its cores."""
    count = resources.num_gpus * resources.num_nodes if resources.num_gpus else resources.num_cpus
    return Place(device=device, num_devices=count)


def step_seconds(
    recipe: Recipe, resources: Resources, shape: ModelShape, place: Place, assumed: Assumptions
) -> dict[str, float]:
    """Phase → seconds of one training step, in the mean over a run."""
    response = assumed.mean_response_share * recipe.data.max_response_tokens
    prompt = min(assumed.prompt_tokens, recipe.data.max_prompt_tokens)
    num_sequences = recipe.prompts_per_step * recipe.group_size
    tokens = num_sequences * (prompt + response)
    passes = -(-num_sequences // resources.sequences_per_pass)
    launch_s = (
        0.0 if place.has_gpus and recipe.trainer != "lite" else passes * shape.num_layers * assumed.layer_overhead_s
    )
    forward = shape.forward_flops(prompt + response)
    num_scored = 1 + (recipe.algorithm.kl_coef > 0)
    backward = 2 * forward * _trained_share(recipe, shape)
    update_flops = tokens * (forward * (1 + assumed.recomputed_forward) + backward) * recipe.ppo_epochs
    return {
        "sample": _rounds(recipe, assumed)
        * decoding_seconds(
            shape,
            place,
            assumed,
            dtype=recipe.model.dtype,
            num_sequences=num_sequences,
            prompt_tokens=prompt,
            response_tokens=response,
            longest=recipe.data.max_response_tokens,
            batch_sequences=resources.sequences_at_once,
            is_graph=recipe.trainer != "lite",
            engine=engine_of(resources, shape, place, recipe.model.dtype),
        )
        + (assumed.weight_sync_s if place.has_gpus and recipe.trainer != "lite" else 0.0),
        "score": num_scored * (tokens * forward / (place.flops * assumed.score_share) + launch_s),
        "update": update_flops / (place.flops * assumed.update_share)
        + 3 * recipe.ppo_epochs * launch_s
        + offload_seconds(recipe, resources, shape, place, assumed),
    }


def engine_of(resources: Resources, shape: ModelShape, place: Place, dtype: str) -> Engine | None:
    """VLLM's engine as the resources cut it; None where nothing says how, so that it is guessed."""
    devices, share = resources.tensor_parallel, resources.gpu_memory_share
    if devices is None or share is None or not place.has_gpus:
        return None
    own = devices * (share * place.device.memory_gb * GB - VLLM_OWN)
    return Engine(num_devices=devices, cache_bytes=own - shape.num_parameters * BYTES_OF_DTYPE[dtype])


def offload_seconds(
    recipe: Recipe, resources: Resources, shape: ModelShape, place: Place, assumed: Assumptions
) -> float:
    """Seconds a step of copies between GPU and host, and of an optimizer that steps on the CPU."""
    each = shape.num_parameters / place.num_devices
    rate = assumed.host_copy_gb_s * GB
    if resources.offload == "sampling":
        return 2 * _TRAINING_BYTES * each / rate  # weights and moments out, and in again
    if resources.offload != "always":
        return 0.0
    num_updates = recipe.ppo_epochs * recipe.prompts_per_step // recipe.mini_batch_prompts
    # Adam reads 16 bytes a parameter and writes 12; each pass fetches the weights twice and leaves a gradient.
    tokens = recipe.prompts_per_step * recipe.group_size * assumed.mean_response_share * recipe.data.max_response_tokens
    num_passes = max(
        num_updates, recipe.ppo_epochs * tokens / place.num_devices / (resources.tokens_per_pass or tokens)
    )
    return (28 * num_updates + 12 * num_passes) * each / rate


def decoding_seconds(
    shape: ModelShape,
    place: Place,
    assumed: Assumptions,
    *,
    dtype: str,
    num_sequences: int,
    prompt_tokens: float,
    response_tokens: float,
    longest: int,
    batch_sequences: int,
    is_graph: bool,
    engine: Engine | None = None,
) -> float:
    """Seconds to sample responses of a mean length, on as many engines as the devices hold copies of the weights.

    A token step of an engine takes its overhead and the larger of memory traffic and operations; there are as many
    steps as the longest response has tokens, or as full batches need for all of them.
    """
    weight_bytes = shape.num_parameters * BYTES_OF_DTYPE[dtype]
    devices_each = engine.num_devices if engine else _devices_of_engine(weight_bytes, place, assumed)
    num_engines = max(1, place.num_devices // devices_each)
    sequences = -(-num_sequences // num_engines)
    context = prompt_tokens + response_tokens / 2
    cache_bytes = shape.key_value_bytes(dtype) * context
    guessed = devices_each * place.device.memory_gb * GB * assumed.key_value_memory_share
    room = (engine.cache_bytes if engine else guessed) / cache_bytes
    most = batch_sequences if engine else room if is_graph else batch_sequences / num_engines
    live_at_most = max(1.0, min(room, sequences, most))
    steps = max(float(longest), sequences * response_tokens / live_at_most)
    live = sequences * response_tokens / steps
    bandwidth = devices_each * place.device.bandwidth_gb_s * GB * assumed.decode_bandwidth_share
    traffic_s = (weight_bytes + live * cache_bytes) / bandwidth
    flops = devices_each * place.device.tflops * 1e12 * assumed.decode_flops_share
    compute_s = live * shape.forward_flops(context) / flops
    overhead_s = (
        assumed.graph_overhead_s if is_graph and place.has_gpus else shape.num_layers * assumed.layer_overhead_s
    )
    overhead_s += 2 * shape.num_layers * assumed.all_reduce_s * (devices_each > 1 and place.has_gpus)
    prefill_s = num_sequences * prompt_tokens * shape.forward_flops(prompt_tokens) / (place.flops * assumed.score_share)
    return steps * (overhead_s + max(traffic_s, compute_s)) + prefill_s


def run_seconds(
    recipe: Recipe, resources: Resources, shape: ModelShape, place: Place, assumed: Assumptions
) -> dict[str, float]:
    """Phase → seconds that a whole training takes beside its steps."""
    num_checkpoints = recipe.steps // resources.steps_per_checkpoint
    checkpoint_s = checkpoint_gb(recipe.model.dtype, shape) / assumed.disk_gb_s
    return {"prepare": startup_seconds(place, assumed), "checkpoint": num_checkpoints * checkpoint_s}


def startup_seconds(place: Place, assumed: Assumptions) -> float:
    """Before a trial's first work."""
    return assumed.startup_s * (1.0 if place.has_gpus else 0.1)


def checkpoint_gb(dtype: str, shape: ModelShape) -> float:
    """Size of a resumable checkpoint: weights, master copy, moments."""
    return shape.num_parameters * (BYTES_OF_DTYPE[dtype] + _TRAINING_BYTES) / GB


def _devices_of_engine(weight_bytes: float, place: Place, assumed: Assumptions) -> int:
    """The fewest devices (a power of two) that hold the weights beside keys and values; cores are one engine."""
    if not place.has_gpus:
        return place.num_devices
    devices = 1
    while weight_bytes > devices * place.device.memory_gb * GB * (0.9 - assumed.key_value_memory_share):
        devices *= 2
    return min(devices, place.num_devices)


def _rounds(recipe: Recipe, assumed: Assumptions) -> float:
    if not recipe.algorithm.dynamic_sampling:
        return 1.0
    return min(assumed.sampling_rounds, recipe.algorithm.max_sampling_rounds)


def _trained_share(recipe: Recipe, shape: ModelShape) -> float:
    """Of the backward pass: a sparse update leaves out the head's unselected positions, and nothing else for sure."""
    ratio = recipe.selection.ratio
    if recipe.update != "sparse" or ratio is None:
        return 1.0
    head = shape.head_parameters / (shape.head_parameters + shape.layer_parameters)
    return 1.0 - head * (1.0 - ratio)
