"""`orch table EXPERIMENT`: the results of an experiment, from the store alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer


def table(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment that was swept.")],
    format: Annotated[  # noqa: A002  # the name of the option
        Literal["text", "md", "csv", "latex", "html", "json"], typer.Option(help="How to print it.")
    ] = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead.")] = None,
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
) -> None:
    """Print avg@K ± SE of every arm, with differences from base and from the dense arm."""
    from dashboards.frame import frame
    from dashboards.render import render
    from dashboards.table import table as make_table
    from orchestrator.store import Store, write_atomically

    shown = make_table(frame(Store(store), experiment))
    if output is None:
        width = max(_terminal_width(), 100)
        typer.echo(render(shown, format, width=width), nl=False)
        return
    write_atomically(output.absolute(), render(shown, format).encode())
    typer.echo(output)


def _terminal_width() -> int:
    """Columns of the terminal; plenty where there is none."""
    return shutil.get_terminal_size(fallback=(160, 40)).columns
