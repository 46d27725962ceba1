"""What would end a verl attempt minutes after its start, looked at before it: the model's folder, and shared memory.

Light: a plan asks about local models as well.
"""

from __future__ import annotations

import json
import shutil
from math import ceil
from pathlib import Path

from eval.errors import ModelError, OrchError
from eval.model_folder import model_context
from trainers.recipe import Recipe, Resources
from trainers.verl.launch.job import object_store_bytes

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_CONFIGURATIONS = ("config.json", "tokenizer_config.json", "processor_config.json", "generation_config.json")
_WEIGHTS = 48 * 2**20
"""Twice the buffer through which weights go to vLLM on a CPU, and some room; on GPUs they go by CUDA IPC."""
_ENGINE_QUEUE = 10 * 16 * 2**20
"""vLLM's ring of messages from an engine to its workers: ten of `VLLM_MQ_MAX_CHUNK_BYTES_MB`."""
_WORKER_QUEUE = 10 * 24 * 2**20
"""Its ring of answers from each worker. vLLM does not start where a ring is larger than what is free."""
_GROUP_QUEUE = 6 * 2**22
"""Its ring between workers that share a model."""
_NCCL = 2**30
"""Where several GPUs talk: what NCCL's user guide tells to give a container (troubleshooting, shared memory)."""


def check_model(folder: Path, recipe: Recipe) -> None:
    """Raise ModelError if the folder has no tokenizer or brings code, or the model no room for prompt and response.

    Args:
        folder: a Hugging Face folder.
        recipe: what it is to be trained with.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            "the model folder has no tokenizer",
            where=str(folder),
            fix=f"copy the model's {_TOKENIZER_FILES[0]} and tokenizer_config.json into it",
        )
    if not recipe.model.trust_remote_code and (file := _file_that_names_code(folder)) is not None:
        # verl's reward workers load tokenizers with trust_remote_code whatever they are told.
        raise ModelError(
            f"the model folder brings code of its own, which {file.name} names under auto_map",
            where=str(file),
            fix="read that code and set model.trust_remote_code: true, or remove auto_map",
        )
    wanted = recipe.data.max_prompt_tokens + recipe.data.max_response_tokens
    longest = model_context(folder)
    if longest is not None and wanted > longest:
        raise ModelError(
            f"data.max_prompt_tokens ({recipe.data.max_prompt_tokens}) and data.max_response_tokens "
            f"({recipe.data.max_response_tokens}) exceed the model's {longest} positions",
            where=f"data.max_response_tokens, {folder / 'config.json'}",
            fix=f"lower them to {longest} together, or choose a model with a longer context",
        )


def shared_memory(resources: Resources) -> dict[str, int]:
    """What of a trial lies in a node's shared memory → bytes; without it the trial ends.

    Ray's object store is not among it: where it does not fit, Ray puts it on the disk, and warns that this is slow.
    """
    workers, width = max(1, resources.num_gpus), resources.tensor_parallel or 1
    engines = -(-workers // width)
    group = _GROUP_QUEUE if width > 1 else 0
    needed = {"vLLM's queues": engines * (_ENGINE_QUEUE + group) + workers * _WORKER_QUEUE}
    if not resources.num_gpus:
        return needed | {"weights on their way to vLLM": _WEIGHTS}
    return needed | ({"NCCL": _NCCL} if resources.num_gpus * resources.num_nodes > 1 else {})


def check_shared_memory(resources: Resources, folder: Path = Path("/dev/shm")) -> None:
    """Raise OrchError if a node's shared memory is too small: who writes into a full one is killed by SIGBUS.

    Args:
        resources: of the trial, fitted to the node.
        folder: where the shared memory is mounted.
    """
    free, needed = shutil.disk_usage(folder).free, shared_memory(resources)
    if free >= sum(needed.values()):
        return
    terms = ", ".join(f"{name} {amount:,}" for name, amount in needed.items())
    raise OrchError(
        f"insufficient shared memory: {free:,} bytes are free in {folder}, a verl trial needs "
        f"{sum(needed.values()):,} ({terms})",
        where=str(folder),
        fix=f"free it (`ls -l {folder}`), or start the container with --shm-size={shared_gb(resources)}g",
    )


def shared_gb(resources: Resources) -> int:
    """GiB of shared memory to ask for: what a trial needs, and room for Ray's object store."""
    return ceil((sum(shared_memory(resources).values()) + object_store_bytes(resources)) / 2**30)


def _file_that_names_code(folder: Path) -> Path | None:
    """The first configuration that names classes to be loaded from the folder."""
    for name in _CONFIGURATIONS:
        try:
            values = json.loads((folder / name).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(values, dict) and values.get("auto_map"):
            return folder / name
    return None
