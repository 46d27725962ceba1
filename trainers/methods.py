"""The token-selection methods by name: every fact about each of them, and the switches of every preset.

What a method computes is one function in `trainers/selection.py`; what else the program has to know of it (options,
what has to be measured for it, what it is compared with) is its row here and nowhere else, so that no other code has
to know a method by its name. This file imports nothing heavy: a plan reads it to find a typo in an experiment file.
An option that a method does not take must stay at its default: two spellings of one run would be two trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

ETS = "80/20, arXiv 2506.01939"
GMTS = "GMTS (docs/papers.md#sources)"
ICT = "ICT (docs/papers.md#sources)"
STAPO = "STAPO, arXiv 2602.15620"

SWITCHES: Final = frozenset(
    {"scope", "scope_sequences", "score_policy", "normaliser", "kl_scope", "warmup_steps", "order"},
)
"""What every method but `full` can be told."""
RATIO: Final = SWITCHES | frozenset(
    {"ratio", "schedule", "schedule_from", "schedule_steps", "schedule_list"},
)
"""What every method that keeps a share of the tokens can be told."""
RANKED: Final = RATIO | frozenset({"end", "count_rule"})
"""What every method that ranks tokens by a score can be told."""


Distance = Literal["js", "kl", "wasserstein"]
"""How far two distributions are apart; the functions stand in `trainers.head.deviation.DISTANCES`."""
DENSE: Final = "full"
"""The method that trains on every token: the baseline of every other."""
CONTROL: Final = "random"
"""The method that draws tokens by chance: what every selector has to beat at the same ratio."""
FIRST_SELECTOR: Final = "ets"
"""The selector that the others set out to improve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What is known about one selection method before any tensor exists."""

    name: str
    summary: str
    """One line for tables of methods and error messages."""
    paper: str
    options: frozenset[str]
    """Fields of `trainers.api.Selection` that mean something here, beside `method` and `preset`."""
    required: frozenset[str] = frozenset()
    """Options that must be given."""
    distance: Distance | None = None
    """The distance from its group's mean distribution that the method reads of each token
    (`trainers.selection.Tokens.deviation_BT`); None if it reads none, so that none is measured."""
    compared_with: str | None = None
    """The method that its paper measures its gain over, at the same ratio and end, where the paper draws that gain."""

    @property
    def has_ratio(self) -> bool:
        """Whether the method ranks tokens and keeps a share ρ of them; otherwise it is a rule, or dense."""
        return "ratio" in self.options

    @property
    def reads_policy(self) -> bool:
        """Whether the choice depends on what a policy says of the tokens: all but the dense and the random one."""
        return "score_policy" in self.options

    @property
    def needs_whole_groups(self) -> bool:
        """Whether all responses to a prompt must be scored together, hence by one worker.

        The mean over a group is taken where its full distributions are made, a chunk at a time: only a few numbers of
        each token leave that. The members may run in several passes, since what waits for the last are hidden states.
        A group that is cut over workers would give a mean over a part, and other scores without any error.
        """
        return self.distance is not None


METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (
        Method(
            name=DENSE,
            summary="every response token: the dense baseline",
            paper="GRPO, arXiv 2402.03300; DAPO, arXiv 2503.14476",
            options=frozenset(),
        ),
        Method(
            name="random",
            summary="a uniform random share, from a counter-based generator",
            paper=ICT + " (random 10 % ablation)",
            options=RATIO - {"score_policy"},
            required=frozenset({"ratio"}),
        ),
        Method(
            name="ets",
            summary="highest entropy H",
            paper=ETS,
            options=RANKED,
            required=frozenset({"ratio"}),
        ),
        Method(
            name="gmts",
            summary="largest |H·ω|, ω the weight of ∇log π in the objective",
            paper=GMTS,
            options=RANKED | {"advantage_per_token"},
            required=frozenset({"ratio"}),
            compared_with="ets",
        ),
        Method(
            name="ict",
            summary="largest Jensen-Shannon deviation from the group's mean distribution",
            paper=ICT,
            options=RANKED | {"leave_one_out", "divide_by_bound", "advantage_weight"},
            required=frozenset({"ratio"}),
            distance="js",
        ),
        Method(
            name="gnorm",
            summary="largest exact gradient norm |ω|·√(1 − 2p_y + C) at the logits",
            paper=GMTS + " (exact norm instead of its entropy proxy)",
            options=RANKED | {"advantage_per_token"},
            required=frozenset({"ratio"}),
        ),
        Method(
            name="ict_kl",
            summary="largest KL(p ‖ group mean)",
            paper=ICT + " (divergence ablation)",
            options=RANKED | {"leave_one_out", "advantage_weight"},
            required=frozenset({"ratio"}),
            distance="kl",
        ),
        Method(
            name="ict_wass",
            summary="largest Wasserstein distance over the token index to the group mean",
            paper=ICT + " (divergence ablation)",
            options=RANKED | {"leave_one_out", "advantage_weight"},
            required=frozenset({"ratio"}),
            distance="wasserstein",
        ),
        Method(
            name="stapo_v1",
            summary="all but rewarded tokens with p < τ_p and H under a quantile of the mini-batch",
            paper=STAPO + "v1",
            options=SWITCHES | {"probability_threshold", "entropy_quantile"},
            required=frozenset({"probability_threshold", "entropy_quantile"}),
        ),
        Method(
            name="stapo_v4",
            summary="as v1, the quantile over low-probability tokens of correct responses",
            paper=STAPO + "v4",
            options=SWITCHES | {"probability_threshold", "entropy_quantile"},
            required=frozenset({"probability_threshold", "entropy_quantile"}),
        ),
    )
}
"""Every method an experiment may name: the baselines, the methods of the papers, then variants. Figures give colours
in this order."""

PRESETS: Final[Mapping[str, Mapping[str, str | int | float]]] = {
    "ets_paper": {
        "method": "ets",
        "scope": "batch",
        "score_policy": "current",
        "count_rule": "keep_ties",
        "normaliser": "selected",
        "kl_scope": "selected",
    },
    "ets_code": {
        "method": "ets",
        "scope": "micro_batch",
        "score_policy": "current",
        "count_rule": "exact",
        "normaliser": "selected",
        "kl_scope": "all",
    },
    "trl": {
        "method": "ets",
        "scope": "micro_batch",
        "score_policy": "current",
        "count_rule": "keep_ties",
        "normaliser": "all",
        "kl_scope": "all",
    },
    "gmts_paper": {
        "method": "gmts",
        "scope": "batch",
        "score_policy": "old",
        "count_rule": "exact",
        "normaliser": "all",
        "kl_scope": "selected",
    },
    "gmts_code": {
        "method": "gmts",
        "scope": "group",
        "score_policy": "old",
        "count_rule": "floor",
        "normaliser": "all",
        "kl_scope": "all",
    },
    "ict_paper": {
        "method": "ict",
        "scope": "response",
        "score_policy": "old",
        "count_rule": "keep_ties",
        "normaliser": "selected",
        "kl_scope": "selected",
        "warmup_steps": 20,
    },
    "stapo_v1": {
        "method": "stapo_v1",
        "scope": "mini_batch",
        "score_policy": "current",
        "normaliser": "selected",
        "kl_scope": "selected",
        "probability_threshold": 0.002,
        "entropy_quantile": 0.8,
    },
    "stapo_v4": {
        "method": "stapo_v4",
        "scope": "mini_batch",
        "score_policy": "current",
        "normaliser": "selected",
        "kl_scope": "selected",
        "probability_threshold": 0.002,
        "entropy_quantile": 0.75,
    },
}
"""Preset → the switches it stands for. Source: docs/methods.md#presets."""
