"""Health of a training, judged after every step from its metrics alone: what warns, pauses or stops a trial.

Each guard raises one alarm a trial, when the mean of its metric over the last steps first crosses its limit. What it
saw and did is an `Alarm` in the trial's record, so nothing ends early without a word. Guards never bear identity: they
decide whether a training goes on, not what it computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any, cast, get_args

from orchestrator.config.blocks import GuardName, Guards
from orchestrator.store.alarm import GUARD_RULES, Alarm, GuardRule

assert set(GUARD_RULES) == set(get_args(GuardName))


def alarms(
    guards: Guards, rows: Sequence[Mapping[str, Any]], *, already: Collection[GuardName], at: str
) -> tuple[Alarm, ...]:
    """The alarms of the last training step.

    A guard without its metric in one of the steps that it averages says nothing.

    Args:
        guards: limits and actions.
        rows: metrics of all steps so far, in order; the last one is judged.
        already: guards that have spoken in this trial.
        at: the time to put on record.
    """
    found = []
    for guard, rule in GUARD_RULES.items():
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


_KEPT = ("step", *(metric for rule in GUARD_RULES.values() for metric in rule.metrics))


def _kept(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in _KEPT if name in metrics}


def _value(rule: GuardRule, rows: Sequence[Mapping[str, Any]], window: int) -> float | None:
    """What is held against the limit, or None while there is too little to say."""
    if len(rows) < (2 * window if rule.is_relative else window):
        return None
    last = _mean(rule, rows[-window:])
    if not rule.is_relative or last is None:
        return last
    first = _mean(rule, rows[:window])
    return last / first if first is not None and first > 0 else None


def _mean(rule: GuardRule, rows: Sequence[Mapping[str, Any]]) -> float | None:
    values = [row.get(metric) for row in rows for metric in rule.metrics]
    if any(not isinstance(value, int | float) for value in values):
        return None
    return len(rule.metrics) * fmean(cast("list[float]", values))
