"""Why trials fail, as one table: how a failure is recognised, how often it is tried again, and what fixes it.

A failure is classified from its record alone (exception, message with exit status or signal, last log lines), so old
records are classified by the rules of today. `run_sweep` tries transient ones again by itself; whatever else failed is
run by the next `orch sweep`, when a person has looked at it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.plan.trial import Trial
from orchestrator.store.record import Attempt, Failure, Outcome, RunRecord
from orchestrator.store.store import Store
from trainers.recipe import Recipe, Resources

_LONGEST_WAIT_S = 1800.0


class FailureClass(StrEnum):
    """What went wrong, in the order in which signs are looked for: the cause before its consequences."""

    DISK = "disk"
    GPU_MEMORY = "gpu memory"
    HOST_MEMORY = "host memory"
    PREEMPTED = "preempted"
    NODE_LOST = "node lost"
    HANG = "hang"
    START_UP = "start-up"
    DIVERGED = "diverged"
    NOT_PLACED = "not placed"
    DATA = "data"
    BAD_CONFIG = "bad config"
    EVALUATION = "evaluation"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """How a class is recognised, and what follows."""

    kinds: tuple[str, ...] = ()
    """Exception classes."""
    signs: tuple[str, ...] = ()
    """Regular expressions over the message and the log's last lines; case does not count."""
    num_retries: int = 0
    """Times that one sweep starts the trial again by itself, from its last checkpoint."""
    takes_less: bool = False
    """Whether it is tried again at once with less in memory, as long as there is something to halve."""
    avoids_node: bool = False
    """Whether it is tried again on another node, where the cluster has one that holds it."""
    holds_siblings: bool = False
    """Whether trials that differ in their seed only would fail alike and are held back."""
    fix: str
    """What helps where it is not tried again, or not often enough."""


RETRY_RULES: Mapping[FailureClass, RetryRule] = {
    FailureClass.DISK: RetryRule(
        signs=(
            r"no space left on device",
            r"disk quota exceeded",
            r"\[errno (28|122)\]",
            r"inline_container\.cc:\d+\] \. unexpected pos|pytorchstreamwriter failed writing",  # torch.save
        ),
        fix="free space in the runs folder or TMPDIR, or keep fewer checkpoints",
    ),
    FailureClass.GPU_MEMORY: RetryRule(
        signs=(
            r"cuda out of memory",
            r"cuda error: out of memory",
            r"cublas_status_alloc_failed",
            r"no available memory for the cache blocks",
        ),
        num_retries=10,
        takes_less=True,
        holds_siblings=True,
        fix="give it more or larger GPUs: one sequence at a time does not fit",
    ),
    FailureClass.HOST_MEMORY: RetryRule(
        kinds=("MemoryError",),
        signs=(
            r"node running low on memory",
            r"killed due to memory pressure",
            r"defaultcpuallocator: can't allocate memory",
            r"cannot allocate memory",
            r"(?<!by the )(?<!kernel )oom[-_ ]kill",  # Ray supposes it of every process that dies
            r"insufficient shared memory",
            r"killed by sigkill",
        ),
        fix="set cluster.memory_gb so that fewer trials share a machine, or lower cluster.sample_batch_sequences",
    ),
    FailureClass.PREEMPTED: RetryRule(
        signs=(r"due to preemption", r"due to time limit", r"spot instance interruption", r"killed by sigterm"),
        num_retries=5,
        fix="run the sweep again when the machine is back",
    ),
    FailureClass.NODE_LOST: RetryRule(
        kinds=("NodeDiedError", "ActorDiedError", "ActorUnavailableError", "RayActorError", "OwnerDiedError"),
        signs=(
            r"the node .{0,80}(died|is dead)",
            r"node_died|raylet (process )?(died|exited|crashed)",
            r"(lost|failed to) connect\w* to (the )?gcs",
            r"remote process exited or there was a network error",
            r"training process .*\b(actordied|enginedead)error: ",
            r"xid \(pci|cuda error: (uncorrectable ecc|unspecified launch failure)|fallen off the bus",
        ),
        num_retries=3,
        avoids_node=True,
        fix="look at that machine (dmesg, nvidia-smi) and take it out of the cluster if it happens again",
    ),
    FailureClass.HANG: RetryRule(
        kinds=("TrainingHung",),
        signs=(r"watchdog caught collective operation timeout", r"no (training step|sign of life) for \d+ s"),
        num_retries=2,
        avoids_node=True,
        fix="look at the log for the last thing that was waited for",
    ),
    FailureClass.START_UP: RetryRule(
        signs=(
            r"engine core initialization failed",
            r"address already in use|errno[: ]+98|eaddrinuse",
            r"timed out waiting for engine",
        ),
        num_retries=2,
        fix="look at the log of the process that did not come up; ports are chosen anew each time",
    ),
    FailureClass.DIVERGED: RetryRule(
        kinds=("FloatingPointError",),
        signs=(r"\bis not finite\b", r"\bare not finite\b", r"probability tensor contains either `?inf`?, `?nan`?"),
        fix="lower recipe.learning_rate or raise recipe.lr_warmup_steps: the same seed diverges again",
    ),
    FailureClass.NOT_PLACED: RetryRule(
        kinds=("NotPlaced",),
        fix="lower its cluster.num_gpus, num_cpus, memory_gb or num_nodes, or join a cluster that has them; "
        "every node needs orch, the runs folder and the working folder at the same paths",
    ),
    FailureClass.DATA: RetryRule(
        kinds=("DataError",),
        fix="orch data list says which sets are here and whether they are the declared ones",
        holds_siblings=True,
    ),
    FailureClass.BAD_CONFIG: RetryRule(
        kinds=("SpecError", "PlanError", "ModelError", "Misfit", "OrchError", "ConfigCompositionException"),
        signs=(
            r"error: unrecognized arguments",
            r"hydra\.errors\.",
            r"omegaconf\.errors\.",
            r"got an unexpected keyword argument",
            r"modulenotfounderror",
        ),
        holds_siblings=True,
        fix="correct the experiment: trials that differ in their seed only would fail alike",
    ),
    FailureClass.EVALUATION: RetryRule(
        kinds=("EngineError",),
        signs=(r"enginedeaderror",),
        fix="training is kept: the next sweep only evaluates; orch eval TRIAL tries it alone",
    ),
    FailureClass.UNKNOWN: RetryRule(fix="read the log: orch logs TRIAL"),
}


def classify(failure: Failure) -> FailureClass:
    """The first class one of whose signs is found: text first, since a wrapped exception keeps its text only."""
    text = "\n".join([failure.message, *failure.log_tail])
    by_text = (name for name, policy in RETRY_RULES.items() if _is_found(policy.signs, text))
    by_kind = (name for name, policy in RETRY_RULES.items() if failure.kind in policy.kinds)
    return next(by_text, next(by_kind, FailureClass.UNKNOWN))


def class_of(attempt: Attempt) -> FailureClass | None:
    """Why an attempt came to no end of its own; None where it did, or was asked to stop.

    One whose process vanished without a word counts as lost with its machine.
    """
    if attempt.failure is not None:
        return classify(attempt.failure)
    return FailureClass.NODE_LOST if attempt.outcome in (Outcome.RUNNING, Outcome.INTERRUPTED) else None


def wait_before_retry_s(record: RunRecord, *, since: int, first_wait_s: float) -> float | None:
    """Seconds to wait before a trial that has ended is started again; None when it is not.

    Args:
        record: of the trial.
        since: how many attempts it had when the sweep began: older failures use up nothing.
        first_wait_s: before the first retry; doubled before each further one, up to half an hour.
    """
    name = class_of(record.attempts[-1]) if record.attempts else None
    if name is None:
        return None
    num_alike = sum(class_of(attempt) is name for attempt in record.attempts[since:])
    if num_alike > RETRY_RULES[name].num_retries:
        return None
    if RETRY_RULES[name].takes_less:
        used = record.attempts[-1].resources
        return 0.0 if used is not None and _with_less(record.attempts[-1], used, record) != used else None
    return float(min(first_wait_s * 2 ** max(num_alike - 1, 0), _LONGEST_WAIT_S))


def nodes_to_avoid(record: RunRecord) -> tuple[str, ...]:
    """Ray's ids of the nodes on which a trial failed in a way that others may not repeat, the most frequent first.

    All nodes of a gang are suspects: which of them it was, nothing tells.
    """
    suspects: Counter[str] = Counter()
    for attempt in record.attempts:
        name = class_of(attempt)
        if attempt.node is not None and name is not None and RETRY_RULES[name].avoids_node:
            suspects.update([attempt.node, *attempt.other_nodes])
    return tuple(node for node, _ in suspects.most_common())


_PHASE = re.compile(r"after \d+ steps, in (sample|score|update|send)")
"""What a training process of verl was doing when it ended."""


def _with_less(attempt: Attempt, used: Resources, record: RunRecord) -> Resources:
    """What an attempt used, with less of what its last phase needs; of all where the phase is not known.

    Passes are halved down to one longest sequence, or group; sequences sampled at once down to one; vLLM's share falls
    by a tenth where weights were on their way to it. None of it changes what is computed, other than by rounding.
    """
    found = _PHASE.search(attempt.failure.message) if attempt.failure is not None else None
    phase = found[1] if found else None
    less = used
    if phase in ("score", "update", None):
        less = _with_smaller_passes(less, record.trial.recipe)
    if phase in ("sample", None):
        less = replace(less, sample_batch_sequences=max(1, less.sequences_at_once // 2))
    if phase in ("sample", "send") and less.gpu_memory_share is not None:
        less = replace(less, gpu_memory_share=round(0.9 * less.gpu_memory_share, 3))
    return less


def _with_smaller_passes(resources: Resources, recipe: Recipe | None) -> Resources:
    if resources.tokens_per_pass is None or recipe is None:
        return replace(resources, micro_batch_sequences=max(1, resources.sequences_per_pass // 2))
    longest = recipe.data.max_prompt_tokens + recipe.data.max_response_tokens
    return replace(resources, tokens_per_pass=max(longest, resources.tokens_per_pass // 2))


def num_memory_failures(planned: Resources, record: RunRecord) -> int:
    """How often a trial has run out of the memory of as many GPUs: its state is fitted into less each time."""
    return sum(_ran_out(attempt, planned) for attempt in record.attempts)


def resources_that_fit(planned: Resources, record: RunRecord) -> Resources:
    """What a trial's next attempt uses: the plan's resources, less what has run out of memory on as many GPUs."""
    fitting = planned
    for attempt in record.attempts:
        used = attempt.resources
        if used is not None and _ran_out(attempt, planned):
            less = _with_less(attempt, used, record)
            changed = [name for name in _KNOBS if getattr(less, name) != getattr(used, name)]
            fallen: dict[str, Any] = {name: _smaller(getattr(fitting, name), getattr(less, name)) for name in changed}
            fitting = replace(fitting, **fallen)
    return fitting


_KNOBS = ("micro_batch_sequences", "tokens_per_pass", "sample_batch_sequences", "gpu_memory_share")
"""What may fall after a failure of memory."""


def _smaller(now: float | None, less: float) -> float:
    return less if now is None else min(now, less)


def _ran_out(attempt: Attempt, planned: Resources) -> bool:
    name, used = class_of(attempt), attempt.resources
    if name is None or not RETRY_RULES[name].takes_less or used is None:
        return False
    return (used.num_gpus, used.num_nodes) == (planned.num_gpus, planned.num_nodes)


class SiblingHolds:
    """Which trials wait because one that differs in its seed only has just failed in a way that repeats."""

    def __init__(self, store: Store) -> None:
        """No trial is held yet: only failures under this driver count."""
        self._store = store
        self._failed: dict[tuple[object, ...], dict[str, None]] = {}

    def note(self, trial: Trial) -> None:
        """A trial has failed here."""
        self._failed.setdefault(_family(trial), {})[trial.id] = None

    def culprit(self, trial: Trial) -> str | None:
        """The sibling that holds a trial back, if one does."""
        siblings = (name for name in self._failed.get(_family(trial), ()) if name != trial.id)
        return next((name for name in siblings if self._is_culprit(name)), None)

    def _is_culprit(self, trial_id: str) -> bool:
        """Whether its last attempt still is one that holds others: it may have been tried again, or read no more."""
        try:
            record = self._store.find(trial_id)
        except StoreError:
            return False
        if record is None or record.failure is None:
            return False
        return RETRY_RULES[classify(record.failure)].holds_siblings


def _family(trial: Trial) -> tuple[object, ...]:
    return (trial.recipe, trial.model_digest, trial.data_digest)


def _is_found(signs: tuple[str, ...], text: str) -> bool:
    return any(re.search(sign, text, re.IGNORECASE) for sign in signs)
