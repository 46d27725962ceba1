"""`orch status`: where every trial stands, from the runs folder alone; works while a sweep runs, and on its ruins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, DataFolder, StoreFolder

if TYPE_CHECKING:
    from orchestrator.status.rows import SweepView
    from orchestrator.store.store import Store


def status(
    experiment: Annotated[str | None, typer.Argument(help="Name of an experiment; all of them without it.")] = None,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show where every trial of an experiment stands."""
    from orchestrator.store.store import Store

    runs = Store(store)
    names = runs.plans.experiments(experiment)
    show = _print_json if as_json else _print_tables
    show(runs, names, data_dir)


def _print_tables(runs: Store, names: tuple[str, ...], data_folder: Path | None) -> None:
    from orchestrator.cli.display import STYLES, table_columns
    from orchestrator.cli.terminal import above_columns, print_columns
    from orchestrator.sweep.driver import summary_line

    for name in names:
        rows = _view(runs, name, data_folder).rows()
        if len(names) == 1:
            columns, common = table_columns(rows)
            print_columns(columns, above=above_columns(common), colours=[STYLES[row.state] for row in rows])
        typer.echo(f"{name}: {summary_line(rows)}")
    typer.echo("  orch status EXPERIMENT" if len(names) > 1 else f"  orch table {names[0]}")


def _print_json(runs: Store, names: tuple[str, ...], data_folder: Path | None) -> None:
    from orchestrator.cli.terminal import print_json
    from orchestrator.status.rows import count_states

    experiments = []
    for name in names:
        rows = _view(runs, name, data_folder).rows()
        experiments.append({"experiment": name, "counts": count_states(rows), "trials": rows})
    print_json({"store": runs.root, "experiments": experiments})


def _view(runs: Store, name: str, data_folder: Path | None) -> SweepView:
    from orchestrator.status.rows import SweepView

    return SweepView(runs, runs.plans.read(name).entries, data_folder=data_folder)
