"""What the built-in model is made of and when its supervised phase stops. Light: planning reads its digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySpec:
    """Everything that decides the weights of a built-in model."""

    name: str
    version: int
    """Raised when the code that builds it changes what comes out."""
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    context: int
    """Longest sequence, in tokens."""
    batch_sequences: int
    learning_rate: float
    warmup_steps: int
    seed: int
    num_threads: int
    """Threads of the build, whatever the machine: sums in another order give other weights."""
    check_every: int
    """Supervised steps between measurements of the average."""
    first_check: int
    check_problems: int
    check_samples: int
    stop_at: float
    """The supervised phase ends at the first measured avg@K of at least this…"""
    band: tuple[float, float]
    """…which must lie in this band, or the build fails."""
    max_steps: int

    @property
    def digest(self) -> str:
        """sha256 of the specification."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


ARITHMETIC_TINY = TinySpec(
    name="arithmetic-tiny",
    version=2,
    hidden_size=128,
    intermediate_size=384,
    num_layers=4,
    num_heads=4,
    num_key_value_heads=2,
    context=512,
    batch_sequences=64,
    learning_rate=2e-3,
    warmup_steps=20,
    seed=0,
    num_threads=1,
    check_every=5,
    first_check=90,
    check_problems=64,
    check_samples=4,
    stop_at=0.30,
    band=(0.25, 0.55),
    max_steps=1500,
)
