"""`orch export SWEEP FILE` and `orch import FILE`: an experiment as one archive, every file of it hashed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, StoreFolder
from orchestrator.cli.terminal import print_json


def export(
    sweep: Annotated[str, typer.Argument(help="Name of an experiment that was swept.")],
    file: Annotated[Path, typer.Argument(help="Archive to write: NAME.tar.gz, or .tar without compression.")],
    with_models: Annotated[bool, typer.Option("--with-models", help="Also the trained policies.")] = False,
    with_checkpoints: Annotated[
        bool, typer.Option("--with-checkpoints", help="Also the policies and all resumable checkpoints.")
    ] = False,
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Pack an experiment: plan, records, logs, metrics, samples, scores, and a manifest of sha256."""
    from orchestrator.archive.exchange import export as pack
    from orchestrator.cli.gc import size
    from orchestrator.store.store import Store

    manifest = pack(
        Store(store), sweep, file, policies="all" if with_checkpoints else "final" if with_models else "none"
    )
    if as_json:
        report = {"file": str(file), "experiment": sweep, "num_files": len(manifest.files)}
        print_json({**report, "num_bytes": manifest.num_bytes, "policies": manifest.policies})
        return
    typer.echo(f"{file}: {len(manifest.files)} files, {size(manifest.num_bytes)}, packed {size(file.stat().st_size)}")
    typer.echo(f"  orch verify {file}\n  orch import {file} --store ELSEWHERE")


def import_(
    file: Annotated[Path, typer.Argument(help="An archive of `orch export`.", exists=True, dir_okay=False)],
    trust: Annotated[
        bool, typer.Option("--trust", help="Also take pickles and modules: its maker can run code.")
    ] = False,
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Unpack an archive into a runs folder, after every byte of it was checked; nothing there is replaced."""
    from orchestrator.archive.exchange import import_archive
    from orchestrator.store.store import Store

    manifest, num_new = import_archive(file, Store(store), is_trusted=trust)
    if as_json:
        report = {"experiment": manifest.experiment, "num_files": len(manifest.files), "num_new": num_new}
        print_json(report)
        return
    typer.echo(f"{manifest.experiment}: {num_new} files are new, {len(manifest.files) - num_new} were there")
    typer.echo(
        f"  orch verify {manifest.experiment} --store {store}\n  orch table {manifest.experiment} --store {store}"
    )
