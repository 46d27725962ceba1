"""What an experiment cost, as its page shows it: the account of each arm, and the most memory it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dashboards.figures.swept import Swept, label_of
from orchestrator.plan.trial import PlannedTrial
from orchestrator.status.accounting import Account, TrialAccount, account_of, add_up, base_accuracy
from orchestrator.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One arm, or all of them."""

    account: Account
    """As `orch cost` prints it."""
    peak_memory_mb: float


def costs(swept: Swept, store: Store) -> tuple[Cost, ...]:
    """One row an arm, in the table's order, and the total last.

    Raises:
        StoreError: a record does not read.
    """
    found = {planned.trial.id: account_of(planned, store) for planned in swept.plan.entries}
    rows = [_cost(label_of(row), swept, swept.seeds_of(row.arm), found) for row in swept.table.rows]
    total = Cost(account=add_up("all", found.values()), peak_memory_mb=_peak_memory_mb(swept, swept.plan.entries))
    return (*rows, total)


def _cost(label: str, swept: Swept, trials: tuple[PlannedTrial, ...], found: Mapping[str, TrialAccount | None]) -> Cost:
    base = base_accuracy(trials[0], swept.plan.entries, found)
    account = add_up(label, [found[planned.trial.id] for planned in trials], base=base)
    return Cost(account=account, peak_memory_mb=_peak_memory_mb(swept, trials))


def _peak_memory_mb(swept: Swept, trials: tuple[PlannedTrial, ...]) -> float:
    records = (swept.records.get(planned.trial.id) for planned in trials)
    return max((record.peak_memory_mb for record in records if record is not None), default=0.0)
