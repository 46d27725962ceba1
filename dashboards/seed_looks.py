"""What a table says where looks at the data decided the number of seeds: each contrast's verdict in place of its p.

A p value after such looks is too bold, and so is an estimate at the look that stopped: the verdict of the design stands
instead, with the median-unbiased estimate. Source: docs/evaluation.md#seeds-until-decided.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dashboards.table import Table
from orchestrator.plan.arm import arm_of
from orchestrator.plan.trial import Plan
from orchestrator.status.looks import ContrastLooks, SeedLooks
from orchestrator.store.store import Store

_MEANING = {
    "benefit": "the first is better",
    "harm": "the first is worse",
    "futile": "no such difference is to be expected",
    "undecided": "all seeds did not decide",
    "open": "more seeds come",
}


def with_looks(table: Table, plan: Plan, store: Store) -> Table:
    """The table with what its looks decided; as it is where seeds were listed."""
    if plan.until is None:
        return table
    design, found = plan.until.design, SeedLooks(store).of(plan)
    looks = {(one.contrast.first, one.contrast.second): one for one in found}
    selectors = tuple(
        one
        if (one.arm, one.reference_arm) not in looks
        else replace(one, p_adjusted=None, more=None, looks=_short(looks[one.arm, one.reference_arm]))
        for one in table.selectors
    )
    heading = (
        f"Seeds until decided: looks at {design.at_least} to {design.at_most} seeds, alpha {design.alpha:g} over "
        f"{len(found)} contrasts, effect {100 * design.effect:g}. Other p values are as if the number of seeds had "
        "been fixed before, and too bold."
    )
    return replace(table, selectors=selectors, facts=(*table.facts, heading, *map(_sentence, found)))


def sentences_between(first: Collection[str], second: Collection[str], store: Store) -> tuple[str, ...]:
    """What the looks of every kept plan say of two sides, given by their trials; none where seeds were listed.

    Raises:
        StoreError: a plan, a record or a score does not read.
    """
    said: list[str] = []
    # Models that no trial trained must compare even where some plan does not read.
    for plan in map(store.plans.read, store.plans.names() if first and second else ()):
        if plan.until is None:
            continue
        arms = {one.trial.id: arm_of(one) for one in plan.entries}
        sides = tuple({arms[trial] for trial in side if trial in arms} for side in (first, second))
        said += [
            _sentence(one)
            for one in SeedLooks(store).of(plan)
            if {one.contrast.first} in sides and {one.contrast.second} in sides
        ]
    return tuple(dict.fromkeys(said))


def _short(looks: ContrastLooks) -> str:
    """`benefit at look 2 of 8`."""
    judgement = looks.judgement
    place = f" at look {judgement.look} of {looks.num_looks}" if judgement.look else ", not looked at yet"
    return judgement.verdict + place


def _sentence(looks: ContrastLooks) -> str:
    judgement = looks.judgement
    said = f"{looks.contrast.label}: {_short(looks)}"
    if judgement.seen is None or judgement.adjusted is None:
        return said + "."
    return (
        f"{said} ({looks.num_seeds} seeds an arm): {_MEANING[judgement.verdict]}; "
        f"{100 * judgement.seen.value:+.1f} there, median-unbiased {100 * judgement.adjusted:+.1f}."
    )
