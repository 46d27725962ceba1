"""What would end a verl attempt minutes after its start, looked at before it: the model's folder, and shared memory.

Light: a plan asks about local models as well.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from eval.errors import ModelError, OrchError
from trainers.recipe import Recipe

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_CONFIGURATIONS = ("config.json", "tokenizer_config.json", "processor_config.json", "generation_config.json")
_SHARED_MB = 48
"""Twice the buffer through which weights go to vLLM on a CPU, and some room. Ray's own store can go elsewhere."""


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
    longest = _positions(folder / "config.json")
    if longest is not None and wanted > longest:
        raise ModelError(
            f"data.max_prompt_tokens ({recipe.data.max_prompt_tokens}) and data.max_response_tokens "
            f"({recipe.data.max_response_tokens}) exceed the model's {longest} positions",
            where=f"data.max_response_tokens, {folder / 'config.json'}",
            fix=f"lower them to {longest} together, or choose a model with a longer context",
        )


def check_shared_memory(folder: Path = Path("/dev/shm")) -> None:
    """Raise OrchError if weights cannot be handed to vLLM: a full file system kills who writes there by SIGBUS."""
    free_mb = shutil.disk_usage(folder).free / 2**20
    if free_mb < _SHARED_MB:
        raise OrchError(
            f"insufficient shared memory: {free_mb:.0f} MiB are free in {folder}, a verl trial needs {_SHARED_MB}",
            where=str(folder),
            fix="free it (`ls -l /dev/shm`), or start the container with --shm-size=8g",
        )


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


def _positions(config: Path) -> int | None:
    """Tokens of the longest sequence; None where the file does not say it, or stretches it by rotary scaling."""
    try:
        values = json.loads(config.read_text())
    except (OSError, ValueError):
        return None
    values = values.get("text_config") or values
    if (values.get("rope_scaling") or {}).get("factor"):
        return None
    found = values.get("max_position_embeddings")
    return found if isinstance(found, int) else None
