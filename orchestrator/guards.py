"""Health of a training, judged after every step from its metrics alone: what warns, pauses or stops a trial.

Each guard speaks once a trial, when the mean of its metric over the last steps first crosses its limit. What it saw
and did is an `Alarm` in the trial's record, so nothing ends early without a word. Guards never bear identity: they
decide whether a training goes on, not what it computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, cast, get_args

from trainers.validity import check_finite, require

GuardName = Literal["zero_advantage", "entropy", "length", "reward", "clip_rate"]
GuardAction = Literal["warn", "pause", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """The block `guards:` of an experiment: a limit for each guard, null to switch it off."""

    window: int = 10
    """Training steps over which a metric is averaged."""
    zero_advantage: float | None = 0.9
    """Share of groups whose rewards are all equal, from which nothing is learned: at or above."""
    entropy: float | None = 0.1
    """Mean token entropy as a share of that of the first `window` steps: at or below."""
    length: float | None = 3.0
    """Mean response length as a multiple of that of the first `window` steps: at or above."""
    reward: float | None = 0.0
    """Mean reward: at or below."""
    clip_rate: float | None = 0.3
    """Share of tokens whose surrogate is clipped: at or above."""
    pause: tuple[GuardName, ...] = ()
    """Guards that write a checkpoint and pause the trial until `orch ctl resume`."""
    stop: tuple[GuardName, ...] = ()
    """Guards that write a checkpoint and cancel the trial until `orch ctl requeue`."""

    def __post_init__(self) -> None:
        """Raise OrchError for a window or a limit that means nothing, or an action for a guard that is off."""
        check_finite("guards", self)
        require(self.window >= 1, "guards.window", self.window, "1 or more")
        for name in ("zero_advantage", "clip_rate"):
            limit = getattr(self, name)
            require(limit is None or 0 < limit <= 1, f"guards.{name}", limit, "in (0, 1], or null")
        require(self.entropy is None or 0 < self.entropy < 1, "guards.entropy", self.entropy, "in (0, 1), or null")
        require(self.length is None or self.length > 1, "guards.length", self.length, "above 1, or null")
        for action in ("pause", "stop"):
            for guard in getattr(self, action):
                is_on = getattr(self, guard) is not None
                require(is_on, f"guards.{action}", guard, f"a guard that is on: guards.{guard} is null")
        both = sorted({*self.pause} & {*self.stop})
        require(not both, "guards.pause", both, "guards that are not under guards.stop as well")

    def action_of(self, guard: GuardName) -> GuardAction:
        """What follows when a guard speaks."""
        if guard in self.stop:
            return "stop"
        return "pause" if guard in self.pause else "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A guard spoke."""

    guard: GuardName
    action: GuardAction
    step: int
    value: float
    """Mean over the last `window` steps, or its ratio to the mean over the first."""
    limit: float
    at: str
    """UTC, ISO 8601."""

    @property
    def text(self) -> str:
        """One line for tables and logs: `entropy 0.08 ≤ 0.1 of its start at step 40: pause`."""
        rule = RULES[self.guard]
        sign, of_start = ("≤" if rule.is_floor else "≥"), (" × its start" if rule.is_relative else "")
        return f"{self.guard} {self.value:.3g} {sign} {self.limit:g}{of_start} at step {self.step}: {self.action}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a guard looks at."""

    metrics: tuple[str, ...]
    """Names in `trainers.diagnostics.METRICS`; their sum is judged."""
    is_floor: bool = False
    """Whether it speaks at or below its limit rather than at or above."""
    is_relative: bool = False
    """Whether the limit is a multiple of the mean over the first steps."""


RULES: Mapping[GuardName, Rule] = {
    "zero_advantage": Rule(metrics=("reward/groups_all_right", "reward/groups_all_wrong")),
    "entropy": Rule(metrics=("tokens/entropy",), is_floor=True, is_relative=True),
    "length": Rule(metrics=("response/length_mean",), is_relative=True),
    "reward": Rule(metrics=("reward/mean",), is_floor=True),
    "clip_rate": Rule(metrics=("policy/clip_fraction",)),
}
assert set(RULES) == set(get_args(GuardName))


def alarms(
    guards: Guards, rows: Sequence[Mapping[str, Any]], *, already: Collection[GuardName], at: str
) -> tuple[Alarm, ...]:
    """The guards that speak after the last of the training steps so far.

    A guard without its metric in one of the steps that it averages says nothing.

    Args:
        guards: limits and actions.
        rows: metrics of all steps so far, in order; the last one is judged.
        already: guards that have spoken in this trial.
        at: the time to put on record.
    """
    found = []
    for guard, rule in RULES.items():
        limit = getattr(guards, guard)
        value = None if limit is None or guard in already else _value(rule, rows, guards.window)
        if value is not None and (value <= limit if rule.is_floor else value >= limit):
            action, step = guards.action_of(guard), int(rows[-1]["step"])
            found.append(Alarm(guard=guard, action=action, step=step, value=value, limit=limit, at=at))
    return tuple(found)


class GuardWatch:
    """Judges one trial's steps as they come; keeps of each only what guards look at."""

    def __init__(self, guards: Guards, rows: Sequence[Mapping[str, Any]], *, already: Collection[GuardName]) -> None:
        """Begin after the steps of earlier attempts and the alarms that those raised."""
        self._guards, self._already = guards, set(already)
        self._rows = [_kept(row) for row in rows]

    def see(self, metrics: Mapping[str, Any], *, at: str) -> tuple[Alarm, ...]:
        """Take in a completed step, in place of what an earlier attempt said of it and of those after it."""
        step = int(metrics["step"])
        while self._rows and self._rows[-1]["step"] >= step:
            self._rows.pop()
        self._rows.append(_kept(metrics))
        found = alarms(self._guards, self._rows, already=self._already, at=at)
        self._already |= {alarm.guard for alarm in found}
        return found


_KEPT = ("step", *(metric for rule in RULES.values() for metric in rule.metrics))


def _kept(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in _KEPT if name in metrics}


def _value(rule: Rule, rows: Sequence[Mapping[str, Any]], window: int) -> float | None:
    """What is held against the limit, or None while there is too little to say."""
    if len(rows) < (2 * window if rule.is_relative else window):
        return None
    last = _mean(rule, rows[-window:])
    if not rule.is_relative or last is None:
        return last
    first = _mean(rule, rows[:window])
    return last / first if first is not None and first > 0 else None


def _mean(rule: Rule, rows: Sequence[Mapping[str, Any]]) -> float | None:
    values = [row.get(metric) for row in rows for metric in rule.metrics]
    if any(not isinstance(value, int | float) for value in values):
        return None
    return len(rule.metrics) * fmean(cast("list[float]", values))
