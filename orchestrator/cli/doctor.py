"""`orch doctor`: what on this machine would stop a trial, and the fix of each."""

from __future__ import annotations

import typer

from orchestrator.cli.options import RUNS, AsJson, CacheFolder, DataFolder, StoreFolder


def doctor(
    data_dir: DataFolder = None,
    store: StoreFolder = RUNS,
    cache_dir: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check versions, devices, room and data; exit 2 when something would stop every trial."""
    from orchestrator.cli.terminal import print_json
    from orchestrator.status.doctor import examine

    findings = examine(data_folder=data_dir, cache_folder=cache_dir or store / "models", runs_folder=store)
    if as_json:
        print_json(findings)
    else:
        colours = {"ok": "green", "warning": "yellow", "failure": "red"}
        for finding in findings:
            state = typer.style(f"{finding.state:<8}", fg=colours[finding.state])
            typer.echo(f"{state} {finding.name:<24} {finding.what}")
            if finding.fix:
                typer.echo(f"{'':<33} fix: {finding.fix}")
    if any(finding.state == "failure" for finding in findings):
        raise typer.Exit(2)
