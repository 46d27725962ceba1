"""What a trainer is given and what it gives back. `Recipe` bears identity; `Resources` never does.

The sections of `Recipe` are the Hydra groups of `experiments/`: `algorithm.clip_low` in a YAML is
`recipe.algorithm.clip_low` here, and the keys of the group `recipe/` are Recipe's own plain fields.
Ranges are checked in `__post_init__`; combinations that mean nothing are rejected there too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from eval.api import Sampler
from trainers.validity import (
    check_algorithm,
    check_data,
    check_recipe,
    check_resources,
    check_selection,
)

Phase = Literal["prepare", "sample", "score", "update", "evaluate", "checkpoint"]

RolloutRejection = Literal[
    "token_k1", "token_k2", "token_k3",
    "seq_sum_k1", "seq_sum_k2", "seq_sum_k3",
    "seq_mean_k1", "seq_mean_k2", "seq_mean_k3",
    "seq_max_k2", "seq_max_k3",
]  # fmt: skip

NOT_IDENTITY = {"identity": False}
"""Metadata of a field that changes no number, or whose content a digest already stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The policy-gradient objective. Source: GRPO arXiv 2402.03300, DAPO arXiv 2503.14476; docs/methods.md#losses."""

    name: Literal["grpo", "dapo"]
    clip_low: float
    """ε₁: the ratio is clipped below at 1 − ε₁."""
    clip_high: float
    """ε₂: the ratio is clipped above at 1 + ε₂."""
    dual_clip: float | None = None
    """c > 1: bounds the loss of negative advantages at large ratios."""
    kl_coef: float = 0.0
    """β of the k3 KL penalty to the frozen reference; 0 loads no reference model."""
    entropy_coef: float = 0.0
    loss_mean: Literal["token", "sequence"]
    """Mean over all tokens of the batch (DAPO), or mean over sequences of their token means (GRPO)."""
    advantage_std: Literal["unbiased", "population", "none"] = "unbiased"
    """What divides R − mean(R) in a group."""
    dynamic_sampling: bool = False
    """Drop groups whose rewards are all equal and refill (DAPO)."""
    max_sampling_rounds: int = 3
    """Bound on the generation rounds of one step under dynamic sampling."""
    overlong_buffer: int | None = None
    """Length of the soft-punished zone before the response limit, in tokens (DAPO eq. 13)."""
    overlong_factor: float = 1.0
    rollout_is: Literal["token", "sequence"] | None = None
    """Weigh the policy loss by π_old/π_rollout, of the token or of its response. Source: verl's rollout correction."""
    rollout_is_threshold: float | None = None
    """Those weights are cut here."""
    rollout_is_lower: float | None = None
    """With it, weights outside of [lower, threshold] become 0 instead (IcePop)."""
    rollout_is_batch_normalize: bool | None = None
    """Divide the weights by their mean over the batch."""
    rollout_rs: RolloutRejection | None = None
    """Learn nothing from tokens, or responses, on which sampler and trainer diverge: level and estimator."""
    rollout_rs_threshold: float | None = None
    """The largest divergence; for k1 the largest π_rollout/π_old."""
    rollout_rs_lower: float | None = None
    """k1 only: the smallest π_rollout/π_old; None is 1/threshold."""

    def __post_init__(self) -> None:
        """Raise OrchError for what `trainers.validity.check_algorithm` refuses."""
        check_algorithm(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tokens are trained on. Switches: docs/methods.md#switches; the mathematics: trainers/selection.py."""

    method: str
    """A key of `trainers.methods.METHODS`."""
    ratio: float | None = None
    """ρ: share of tokens kept, in (0, 1]; meaningless for `full` and STAPO."""
    preset: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Name of the paper's or code's switch setting this block states; shown, and checked against it."""
    end: Literal["top", "bottom"] = "top"
    """Keep the highest or the lowest scores."""
    scope: Literal["batch", "mini_batch", "micro_batch", "group", "response"] = "batch"
    """Where tokens compete for the ρ share."""
    scope_sequences: int | None = None
    """Sequences that compete with each other under scope `micro_batch`. It changes numbers, unlike
    `Resources.micro_batch_sequences`, which only cuts passes to fit memory."""
    score_policy: Literal["old", "current"] = "old"
    """Whether the policy that sampled or the one being updated is scored."""
    count_rule: Literal["exact", "floor", "keep_ties"] = "exact"
    """k = ⌈ρN⌉; or N − ⌈(1−ρ)N⌉, what is left after removing a share; or all that reach the (1−ρ) quantile."""
    normaliser: Literal["selected", "all"] = "selected"
    """Whether the loss divides by the selected or by all response tokens."""
    kl_scope: Literal["selected", "all"] = "selected"
    """Which tokens carry the KL term."""
    warmup_steps: int = 0
    """Θ: first steps trained on all tokens."""
    order: Literal["after_filter", "before_filter"] = "after_filter"
    """Select after or before dynamic sampling drops zero-advantage groups."""
    schedule: Literal["constant", "linear", "cosine", "steps"] | None = None
    """How ρ moves from 1 (or `schedule_from`) to `ratio`; None is constant."""
    schedule_from: float | None = None
    schedule_steps: int | None = None
    schedule_list: tuple[tuple[int, float], ...] | None = None
    """(from step, ρ) pairs for `schedule: steps`."""
    leave_one_out: bool | None = None
    """ICT: exclude the token's own response from the group mean."""
    divide_by_bound: bool | None = None
    """ICT: divide JS by its maximum for |V_t| members."""
    advantage_weight: float | None = None
    """ICT + λ|A|: λ."""
    advantage_per_token: bool | None = None
    """GMTS: score with A/(|o_i|·G) in ω, as the official code does in its GRPO mode; favours short responses."""
    probability_threshold: float | None = None
    """STAPO τ_p."""
    entropy_quantile: float | None = None
    """STAPO τ_h as a quantile."""

    def __post_init__(self) -> None:
        """Raise OrchError for what `trainers.validity.check_selection` refuses; `constant` is spelled None."""
        check_selection(self)
        if self.schedule == "constant":
            object.__setattr__(self, "schedule", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which weights a run starts from."""

    path: str = field(metadata=NOT_IDENTITY)
    """`builtin:arithmetic-tiny`, a Hugging Face folder, or a hub id."""
    revision: str | None = field(default=None, metadata=NOT_IDENTITY)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the policy is trained on."""

    name: str = field(metadata=NOT_IDENTITY)
    """A training set of `eval.benchmarks`, or the path of a jsonl file."""
    template: str
    """Prompt template, a name of `eval.templates`."""
    max_prompt_tokens: int
    max_response_tokens: int
    limit: int | None = None
    """Use only the first rows."""

    def __post_init__(self) -> None:
        """Raise OrchError for what `trainers.validity.check_data` refuses."""
        check_data(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that changes a run's numbers, except its seed and the bytes of its data and model."""

    trainer: str = "lite"
    """`lite`, `verl`, or `package.module:Class` of a Trainer."""
    algorithm: Algorithm
    selection: Selection
    model: Model
    data: Data
    steps: int
    """Optimizer-visible training steps: one batch of prompts each."""
    prompts_per_step: int
    group_size: int
    """G responses a prompt."""
    mini_batch_prompts: int
    """Prompts of one optimizer update; prompts_per_step is a multiple of it."""
    ppo_epochs: int = 1
    learning_rate: float
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    lr_warmup_steps: int = 0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float | None = 1.0
    temperature: float = 1.0
    """Sampling temperature of rollouts; log-probs and entropies are taken at it as well."""
    top_p: float = 1.0
    update: Literal["sparse", "dense"] = "sparse"
    """Whether unselected positions are skipped in the update; same gradients either way."""

    def __post_init__(self) -> None:
        """Raise OrchError for what `trainers.validity.check_recipe` refuses."""
        check_recipe(self)


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
        """Raise OrchError for what `trainers.validity.check_resources` refuses."""
        check_resources(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One attempt at training: where to read and write, and how to talk to the outside."""

    recipe: Recipe
    seed: int
    resources: Resources
    model_folder: Path
    """The initial model, resolved to a Hugging Face folder."""
    checkpoint_folder: Path
    """`runs/<id>/checkpoints`: survives attempts; the trainer resumes from what it finds there."""
    attempt_folder: Path
    """`runs/<id>/attempts/<n>`: this attempt's log and metrics.jsonl."""
    data_folder: Path | None = None
    """Where benchmark files lie (`--data-dir`, ORCH_DATA_DIR)."""
    on_phase: Callable[[Phase, int], None] = field(default=lambda phase, step: None)
    """Called with (phase, step) as work moves on."""
    on_step: Callable[[dict[str, Any]], None] = field(default=lambda metrics: None)
    """Called once a completed step with its metrics, after they are on disk."""
    evaluate: Callable[[int, Sampler], None] | None = None
    """Called with (step, a sampler over the current policy) after every `evaluate_every`-th step but the last;
    it records the scores itself and returns at once where they exist, so a resumed step may repeat the call."""
    evaluate_every: int | None = None
    """Steps between calls of `evaluate`; None when there are none."""
    should_stop: Callable[[], bool] = field(default=lambda: False)
    """Polled between phases; when true the trainer checkpoints and returns with `is_finished=False`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What training left behind."""

    is_finished: bool
    """False when it stopped on request and can be resumed."""
    step: int
    """Last completed training step."""
    model_folder: Path
    """The final policy as an ordinary Hugging Face folder (meaningful when finished)."""
    metrics: dict[str, float]
    """The last step's metrics."""
    phase_seconds: dict[str, float]
    """Wall time by phase over this attempt."""
    peak_memory_mb: float
    num_parameters: int


POLICIES = "policies"
"""`checkpoint_folder/policies/<step>`: policies left by a trainer that cannot be sampled from while it trains, as
ordinary Hugging Face folders. They are evaluated when training has ended, and deleted."""


class Trainer(Protocol):
    """A backend. Stateless: one call trains one job from wherever its checkpoint folder stands."""

    def train(self, job: TrainJob) -> TrainResult:
        """Train until `recipe.steps` steps are done, or until asked to stop.

        Raises:
            OrchError: what a user can mend, such as a model that does not load.
        """
