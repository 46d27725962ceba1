"""What a resumed run must find as it was: which recipe it is, torch's random state; and what memory it took."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from trainers.api import Recipe


def fingerprint(recipe: Recipe, seed: int) -> str:
    """Return a hash of what decides a run's numbers; options that are None do not count, so that new ones can come."""
    text = json.dumps([_counted(recipe), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def random_state() -> dict[str, Any]:
    """Return torch's random state on every device; rollouts and selection need none, dropout in a model would."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def restore_random_state(state: dict[str, Any]) -> None:
    """Put torch's random state back; devices that are gone are passed over."""
    torch.set_rng_state(state["cpu"])
    for device, words in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(words, device)


def peak_memory_mb(device: str) -> float:
    """Return the peak of this process so far: of the GPU's allocator, or resident."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _counted(value: Any) -> Any:
    if not is_dataclass(value):
        return value
    counted = {
        field.name: getattr(value, field.name) for field in fields(value) if field.metadata.get("identity", True)
    }
    return {name: _counted(item) for name, item in counted.items() if item is not None}
