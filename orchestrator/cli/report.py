"""`orch report EXPERIMENT…`: results as a folder of pages that anybody can open without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    experiments: Annotated[list[str], typer.Argument(help="Names of experiments that were swept.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write; an earlier report there is replaced.")
    ] = Path("report"),
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
    data_dir: Annotated[Path | None, typer.Option(envvar="ORCH_DATA_DIR", help="Folder of benchmark files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write tables, figures, trial pages, significance, cost, provenance and audit as static pages."""
    from dashboards.report.site import Request, write_report
    from orchestrator.store import Store

    request = Request(experiments=tuple(dict.fromkeys(experiments)), folder=out.absolute(), data_folder=data_dir)
    index = write_report(Store(store), request, on_progress=lambda line: typer.echo(line, err=True))
    if as_json:
        import json

        typer.echo(json.dumps({"index": str(index), "experiments": list(request.experiments)}))
        return
    typer.echo(f"{out / 'index.html'}\n\nnext: open it in a browser, or copy the folder anywhere", nl=True)
