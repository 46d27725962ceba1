"""`orch experiments`: what comes with orch; `orch init`: a copy of it to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.options import AsJson
from orchestrator.cli.terminal import print_json


def experiments(as_json: AsJson = False) -> None:
    """List the experiments and groups that come with orch, and those of ./experiments before them."""
    from orchestrator.config.packaged import NAME, PACKAGED, choices, described

    own = Path(NAME)
    folders = [PACKAGED] if not own.is_dir() or own.resolve() == PACKAGED else [own, PACKAGED]
    if as_json:
        print_json([_payload(folder) for folder in folders])
        return
    for folder in folders:
        typer.echo(f"{folder}:")
        found = described(folder)
        width = max((len(one.name) for one in found), default=0)
        for one in found:
            typer.echo(f"  {one.name:<{width}}  {one.title}")
        for group, names in choices(folder).items():
            typer.echo(f"  {group + '/':<{width}}  {', '.join(names)}")
    typer.echo("  orch plan NAME says what one consists of; orch init FOLDER copies them to be changed")


def init(
    folder: Annotated[Path, typer.Argument(help="New folder for the copies.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT]…", help="Which experiments; all without any.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy experiments and their groups into a folder of your own, to be changed; FOLDER/first.yaml explains itself."""
    from orchestrator.config.packaged import copy_experiments

    files = copy_experiments(folder, names or [])
    if as_json:
        print_json({"folder": str(folder), "experiments": files})
        return
    first = next((file for file in files if file.stem == "first"), files[0])
    typer.echo(f"{folder}: {len(files)} experiments and their groups; files there win over those that come with orch")
    typer.echo(f"  orch plan {first}")
    typer.echo(f"  orch sweep {first}")


def _payload(folder: Path) -> dict[str, Any]:
    from orchestrator.config.packaged import choices, described

    return {"folder": folder, "experiments": described(folder), "groups": choices(folder)}
