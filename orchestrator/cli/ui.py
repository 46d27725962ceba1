"""`orch ui [EXPERIMENT]`: MLflow in the browser, the experiment selected."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import MLFLOW, TrackingUri


def ui(
    experiment: Annotated[str | None, typer.Argument(help="Experiment to show; all of them without it.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; the first free one from 5000 on without it.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Anybody who reaches it sees all runs.")
    ] = "127.0.0.1",
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address only.")] = False,
    tracking_uri: TrackingUri = MLFLOW,
) -> None:
    """Start MLflow's pages over the local database until Ctrl-C, or open those of a team's server."""
    import contextlib
    import signal
    import threading

    from orchestrator.errors import TrackingError
    from orchestrator.tracking.server import serve
    from orchestrator.tracking.uri import absolute_uri, sqlite_file

    if tracking_uri.startswith(("http://", "https://")):
        _show(tracking_uri.rstrip("/"), experiment, no_open=no_open)
        return
    database = sqlite_file(tracking_uri)
    if database is not None and not database.exists():
        raise TrackingError(
            "there is no MLflow database yet",
            where=str(database),
            fix="`orch sweep` and `orch sync EXPERIMENT` make it; or change to the folder that holds it",
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), serve(absolute_uri(tracking_uri), host=host, port=port) as url:
        _show(url, experiment, no_open=no_open)
        typer.echo("Ctrl-C ends it")
        threading.Event().wait()


def _show(url: str, experiment: str | None, *, no_open: bool) -> None:
    import sys
    import webbrowser

    from orchestrator.tracking.server import experiment_page
    from orchestrator.tracking.uri import shown_uri

    page = url if experiment is None else experiment_page(url, experiment)
    typer.echo(shown_uri(page))
    if not no_open and sys.stdout.isatty():
        webbrowser.open(page)
