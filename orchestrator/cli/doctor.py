"""`orch doctor`: what on this machine would stop a trial, and the fix of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", envvar="ORCH_DATA_DIR", help="Folder of benchmark files.")
    ] = None,
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
    cache_dir: Annotated[
        Path | None, typer.Option(envvar="ORCH_CACHE_DIR", help="Built models; STORE/models without it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check versions, devices, room and data; exit 2 when something would stop every trial."""
    import json
    from dataclasses import asdict

    from orchestrator.status.doctor import examine

    findings = examine(data_folder=data_dir, cache_folder=cache_dir or store / "models", runs_folder=store)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        colours = {"ok": "green", "warning": "yellow", "failure": "red"}
        for finding in findings:
            state = typer.style(f"{finding.state:<8}", fg=colours[finding.state])
            typer.echo(f"{state} {finding.name:<24} {finding.what}")
            if finding.fix:
                typer.echo(f"{'':<33} fix: {finding.fix}")
    if any(finding.state == "failure" for finding in findings):
        raise typer.Exit(2)
