"""`orch watch`: a sweep on one screen, live, from any terminal that sees the runs folder."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli.options import RUNS, DataFolder, StoreFolder


def watch(
    experiment: Annotated[str | None, typer.Argument(help="Name of an experiment; all of them without it.")] = None,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = 1.0,
) -> None:
    """Watch a sweep: trials, curves, log; keys to pause, resume, cancel, run again."""
    from orchestrator.errors import StoreError
    from orchestrator.store.store import Store

    runs = Store(store)
    names = runs.plans.experiments(experiment)
    trials = tuple({one.trial.id: one for name in names for one in runs.plans.read(name).entries}.values())
    if not (sys.stdin.isatty() and sys.stderr.isatty()):  # textual draws on standard error
        raise StoreError(
            "orch watch needs a terminal",
            where="standard input and error",
            fix=f"`orch status {names[0]}` prints lines, with --json for scripts",
        )
    from orchestrator.cli.watch_app import WatchApp
    from orchestrator.status.curves import SweepWatch
    from orchestrator.status.rows import SweepView
    from orchestrator.store.redact import now
    from orchestrator.store.requests import Requests

    view = SweepView(runs, trials, data_folder=data_dir, experiment=names[0] if len(names) == 1 else None)
    WatchApp(
        names,
        runs,
        watch=SweepWatch(runs, view),
        requests=Requests(runs.root, now=now),
        interval_s=interval,
    ).run()
