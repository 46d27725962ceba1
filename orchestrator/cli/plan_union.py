"""What `orch plan --all`, or several files, print: experiments side by side, and what sharing saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.terminal import print_json

if TYPE_CHECKING:
    from orchestrator.cli.plan_cost import PlanCost
    from orchestrator.plan.trial import Plan


def show_union(plans: Sequence[Plan], cost: PlanCost | None, *, as_json: bool) -> None:
    """Print one line an experiment and the sum, text or JSON."""
    places = _places()
    rows = _rows(plans, cost, places)
    num_all, num_once = sum(len(plan.entries) for plan in plans), len(_ids(plans))
    if as_json:
        payload: dict[str, Any] = {"num_trials": num_once, "num_trials_before_sharing": num_all, "experiments": rows}
        payload |= {} if cost is None else {"cost": cost.json()}
        print_json(payload)
        return
    _print_rows(rows, with_cost=cost is not None)
    typer.echo(f"{len(plans)} experiments: {num_all} trials, {num_once} with shared ones counted once")
    if cost is None:
        typer.echo("  --cluster 8xH100 adds hours, GPU-hours and a schedule")
        return
    from orchestrator.cli.plan_cost import hours
    from orchestrator.cli.plan_fit import print_fits

    before, after = cost.bill.before_sharing.seconds, cost.bill.after_sharing.seconds
    typer.echo(f"GPU-hours: {hours(before)} before sharing, {hours(after)} after")
    typer.echo(cost.text(with_fits=False))
    print_fits(cost.fits)


def _rows(plans: Sequence[Plan], cost: PlanCost | None, places: Mapping[str, str]) -> list[dict[str, Any]]:
    seen: set[str] = set()
    rows: list[dict[str, Any]] = []
    for index, plan in enumerate(plans):
        ids = [planned.trial.id for planned in plan.entries]
        row: dict[str, Any] = {
            "experiment": plan.experiment,
            "published": places.get(plan.experiment, ""),
            "num_trials": len(ids),
            "num_shared": len(seen & set(ids)),
        }
        seen |= set(ids)
        if cost is not None:
            line = cost.bill.lines[index]
            row |= {"gpu_hours_alone": line.alone.seconds / 3600, "gpu_hours_added": line.added.seconds / 3600}
        rows.append(row)
    return rows


def _ids(plans: Sequence[Plan]) -> set[str]:
    return {planned.trial.id for plan in plans for planned in plan.entries}


def _places() -> dict[str, str]:
    """Experiment → the published tables and figures that it runs."""
    from dashboards.papers.load import load_papers

    places: dict[str, list[str]] = {}
    for published in load_papers().values():
        for name in published.experiments:
            places.setdefault(name, []).append(published.place())
    return {name: ", ".join(found) for name, found in places.items()}


def _print_rows(rows: Sequence[dict[str, Any]], *, with_cost: bool) -> None:
    from dashboards.columns import Column
    from orchestrator.cli.plan_cost import amount
    from orchestrator.cli.terminal import print_columns

    columns = [
        Column(header="experiment", role="key", cells=tuple(row["experiment"] for row in rows)),
        Column(header="published", role="name", cells=tuple(row["published"] for row in rows)),
    ]
    numbers = {"trials": "num_trials", "shared": "num_shared"}
    spent = {"GPU-hours alone": "gpu_hours_alone", "added": "gpu_hours_added"} if with_cost else {}
    for header, key in {**numbers, **spent}.items():
        cells = tuple(amount(row[key]) if key in spent.values() else str(row[key]) for row in rows)
        columns.append(Column(header=header, is_number=True, cells=cells))
    print_columns(columns)
