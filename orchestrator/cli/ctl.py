"""`orch ctl`: requests to trials and sweeps, from any terminal that sees the runs folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, StoreFolder

if TYPE_CHECKING:
    from orchestrator.store.requests import Requests
    from orchestrator.store.store import Store
    from orchestrator.sweep.control import Answer, Verb

ctl = typer.Typer(
    help="Pause, resume, cancel, run again and prefer trials, and drain sweeps, while they run or not.",
    no_args_is_help=True,
)
Trials = Annotated[list[str] | None, typer.Argument(help="Trial ids, or beginnings of them.", metavar="TRIAL…")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", help="All trials that have this, as in selection=ets; several must all fit."),
]
SweepOption = Annotated[str | None, typer.Option("--sweep", help="Only trials of this experiment.")]


def _verb(verb: Verb, text: str) -> None:
    """Add a command that asks one thing of the trials it names."""

    def command(
        trials: Trials = None,
        where: WhereOption = None,
        sweep: SweepOption = None,
        store: StoreFolder = RUNS,
        as_json: AsJson = False,
    ) -> None:
        _ask(verb, trials, where, sweep, store, as_json=as_json)

    ctl.command(verb, help=text)(command)


_verb("pause", "Let trials write their checkpoints and stop; they wait for `resume`.")
_verb("resume", "Let paused trials go on from their last checkpoints.")
_verb("cancel", "Stop trials for good: only `requeue` starts them again.")
_verb("requeue", "Run trials again now: holds are lifted, failures so far and their retries forgotten.")


@ctl.command()
def priority(
    value: Annotated[int, typer.Argument(help="Higher starts first; 0 is what trials have.")],
    trials: Trials = None,
    where: WhereOption = None,
    sweep: SweepOption = None,
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Let waiting trials start before those of lower priority, whatever the experiment's file says."""
    _ask("priority", trials, where, sweep, store, as_json=as_json, value=value)


@ctl.command()
def drain(
    sweep: SweepOption = None,
    undo: Annotated[bool, typer.Option("--undo", help="Start new trials again.")] = False,
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Let sweeps finish what runs, start nothing new, and end."""
    from orchestrator.cli.terminal import print_json
    from orchestrator.store.store import Store

    runs = Store(store)
    names = (sweep,) if sweep is not None else _running(runs)
    for name in names:
        runs.plans.trial_ids(name)  # refuses what is no experiment
    changed = {name: _drain(name, _orders(runs), undo=undo) for name in names}
    if as_json:
        print_json({"verb": "drain", "undo": undo, "experiments": changed})
        return
    for name, is_changed in changed.items():
        done = "starts trials again" if undo else "finishes what runs, starts nothing new, and ends"
        typer.echo(f"{name} {done if is_changed else 'was not draining'}")
    typer.echo("  orch status " + (names[0] if len(names) == 1 else ""))


def _running(runs: Store) -> tuple[str, ...]:
    """Experiments that a driver is running."""
    from orchestrator.errors import StoreError
    from orchestrator.status.driver import live_drivers

    names = tuple(report.experiment for report in live_drivers(runs.root))
    if not names:
        raise StoreError("no sweep is running", where=str(runs.root), fix="name an experiment with --sweep")
    return names


def _drain(name: str, requests: Requests, *, undo: bool) -> bool:
    if undo:
        return requests.undo_drain(name)
    requests.drain(name)
    return True


def _ask(
    verb: Verb,
    trials: list[str] | None,
    where: list[str] | None,
    sweep: str | None,
    store: Path,
    *,
    as_json: bool,
    value: int = 0,
) -> None:
    from orchestrator.cli.terminal import print_json
    from orchestrator.store.store import Store
    from orchestrator.sweep.control import ask, choose, read_where

    runs = Store(store)
    chosen = choose(runs, names=trials or (), where=read_where(where or ()), experiment=sweep)
    answers = ask(verb, chosen, runs, _orders(runs), priority=value)
    if as_json:
        print_json({"verb": verb, "trials": answers})
        return
    for answer in answers:
        typer.echo(f"{answer.id}  {answer.label}: {answer.what}")
    typer.echo(f"  {_next(answers, runs)}")


def _next(answers: tuple[Answer, ...], runs: Store) -> str:
    from orchestrator.status.driver import live_drivers

    if live_drivers(runs.root) or not any(answer.is_changed for answer in answers):
        return "orch status"
    return "no sweep is running: the next `orch sweep FILE` follows this"


def _orders(runs: Store) -> Requests:
    from orchestrator.store.redact import now
    from orchestrator.store.requests import Requests

    return Requests(runs.root, now=now)
