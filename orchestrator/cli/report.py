"""`orch report EXPERIMENT…`: results as a folder of pages that anybody can open without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, CacheFolder, DataFolder, StoreFolder
from orchestrator.cli.terminal import print_json

if TYPE_CHECKING:
    from orchestrator.store.store import Store


def report(
    experiments: Annotated[list[str], typer.Argument(help="Names of experiments that were swept.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write; an earlier report there is replaced.")
    ] = Path("report"),
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="First run `orch diagnose` on a trial of every arm that lacks it.")
    ] = False,
    cache_dir: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write tables, figures, trial pages, significance, cost, provenance and audit as static pages."""
    from dashboards.report.site import Request, write_report
    from orchestrator.store.store import Store

    if diagnose:
        _diagnose(Store(store), experiments, data_folder=data_dir, cache_folder=cache_dir or store / "models")
    request = Request(experiments=tuple(dict.fromkeys(experiments)), folder=out.absolute(), data_folder=data_dir)
    index = write_report(Store(store), request, on_progress=lambda line: typer.echo(line, err=True))
    if as_json:
        print_json({"index": index, "experiments": request.experiments})
        return
    typer.echo(f"{out / 'index.html'}\n\nnext: open it in a browser, or copy the folder anywhere", nl=True)


def _diagnose(store: Store, experiments: list[str], *, data_folder: Path | None, cache_folder: Path) -> None:
    """Look at the tokens of one trial an arm; a trial that several experiments share is looked at once."""
    from dashboards.figures.swept import read_swept
    from orchestrator.cli.diagnose import diagnose_trial

    for experiment in experiments:
        for trial_id in read_swept(store, experiment).undiagnosed():
            typer.echo(f"diagnosing {trial_id}", err=True)
            diagnose_trial(store, trial_id, data_folder=data_folder, cache_folder=cache_folder)
