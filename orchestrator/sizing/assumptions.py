"""What a cost estimate assumes: one place, every number with its reason.

"H100" is one step of verl in bfloat16 at 1.5B's shape, 256 responses of 1,024 tokens (docs/verl.md, "GPUs").

`orch plan … --assume mean_response_share=0.25` replaces one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from orchestrator.config.fields import unknown_name
from orchestrator.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Shares are of a device's best, as its data sheet states it."""

    prompt_tokens: float = 160.0
    """Mean prompt of a mathematics question with its template; never more than the recipe's limit."""
    mean_response_share: float = 0.4
    """Mean response over the longest allowed one, in training and evaluation."""
    update_share: float = 0.35
    """Of peak operations in forward and backward, as on the H100: FSDP with micro-batches of some thousand tokens."""
    score_share: float = 0.2
    """Of peak operations in forward passes over whole sequences, with what verl does around them, as on the H100."""
    decode_flops_share: float = 0.3
    """Of peak operations while decoding, where the batch is large enough for them to count."""
    decode_bandwidth_share: float = 0.6
    """Of memory bandwidth while decoding: weights and keys and values are read once a token step."""
    graph_overhead_s: float = 0.0075
    """Of one token step under vLLM: scheduling, launching a captured graph, drawing each row by its seed. The H100 took
    11.0 ms for 256 rows, of which reading weights, keys and values accounts for 3.4."""
    layer_overhead_s: float = 0.0007
    """Of one layer in one token step or micro-batch pass, where Python launches each operation (lite, engine hf)."""
    key_value_memory_share: float = 0.4
    """Of a GPU's memory for keys and values while sampling beside training state."""
    recomputed_forward: float = 1.0
    """Forward passes repeated in the backward one: 1 with activation checkpointing."""
    sampling_rounds: float = 1.5
    """Generation rounds of a step under dynamic sampling, never more than the recipe's bound."""
    weight_sync_s: float = 1.0
    """A step, on GPUs: new weights into the sampling engine. The H100 took 0.2 s, from the same GPU."""
    startup_s: float = 200.0
    """A trial on GPUs, before its first step: processes, weights, graph capture; the H100's machine took 150 to 225 s.
    A tenth of it without GPUs."""
    all_reduce_s: float = 0.000015
    """One sum over the GPUs of a vLLM engine, of which a layer needs two a token step."""
    host_copy_gb_s: float = 20.0
    """Between a GPU and pinned host memory, and of a worker's share of host memory where the optimizer steps there."""
    hours_between_failures: float = 24.0
    """Of a trial's machines: how often to write a checkpoint follows from it."""
    time_limit_margin: float = 6.0
    """A silence of so many times what a step is expected to take is a hang: estimates are good to a factor of two, and
    a busy file system or a long round adds to it."""
    disk_gb_s: float = 1.0
    """Writing of checkpoints."""
    unmeasured_spread: float = 2.0
    """Estimates from shapes alone are good to this factor either way."""
    measured_spread: float = 1.1
    """Estimates from a finished run of the same recipe, on the same device, are good to this factor."""
    spread_per_distance: float = 0.2
    """Growth of the logarithm of the spread with the distance from what was measured (`measured.distance`)."""

    def __post_init__(self) -> None:
        """Raise PlanError for a number with which no estimate is possible."""
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name.endswith("_share") or name.endswith("_gb_s"):
                is_met, wanted = 0 < value <= (1 if name.endswith("_share") else 1000), "above 0, and a share at most 1"
            else:
                low = 1 if name.endswith("_spread") else 0
                is_met, wanted = low <= value < float("inf"), f"{low} or more"
            if not is_met:
                raise PlanError(f"the assumption {name} is {value:g}", where="--assume", fix=f"it must be {wanted}")


def read_assumptions(texts: Sequence[str]) -> Assumptions:
    """The assumptions with some replaced: each text is `name=number`.

    Raises:
        PlanError: another form, an unknown name, or a number out of range.
    """
    given: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        known = [field.name for field in fields(Assumptions)]
        if name not in known:
            error = unknown_name("assumption", name, known, where="--assume")
            raise PlanError(error.what, where=error.where, fix=error.fix)
        try:
            given[name] = float(value)
        except ValueError as error:
            raise PlanError(f"{text!r} has no number", where="--assume", fix=f"write {name}=NUMBER") from error
    return replace(Assumptions(), **given)
