"""What a trial occupies and how it is cut to fit: keys of the group `cluster/`, and their ranges.

A key that is null is chosen where the trial runs, by `orchestrator/sizing/fit.py`, from the model's shape and the GPU's
memory; what a person sets is taken as it is. The properties say what holds where nothing was chosen: on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.recipe.ranges import check_finite, require

Offload = Literal["none", "sampling", "always"]
"""What leaves the GPU for host memory: nothing; weights and optimizer while vLLM samples; or both for good, so that the
optimizer steps on the CPU."""
Setting = str | int | float | bool | None
"""A value of verl's configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a trial occupies and how it is cut to fit. Changes numbers by rounding at most: never identity."""

    num_gpus: int = 0
    num_cpus: int = 1
    num_nodes: int = 1
    memory_gb: float | None = None
    micro_batch_sequences: int | None = None
    """Sequences of one forward-backward pass."""
    tokens_per_pass: int | None = None
    """verl: passes of as many whole sequences as hold so many tokens, laid end to end, instead of a fixed number."""
    sample_batch_sequences: int | None = None
    """Sequences decoded at once; under vLLM by one engine."""
    tensor_parallel: int | None = None
    """verl: GPUs over which vLLM spreads one copy of the weights."""
    gpu_memory_share: float | None = None
    """verl: what vLLM takes of each GPU's memory for weights, keys and values, and its own needs."""
    offload: Offload | None = None
    """verl: what leaves the GPU for host memory, and when."""
    checkpoint_every: int | None = None
    """Training steps between checkpoints."""
    keep_checkpoints: int = 1
    """How many resumable checkpoints to keep: the newest."""
    keep_every: int | None = None
    """Keep those of the multiples of this step as well."""
    keep_best: int = 0
    """Keep this many more: those of the steps with the highest mean training reward."""
    start_timeout_s: float | None = None
    """Trainer verl: how long the first sign of life may take, after imports, weights and the start of vLLM."""
    step_timeout_s: float | None = None
    """Trainer verl: the shortest silence that is taken for a hang; six times the longest before where that is more."""
    verl: tuple[tuple[str, Setting], ...] = ()
    """Trainer verl: settings of verl itself, by their dotted keys; `trainers/verl/launch/settings.py` says which."""

    @property
    def sequences_per_pass(self) -> int:
        """Of one forward-backward pass."""
        return self.micro_batch_sequences or 64

    @property
    def sequences_at_once(self) -> int:
        """Decoded together."""
        return self.sample_batch_sequences or 1024

    @property
    def steps_per_checkpoint(self) -> int:
        """Steps after which one is written."""
        return self.checkpoint_every or 10

    @property
    def start_limit_s(self) -> float:
        """Seconds that the first sign of life of an attempt may take."""
        return self.start_timeout_s or 1800.0

    @property
    def step_limit_s(self) -> float:
        """Seconds of silence that are never taken for a hang."""
        return self.step_timeout_s or 600.0

    def __post_init__(self) -> None:
        """Raise OrchError for what does not fit."""
        _check(self)


def _check(resources: Resources) -> None:
    """Raise OrchError if a trial would occupy nothing or be cut into pieces of nothing."""
    check_finite("cluster", resources)
    for name in ("num_gpus", "keep_best"):
        _require_at_least(0, resources, name)
    for name in ("num_cpus", "num_nodes", "keep_checkpoints"):
        _require_at_least(1, resources, name)
    for name in ("micro_batch_sequences", "sample_batch_sequences", "tokens_per_pass", "tensor_parallel"):
        _require_at_least(1, resources, name)
    for name in ("checkpoint_every", "keep_every"):
        _require_at_least(1, resources, name)
    for name in ("start_timeout_s", "step_timeout_s", "memory_gb"):
        value = getattr(resources, name)
        require(value is None or value > 0, f"cluster.{name}", value, "above 0, or null")
    share = resources.gpu_memory_share
    require(share is None or 0 < share < 1, "cluster.gpu_memory_share", share, "between 0 and 1, or null")


def _require_at_least(low: int, resources: Resources, name: str) -> None:
    value = getattr(resources, name)
    require(value is None or value >= low, f"cluster.{name}", value, f"{low} or more")
