"""`orch sync EXPERIMENT`: send MLflow what it lacks, for instance after it was down during a sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def sync(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment that was swept.")],
    tracking_uri: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="Where MLflow keeps its runs.")
    ] = "sqlite:///mlflow.db",
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Mirror an experiment into MLflow; doing it again adds nothing."""
    from dataclasses import asdict

    from orchestrator.cli.mirror import open_mirror
    from orchestrator.store import Store
    from orchestrator.tracking.uri import shown_uri

    mirror = open_mirror(Store(store), experiment, tracking_uri)
    if mirror.is_synced() and not as_json:
        typer.echo(f"{experiment}: nothing to do, {shown_uri(mirror.tracking_uri)} has it all")
        return
    report = mirror.sync()
    if as_json:
        typer.echo(json.dumps(asdict(report)))
        return
    typer.echo(
        f"{experiment}: {report.num_runs_created} runs created, {report.num_points} metric points and "
        f"{report.num_artifacts} artifacts sent in {report.elapsed_s:.1f} s; `orch ui {experiment}` shows them"
    )
