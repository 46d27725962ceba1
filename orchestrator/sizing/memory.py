"""Bytes of one GPU in each phase of a step, term by term, from the model's shape. Pure.

P parameters (p of one layer, V·D of the head), n workers, b bytes of the recipe's type, T tokens of a pass, L layers,
D hidden, I intermediate, A width of all query heads, K of all key-value heads, t GPUs of a vLLM engine.

    weights       4P/n                     verl keeps and trains float32 (`fsdp_config.dtype`), cut by FSDP2
    gradients     4P/n                     while a policy is updated
    optimizer     8P/n                     Adam's two moments
    gathered      b(2p + 2VD)              FSDP2: a layer at work and the next one, embedding and head, in the type b
    reduced       (b + 4)·max(p, VD)       a gradient before it is cut, in b and in float32
    activations   b·T·(L·D + 6I + 12D + 11A + 6K)        with checkpointing: inputs of layers, one layer made again
                  b·T·(L·(4I + 10D + 8A + 6K) + 2I + 2D) without
                  b·T·(3I + 6D + A)                      without gradients
    group         3b·D·(tokens of a group's responses)    where a method averages over groups: hidden states of one that
                                           is not complete, beside two copies in the order in which the head reads them
    head          1 GiB scoring, 2 GiB updating    bounds of trainers/head (docs/performance.md, "Memory of the head")
    vLLM          share·M while sampling = bP/t + its own + keys and values; asleep, its own graphs and context stay

The factors of the activations lie at most 1 % below and 20 % above a count of every tensor that torch keeps
(`tests/orchestrator/sizing/test_memory.py` counts again, by tensors without data).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.config.shape import BYTES_OF_DTYPE, ModelShape
from trainers.recipe.resources import Offload

GIB = 2.0**30
MASTER_BYTES = 4
"""Of a weight and of a gradient: float32."""
MOMENT_BYTES = 8
HEAD_SCORING, HEAD_UPDATE = 1 * GIB, 2 * GIB
CONTEXT = 1.0 * GIB
"""Assumption: CUDA context, NCCL and library workspaces of the training process."""
VLLM_OWN = 3.0 * GIB
"""Assumption: what vLLM takes of its share beside weights, keys and values: graphs, activations, workspaces."""
VLLM_ASLEEP = 2.0 * GIB
"""Assumption: what of it stays when it sleeps: context, graphs, NCCL."""
SYNC_BUFFERS = 4.0 * GIB
"""verl sends weights through buckets of 2 GiB (`update_weights_bucket_megabytes`): one filled, one read."""
FREE_SHARE = 0.06
"""Of a GPU's memory, left to the allocator's fragments."""

Terms = Mapping[str, float]
"""Name of a term → bytes on one GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What decides the bytes of a trial."""

    shape: ModelShape
    dtype: str
    num_workers: int
    update_tokens: int
    """Positions of the largest pass with gradients."""
    score_tokens: int
    """Positions of the largest pass without."""
    group_tokens: int
    """Response tokens of a group, where the method averages over it; else 0."""
    is_packed: bool
    has_checkpointing: bool
    offload: Offload
    tensor_parallel: int
    vllm_bytes: float
    """vLLM's share of a GPU."""

    @property
    def width(self) -> int:
        """Bytes of a number of the recipe's type."""
        return BYTES_OF_DTYPE[self.dtype]

    @property
    def parameters_each(self) -> float:
        """Parameters that a worker keeps."""
        return self.shape.num_parameters / self.num_workers


def verl_phases(load: Load) -> dict[str, Terms]:
    """Phase → terms, for the trainer verl."""
    optimizer = {"optimizer": MOMENT_BYTES * load.parameters_each} if load.offload == "none" else {}
    weights = {"weights": MASTER_BYTES * load.parameters_each} if load.offload != "always" else {}
    awake = {"vllm": load.vllm_bytes, "context": CONTEXT}
    asleep = {"vllm asleep": VLLM_ASLEEP, "context": CONTEXT, "gathered": gathered(load)}
    return {
        "sample": {**awake, **(weights if load.offload == "none" else {}), **optimizer},
        "send": {
            **weights,
            **optimizer,
            "vllm weights": engine_weights(load) + VLLM_OWN,
            "buffers": SYNC_BUFFERS,
            "context": CONTEXT,
        },
        "score": {
            **asleep,
            **weights,
            **optimizer,
            "activations": inferring(load),
            "group": group(load),
            "head": HEAD_SCORING,
        },
        "update": {
            **asleep,
            **weights,
            **({} if load.offload == "always" else trained(load)),
            "reduced": reduced(load),
            "activations": activations(load),
            "head": HEAD_UPDATE,
        },
    }


def lite_phases(load: Load, *, has_reference: bool, live_tokens: int) -> dict[str, Terms]:
    """Phase → terms, for the trainer lite: one GPU that keeps everything, and a copy in the recipe's type to sample."""
    copies = (load.dtype != "float32") + has_reference
    kept = {
        "weights": MASTER_BYTES * load.parameters_each,
        "optimizer": MOMENT_BYTES * load.parameters_each,
        "copies": load.width * load.parameters_each * copies,
        "context": CONTEXT,
    }
    # Autocast keeps a copy of the weights in its type while a pass lasts.
    cast = {"cast": load.width * load.parameters_each} if load.dtype != "float32" else {}
    return {
        "sample": {**kept, "keys and values": load.shape.key_value_bytes(load.dtype) * live_tokens},
        "score": {**kept, **cast, "activations": inferring(load), "group": group(load), "head": HEAD_SCORING},
        "update": {
            **kept,
            **cast,
            "gradients": MASTER_BYTES * load.parameters_each,
            "activations": activations(load),
            "head": HEAD_UPDATE,
        },
    }


def trained(load: Load) -> Terms:
    """What an update keeps beside the weights."""
    return {"gradients": MASTER_BYTES * load.parameters_each, "optimizer": MOMENT_BYTES * load.parameters_each}


def gathered(load: Load) -> float:
    """Weights that FSDP has together on every GPU."""
    return load.width * (2 * _of_layer(load.shape) + 2 * load.shape.head_parameters)


def reduced(load: Load) -> float:
    """The largest gradient before it is cut."""
    return (load.width + MASTER_BYTES) * max(_of_layer(load.shape), load.shape.head_parameters)


def activations(load: Load) -> float:
    """What a pass keeps for its backward pass, and makes there."""
    shape = load.shape
    hidden, inner, layers = shape.hidden_size, shape.intermediate_size, shape.num_layers
    heads, key_value = shape.attention_size, _key_value_size(shape)
    if load.has_checkpointing:
        each = layers * hidden + 6 * inner + 12 * hidden + 11 * heads + 6 * key_value
    else:
        each = layers * (4 * inner + 10 * hidden + 8 * heads + 6 * key_value) + 2 * inner + 2 * hidden
    return load.width * load.update_tokens * each


def inferring(load: Load) -> float:
    """What a pass without gradients holds at once."""
    shape = load.shape
    each = 3 * shape.intermediate_size + 6 * shape.hidden_size + shape.attention_size
    return load.width * load.score_tokens * each


def group(load: Load) -> float:
    """Hidden states of a group that goes on in the next pass, and their copies."""
    return 3 * load.width * load.shape.hidden_size * load.group_tokens


def engine_weights(load: Load) -> float:
    """A GPU's part of vLLM's copy of the weights."""
    return load.width * load.shape.num_parameters / load.tensor_parallel


def _of_layer(shape: ModelShape) -> float:
    return shape.layer_parameters / shape.num_layers


def _key_value_size(shape: ModelShape) -> int:
    return shape.num_key_value_heads * shape.head_size
