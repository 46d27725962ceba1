"""`orch table EXPERIMENT`: the results of an experiment, from the store alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eval.graders.api import GraderName
from orchestrator.cli.options import RUNS, StoreFolder

if TYPE_CHECKING:
    from orchestrator.store.store import Store

Format = Literal["text", "md", "csv", "latex", "html", "json"]
FILE_WIDTH = 160
"""Of plain text in a file or a pipe."""


def table(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment that was swept.")],
    format: Annotated[  # noqa: A002  # the name of the option
        Format, typer.Option(help="How to print it.")
    ] = "text",
    published: Annotated[
        bool, typer.Option(help="Beside the published table that the experiment names, with its claims.")
    ] = False,
    grader: Annotated[
        GraderName, typer.Option(help="Whose verdicts are averaged: ours, or those of `orch regrade --grader …`.")
    ] = "ours",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead.")] = None,
    store: StoreFolder = RUNS,
) -> None:
    """Print avg@K ± SE of every arm, with differences from base and from the dense arm."""
    from orchestrator.cli.terminal import terminal_width
    from orchestrator.store.files import write_atomically
    from orchestrator.store.store import Store

    printed = _published if published else _own
    if output is None:
        width = terminal_width(elsewhere=FILE_WIDTH)
        typer.echo(printed(Store(store), experiment, format, width=width, grader=grader), nl=False)
        if format == "text" and not published and "published" in Store(store).plans.read(experiment).config:
            typer.echo(f"  orch table {experiment} --published    # beside the paper")
        return
    text = printed(Store(store), experiment, format, width=FILE_WIDTH, grader=grader)
    write_atomically(output.absolute(), text.encode())
    typer.echo(output)


def _own(
    store: Store,
    experiment: str,
    format: Format,  # noqa: A002  # the name of the option
    *,
    width: int,
    grader: GraderName,
) -> str:
    from dashboards.drift import with_drift
    from dashboards.frame import frame
    from dashboards.render import render
    from dashboards.seed_looks import with_looks
    from dashboards.table import table as make_table

    plan = store.plans.read(experiment)
    own = with_looks(with_drift(make_table(frame(store, experiment, grader)), plan), plan, store)
    return render(own, format, width=width)


def _published(
    store: Store,
    experiment: str,
    format: Format,  # noqa: A002  # as above
    *,
    width: int,
    grader: GraderName,
) -> str:
    from dashboards.papers.comparison_table import compare_with_paper
    from dashboards.papers.render import render_compared

    return render_compared(compare_with_paper(store, experiment, grader), format, width=width)
