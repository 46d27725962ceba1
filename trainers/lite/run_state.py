"""What a resumed run must find as it was: which recipe it is, torch's random state; and what memory it took."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch


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
