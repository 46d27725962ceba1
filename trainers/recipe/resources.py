"""What a trial occupies and how it is cut to fit: keys of the group `cluster/`, and their ranges."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.recipe.ranges import check_finite, require


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a trial occupies and how it is cut to fit. Changes numbers by rounding at most: never identity."""

    num_gpus: int = 0
    num_cpus: int = 1
    num_nodes: int = 1
    memory_gb: float | None = None
    micro_batch_sequences: int = 64
    """Sequences of one forward-backward pass."""
    tokens_per_pass: int | None = None
    """verl: passes of as many whole sequences as hold so many tokens, laid end to end, instead of a fixed number."""
    sample_batch_sequences: int = 1024
    """Sequences decoded at once."""
    checkpoint_every: int = 10
    """Training steps between checkpoints."""
    keep_checkpoints: int = 1
    """How many resumable checkpoints to keep: the newest."""
    keep_every: int | None = None
    """Keep those of the multiples of this step as well."""
    keep_best: int = 0
    """Keep this many more: those of the steps with the highest mean training reward."""
    start_timeout_s: float = 1800.0
    """Trainer verl: how long the first step of an attempt may take, with imports, weights and the start of vLLM."""
    step_timeout_s: float = 600.0
    """Trainer verl: the shortest silence after a step that is taken for a hang; twenty median steps where longer."""

    def __post_init__(self) -> None:
        """Raise OrchError for what does not fit."""
        _check(self)


def _check(resources: Resources) -> None:
    """Raise OrchError if a trial would occupy nothing or be cut into pieces of nothing."""
    check_finite("cluster", resources)
    key = "cluster.{}".format
    require(resources.num_gpus >= 0, key("num_gpus"), resources.num_gpus, "0 or more")
    for name in ("num_cpus", "num_nodes", "micro_batch_sequences", "sample_batch_sequences"):
        require(getattr(resources, name) >= 1, key(name), getattr(resources, name), "1 or more")
    for name in ("checkpoint_every", "keep_checkpoints"):
        require(getattr(resources, name) >= 1, key(name), getattr(resources, name), "1 or more")
    for name in ("start_timeout_s", "step_timeout_s"):
        require(getattr(resources, name) > 0, key(name), getattr(resources, name), "above 0")
    require(
        resources.keep_every is None or resources.keep_every >= 1, key("keep_every"), resources.keep_every, "1 or more"
    )
    require(resources.keep_best >= 0, key("keep_best"), resources.keep_best, "0 or more")
    budget = resources.tokens_per_pass
    require(budget is None or budget >= 1, key("tokens_per_pass"), budget, "1 or more, or null")
    memory = resources.memory_gb
    require(memory is None or memory > 0, key("memory_gb"), memory, "above 0, or null")
