"""`orch cost`: what an experiment has cost so far, by phase, with what was idle and what was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.options import RUNS, AsJson, StoreFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dashboards.columns import Column
    from orchestrator.status.accounting import Account, Device

HOURS_OF = {"gpu": "GPU-hours", "core": "CPU core-hours"}


def cost(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment that was swept.")],
    by: Annotated[Literal["arm", "trial"], typer.Option(help="A line an arm, or a line a trial.")] = "arm",
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show device-hours by phase, what was lost, and what a point of accuracy cost."""
    from orchestrator.cli.terminal import print_columns
    from orchestrator.status.accounting import account_of, accounts_by_arm, add_up
    from orchestrator.store.store import Store

    runs = Store(store)
    trials = runs.plans.read(experiment).entries
    accounts = accounts_by_arm(trials, runs)
    if by == "trial":
        each = [(planned, account_of(planned, runs)) for planned in trials]
        alone = [add_up(f"{planned.trial.id} {planned.label}", [one]) for planned, one in each if one is not None]
        accounts = (*alone, accounts[-1])
    if as_json:
        typer.echo(cost_json(experiment, accounts))
        return
    for device in accounts[-1].hours:
        typer.secho(f"{experiment}: {HOURS_OF[device]}", bold=True)
        print_columns(_columns(accounts, device))
    if not accounts[-1].hours:
        typer.echo(f"{experiment}: no trial has begun")


def _columns(accounts: tuple[Account, ...], device: Device) -> list[Column]:
    """A row for each account that has used the device."""
    from dashboards.columns import Column

    used = [account for account in accounts if device in account.hours]
    decimals = _decimals(accounts[-1].total[device])

    def numbers(header: str, cells: Iterable[str]) -> Column:
        return Column(header=header, is_number=True, cells=tuple(cells))

    return [
        Column(header="arm", role="name", cells=tuple(account.label for account in used)),
        numbers("trials", (str(account.num_trials) for account in used)),
        numbers("attempts", (str(account.num_attempts) for account in used)),
        *(
            numbers(phase, (_number(account.hours[device].get(phase), decimals) for account in used))
            for phase in accounts[-1].hours[device]
        ),
        numbers("total", (_number(account.total[device], decimals) for account in used)),
        *(
            [
                numbers("points", (_number(account.gain, 1) for account in used)),
                numbers("per point", (_number(account.hours_per_point, decimals + 1) for account in used)),
            ]
            if any(account.gain is not None for account in accounts)
            else []
        ),
    ]


def cost_json(experiment: str, accounts: tuple[Account, ...]) -> str:
    """The accounts as scripts and MLflow get them."""
    import json

    from orchestrator.codec import encode

    rows = [{**encode(account), "total": account.total} for account in accounts]
    return json.dumps({"experiment": experiment, "accounts": rows}, indent=1, allow_nan=False)


def _decimals(total: float) -> int:
    """Digits after the point at which a total has about three figures."""
    return next((digits for digits, least in enumerate((100.0, 10.0, 1.0)) if total >= least), 4)


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
