"""`sweep.seeds` as a design instead of a list: more seeds for the arms that are not told apart yet, and no others.

    seeds:
      until: decided
      at_least: 3                # seeds an arm at the first look
      at_most: 10                # and at the last
      alpha: 0.05                # chance of any false benefit or harm, over all contrasts
      effect: 0.01               # smallest difference of averages worth finding: one point
      contrasts:                 # left out: each selector against ETS and against random tokens, at its ratio
        - {first: {selection: gmts}, second: {selection: ets}}

What it computes stands in `eval/sequential/`, what it does to a plan in `orchestrator/plan/growth.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.sequential.design import Design
from orchestrator.config.blocks import DeclaredContrast, Misfit, UntilDecided
from orchestrator.config.fields import check_name, convert
from orchestrator.config.schedule import read_where

KEY = "sweep.seeds"
KEYS = ("until", "at_least", "at_most", "alpha", "effect", "contrasts")
FEWEST, MOST = 2, 100
"""Seeds an arm: one seed says nothing of a method, and a typing error above the most would plan for years."""


def read_until_decided(block: Mapping[str, Any]) -> UntilDecided:
    """Check the block.

    Raises:
        Misfit: an unknown or missing key, or numbers that make no design.
    """
    for name in block:
        check_name("key", str(name), KEYS, where=f"{KEY}.{name}")
    if block.get("until") != "decided":
        raise Misfit(
            f"{KEY}.until is {block.get('until')!r}", where=f"{KEY}.until", fix="write `until: decided`, or list seeds"
        )
    design = Design(
        at_least=_number(block, "at_least", int, 3),
        at_most=_number(block, "at_most", int, 10),
        alpha=_number(block, "alpha", float, 0.05),
        effect=_number(block, "effect", float, None),
    )
    _check(design)
    return UntilDecided(design=design, contrasts=_contrasts(block.get("contrasts")))


def _number(block: Mapping[str, Any], name: str, kind: type, default: float | None) -> Any:
    if block.get(name, default) is None:
        raise Misfit(
            f"{KEY} has no {name}",
            where=KEY,
            fix=f"add {name}, the smallest difference of averages worth finding, as in `{name}: 0.01` for one point",
        )
    return convert(block.get(name, default), kind, key=f"{KEY}.{name}")


def _check(design: Design) -> None:
    def require(is_met: bool, name: str, wanted: str) -> None:
        if not is_met:
            value = getattr(design, name)
            raise Misfit(f"{KEY}.{name} is {value:g}", where=f"{KEY}.{name}", fix=f"it must be {wanted}")

    require(design.at_least >= FEWEST, "at_least", f"{FEWEST} or more: one seed decides nothing")
    require(design.at_least <= design.at_most <= MOST, "at_most", f"from at_least, {design.at_least}, to {MOST}")
    require(0 < design.alpha < 0.5, "alpha", "above 0 and below 0.5, as in 0.05")
    require(0 < design.effect < 1, "effect", "a fraction above 0 and below 1, as in 0.01 for one point")


def _contrasts(block: Any) -> tuple[DeclaredContrast, ...]:
    if block is None:
        return ()
    key = f"{KEY}.contrasts"
    if not isinstance(block, list) or not block:
        raise Misfit(
            f"{key} lists nothing", where=key, fix="write `- {first: {…}, second: {…}}` lines, or leave it out"
        )
    found = []
    for index, one in enumerate(block):
        place = f"{key}[{index}]"
        if not isinstance(one, Mapping) or set(one) != {"first", "second"}:
            raise Misfit(
                f"{place} is {one!r}", where=place, fix="write {first: {selection: …}, second: {selection: …}}"
            )
        first, second = (read_where(one[side], f"{place}.{side}") for side in ("first", "second"))
        found.append(DeclaredContrast(first=first, second=second))
    return tuple(found)
