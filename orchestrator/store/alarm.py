"""What a guard said of a trial, as its record keeps it, and what each guard looks at; judging is `trial/guards.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.config.blocks import GuardAction, GuardName


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A guard's limit was crossed."""

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
        rule = GUARD_RULES[self.guard]
        sign, of_start = ("≤" if rule.is_floor else "≥"), (" × its start" if rule.is_relative else "")
        return f"{self.guard} {self.value:.3g} {sign} {self.limit:g}{of_start} at step {self.step}: {self.action}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRule:
    """What a guard looks at."""

    metrics: tuple[str, ...]
    """Names in `trainers.diagnostics.METRICS`; their sum is judged."""
    is_floor: bool = False
    """Whether it raises an alarm at or below its limit rather than at or above."""
    is_relative: bool = False
    """Whether the limit is a multiple of the mean over the first steps."""


GUARD_RULES: Mapping[GuardName, GuardRule] = {
    "zero_advantage": GuardRule(metrics=("reward/groups_all_right", "reward/groups_all_wrong")),
    "entropy": GuardRule(metrics=("tokens/entropy",), is_floor=True, is_relative=True),
    "length": GuardRule(metrics=("response/length_mean",), is_relative=True),
    "reward": GuardRule(metrics=("reward/mean",), is_floor=True),
    "clip_rate": GuardRule(metrics=("policy/clip_fraction",)),
}
