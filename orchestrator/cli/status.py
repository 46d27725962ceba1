"""`orch status`: where every trial stands, from the runs folder alone; works while a sweep runs, and on its ruins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.status.rows import SweepView
    from orchestrator.store.store import Store


def status(
    experiment: Annotated[str | None, typer.Argument(help="Name of an experiment; all of them without it.")] = None,
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
    data_dir: Annotated[Path | None, typer.Option(envvar="ORCH_DATA_DIR", help="Benchmark files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
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
    import json

    from orchestrator.codec import encode
    from orchestrator.status.rows import count_states

    experiments = []
    for name in names:
        rows = _view(runs, name, data_folder).rows()
        experiments.append({"experiment": name, "counts": count_states(rows), "trials": encode(rows)})
    typer.echo(json.dumps({"store": str(runs.root), "experiments": experiments}, indent=1, allow_nan=False))


def _view(runs: Store, name: str, data_folder: Path | None) -> SweepView:
    from orchestrator.status.rows import SweepView

    return SweepView(runs, runs.plans.read(name).entries, data_folder=data_folder)
