"""The block `schedule:` of an experiment: which trials go first, and of which only so many run at once.

    schedule:
      priority:                              # of all that fit, the first counts; higher starts first, 0 without one
        - {where: {selection: ets}, value: 10}
      at_most:                               # a trial counts for every cap that it fits
        - {where: {algorithm: dapo}, running: 2}
      deadline_s: 3600                       # how long what the cluster cannot place waits; null: for ever

It changes no trial: when something runs is not what it computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config.blocks import DEADLINE_S, KEY, Cap, Misfit, Priority, Schedule
from orchestrator.config.fields import check_name, convert


def read_schedule(block: Any) -> Schedule:
    """Check the block as YAML gives it; without one, trials start in the plan's order.

    Raises:
        Misfit: an unknown key, a value of the wrong type, or a cap that lets nothing run.
    """
    if block is None:
        return Schedule()
    values = _mapping(block, KEY, known=("priority", "at_most", "deadline_s"))
    deadline_s: float | None = convert(values.get("deadline_s", DEADLINE_S), float | None, key=f"{KEY}.deadline_s")
    if deadline_s is not None and deadline_s <= 0:
        raise Misfit(f"{KEY}.deadline_s is {deadline_s:g}", where=f"{KEY}.deadline_s", fix="above 0, or null")
    priorities = [
        Priority(where=where, value=number) for where, number in _rules(values, "priority", of="value", least=None)
    ]
    caps = [Cap(where=where, running=number) for where, number in _rules(values, "at_most", of="running", least=1)]
    return Schedule(priority=tuple(priorities), at_most=tuple(caps), deadline_s=deadline_s)


def read_where(block: Any, key: str) -> dict[str, tuple[str, ...]]:
    """A choice of trials: trait → the values that it may have.

    Raises:
        Misfit: no block of keys, or an empty one.
    """
    values = _mapping(block, key, known=None)
    if not values:
        raise Misfit(f"{key} is empty", where=key, fix="name what the trials have, as in {selection: ets}")
    return {
        name: tuple(_text(value) for value in (listed if isinstance(listed, list) else [listed]))
        for name, listed in values.items()
    }


def _rules(
    values: Mapping[str, Any], name: str, *, of: str, least: int | None
) -> list[tuple[dict[str, tuple[str, ...]], int]]:
    listed = values.get(name) or []
    if not isinstance(listed, list):
        raise Misfit(f"{KEY}.{name} is no list", where=f"{KEY}.{name}", fix=f"write `- {{where: …, {of}: 2}}` lines")
    rules = []
    for index, rule in enumerate(listed):
        key = f"{KEY}.{name}[{index}]"
        block = _mapping(rule, key, known=("where", of))
        number: int = convert(block.get(of), int, key=f"{key}.{of}")
        if least is not None and number < least:
            raise Misfit(f"{key}.{of} is {number}", where=f"{key}.{of}", fix=f"it must be {least} or more")
        rules.append((read_where(block.get("where"), f"{key}.where"), number))
    return rules


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _mapping(block: Any, where: str, *, known: Sequence[str] | None) -> Mapping[str, Any]:
    if not isinstance(block, Mapping) or any(not isinstance(name, str) for name in block):
        raise Misfit(f"{where} is {block!r}, no block of keys", where=where, fix="write `key: value` lines under it")
    for name in block if known is not None else ():
        check_name("key", name, known or (), where=f"{where}.{name}")
    return block
