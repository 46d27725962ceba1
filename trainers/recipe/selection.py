"""Which tokens are trained on: keys of the group `selection/`, their ranges, and what goes together."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from eval.errors import OrchError
from trainers.methods import METHODS, PRESETS
from trainers.recipe.ranges import NOT_IDENTITY, check_finite, require, unknown


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
        """Raise OrchError for what does not fit; `constant` is spelled None."""
        _check(self)
        if self.schedule == "constant":
            object.__setattr__(self, "schedule", None)


def _check(selection: Selection) -> None:
    """Raise OrchError for an unknown method or preset, a missing ratio, or an option the method does not take."""
    check_finite("selection", selection)
    _check_method(selection)
    _check_ranges(selection)
    _check_schedule(selection)
    if selection.preset is not None:
        _check_preset(selection, selection.preset)


def _check_method(selection: Selection) -> None:
    method = METHODS.get(selection.method)
    if method is None:
        raise unknown("selection method", selection.method, METHODS, where="selection.method")
    for name in sorted(method.required):
        if getattr(selection, name) is None:
            raise OrchError(
                f"selection.{name} is not given, and method {method.name} needs it",
                where=f"selection.{name}",
                fix=f"set selection.{name} in the selection file or as a grid axis",
            )
    for option in fields(selection):
        value = getattr(selection, option.name)
        if option.name in method.options | {"method", "preset"} or value == option.default:
            continue
        takers = [other.name for other in METHODS.values() if option.name in other.options]
        raise OrchError(
            f"selection.{option.name} = {value} has no meaning for method {method.name}",
            where=f"selection.{option.name}",
            fix=f"leave it out, or give the axis a `when`: "
            f"when: {{selection.{option.name}: {{selection: [{', '.join(takers)}]}}}}",
        )


def _check_ranges(selection: Selection) -> None:
    key = "selection.{}".format
    ratio, floor = selection.ratio, selection.schedule_from
    require(ratio is None or 0 < ratio <= 1, key("ratio"), ratio, "in (0, 1]: the share of tokens kept")
    require(floor is None or 0 < floor <= 1, key("schedule_from"), floor, "in (0, 1]")
    is_micro, sequences = selection.scope == "micro_batch", selection.scope_sequences
    if is_micro != (sequences is not None) or (sequences is not None and sequences < 1):
        raise OrchError(
            f"selection.scope is {selection.scope} and selection.scope_sequences is {sequences}",
            where=key("scope_sequences"),
            fix="scope micro_batch needs the number of sequences that compete (1 or more); other scopes take none",
        )
    require(selection.warmup_steps >= 0, key("warmup_steps"), selection.warmup_steps, "0 or more")
    weight = selection.advantage_weight
    require(weight is None or weight >= 0, key("advantage_weight"), weight, "0 or more")
    if weight and selection.scope == "response":
        raise OrchError(
            "selection.advantage_weight changes nothing where tokens compete within a response: |A| is equal there",
            where=key("advantage_weight"),
            fix="set selection.scope to group or batch, or leave the weight out",
        )
    for name in ("probability_threshold", "entropy_quantile"):
        value = getattr(selection, name)
        require(value is None or 0 < value < 1, key(name), value, "in (0, 1)")


def _check_schedule(selection: Selection) -> None:
    schedule = selection.schedule or "constant"
    wanted = {
        "constant": set[str](),
        "linear": {"schedule_steps"},
        "cosine": {"schedule_steps"},
        "steps": {"schedule_list"},
    }[schedule]
    optional = {"schedule_from"} if schedule in ("linear", "cosine") else set()
    for name in ("schedule_from", "schedule_steps", "schedule_list"):
        is_given = getattr(selection, name) is not None
        if name in wanted and not is_given:
            raise OrchError(
                f"selection.{name} is not given, and schedule {schedule} needs it",
                where=f"selection.{name}",
                fix=f"set selection.{name}",
            )
        if is_given and name not in wanted | optional:
            raise OrchError(
                f"selection.{name} has no meaning for schedule {schedule}",
                where=f"selection.{name}",
                fix="leave it out, or choose the schedule it belongs to",
            )
    steps = selection.schedule_steps
    require(steps is None or steps >= 1, "selection.schedule_steps", steps, "1 or more")
    if selection.schedule_list is not None:
        _check_schedule_list(selection.schedule_list, selection.ratio)


def _check_schedule_list(pairs: tuple[tuple[int, float], ...], ratio: float | None) -> None:
    where = "selection.schedule_list"
    starts = [start for start, _ in pairs]
    require(bool(pairs), where, "[]", "a list of [from step, ratio] pairs")
    require(starts == sorted(set(starts)) and starts[0] >= 0, where, starts, "steps that rise from 0 or later")
    for _, kept in pairs:
        require(0 < kept <= 1, where, kept, "a ratio in (0, 1]")
    require(pairs[-1][1] == ratio, where, pairs[-1][1], f"selection.ratio ({ratio}) at its end")


def _check_preset(selection: Selection, preset: str) -> None:
    if preset not in PRESETS:
        raise unknown("selection preset", preset, PRESETS, where="selection.preset")
    for name, stated in PRESETS[preset].items():
        value = getattr(selection, name)
        if value != stated:
            raise OrchError(
                f"selection.{name} is {value}, but preset {preset} states {stated}",
                where=f"selection.{name}",
                fix=f"drop the change, or set selection.preset to null: it is no longer {preset}",
            )
