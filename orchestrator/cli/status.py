"""`orch status`: where every trial stands, from the runs folder alone; works while a sweep runs, and on its ruins."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.status.rows import SweepView
    from orchestrator.store.store import Store

WATCH_INTERVAL_S = 2.0


def status(
    experiment: Annotated[str | None, typer.Argument(help="Name of an experiment; all of them without it.")] = None,
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
    data_dir: Annotated[Path | None, typer.Option(envvar="ORCH_DATA_DIR", help="Benchmark files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option(help="Refresh until all is done or Ctrl-C.")] = False,
) -> None:
    """Show where every trial of an experiment stands."""
    from orchestrator.store.store import Store

    runs = Store(store)
    names = runs.plans.experiments(experiment)
    if watch:
        _watch(runs, names, data_dir)
    elif as_json:
        _print_json(runs, names, data_dir)
    else:
        _print_tables(runs, names, data_dir)


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


def _watch(runs: Store, names: tuple[str, ...], data_folder: Path | None) -> None:
    from contextlib import suppress

    from orchestrator.cli.display import open_display
    from orchestrator.status.rows import SweepView

    trials = {entry.trial.id: entry for name in names for entry in runs.plans.read(name).entries}
    view = SweepView(runs, tuple(trials.values()), data_folder=data_folder)
    with suppress(KeyboardInterrupt), open_display() as display:
        while True:
            rows = view.rows()
            display.show(rows)
            if all(row.state == "done" for row in rows):
                break
            time.sleep(WATCH_INTERVAL_S)
    _print_tables(runs, names, data_folder)


def _view(runs: Store, name: str, data_folder: Path | None) -> SweepView:
    from orchestrator.status.rows import SweepView

    return SweepView(runs, runs.plans.read(name).entries, data_folder=data_folder)
