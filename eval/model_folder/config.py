"""What must be known of a model before it is loaded: its context and its type of numbers, by its config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.errors import ModelError

TYPES = ("float32", "bfloat16", "float16")


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json, with what it says of the language model of several-part models at the top.

    Raises:
        ModelError: there is none, or it is not a JSON object.
    """
    file = folder / "config.json"
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"the model's config.json does not read: {error}", where=str(file)) from error
    if not isinstance(found, dict):
        raise ModelError("the model's config.json is not a JSON object", where=str(file))
    text_config = found.get("text_config")
    return {**found, **(text_config if isinstance(text_config, dict) else {})}


def model_context(folder: Path) -> int | None:
    """Return the most tokens of a prompt with its response; None where rotary scaling stretches it, or nothing says."""
    config = read_config(folder)
    config = config.get("text_config") or config
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if scaling.get("factor"):
        return None
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) and found > 0 else None


def model_dtype(folder: Path) -> str:
    """Return the type in which the weights were saved; float32 where the config names none that engines know."""
    config = read_config(folder)
    found = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    return found if found in TYPES else "float32"
