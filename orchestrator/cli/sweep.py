"""`orch sweep`: run what is missing of an experiment, show it live, mirror it to MLflow, print its table."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.options import MLFLOW, RUNS, CacheFolder, DataFolder, StoreFolder, TrackingUri
from orchestrator.cli.terminal import print_json, reading

if TYPE_CHECKING:
    from orchestrator.cli.display import Display
    from orchestrator.config.blocks import Notify
    from orchestrator.plan.trial import Plan
    from orchestrator.status.rows import TrialRow
    from orchestrator.store.store import Store
    from orchestrator.sweep.driver import SweepOutcome, SweepSettings
    from orchestrator.sweep.notify import Deliver
    from orchestrator.trial.stop import StopSignal

MIRROR_PATIENCE_S = 60.0
"""How long the end of a sweep waits for MLflow; `orch sync` makes up for the rest."""
MIRROR_PATIENCE_STOPPED_S = 10.0
SchedulerName = Literal["ray_tune", "inline"]
_NUM_LOG_LINES = 12
_NUM_NAMED = 8
_NUM_FAILURES_SHOWN = 3


def sweep(
    file: Annotated[Path, typer.Argument(help="Experiment file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes, for example selection.ratio=[0.1,0.2] seeds=[0,1].")
    ] = None,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    cache_dir: CacheFolder = None,
    scheduler: Annotated[SchedulerName | None, typer.Option(help="Instead of the file's.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster to join: auto, ray://host:port.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Most trials at once.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON; progress on stderr.")] = False,
    tracking_uri: TrackingUri = MLFLOW,
    mlflow: Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Mirror the sweep into MLflow.")] = True,
) -> None:
    """Run what is missing of an experiment; run again, it finds nothing to do."""
    from orchestrator.config.spec import load_sweep
    from orchestrator.plan.make import make_plan
    from orchestrator.status.looks import SeedLooks
    from orchestrator.store.known_models import model_digest_of
    from orchestrator.store.store import Store

    spec = load_sweep(file, tuple(overrides or ()))
    runs = Store(store)
    plan = SeedLooks(runs).grown(make_plan(spec, model_digest=model_digest_of(runs, on_bytes=reading)))
    from orchestrator.cli.plan_fit import check_here
    from orchestrator.sweep.notify import outlets
    from orchestrator.trial.device import smallest_gpu

    choice = _Choice(
        scheduler=scheduler or spec.scheduling.scheduler,
        address=ray_address or spec.scheduling.address,
        max_concurrent=max_concurrent or spec.scheduling.max_concurrent,
        cache_folder=cache_dir or store / "models",
        data_folder=data_dir,
        tracking_uri=tracking_uri if mlflow else None,
        is_json=as_json,
        notify=spec.notify,
        outlets=outlets(spec, os.environ),
    )
    if choice.address is None:
        check_here(spec, plan, smallest_gpu(os.environ))
    if dry_run:
        _print_missing(plan, runs, choice)
        return
    outcome = _run(plan, runs, choice)
    _report(outcome, plan, runs, choice)
    raise typer.Exit(outcome.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What the command line and the experiment file chose together."""

    scheduler: SchedulerName
    address: str | None
    max_concurrent: int | None
    cache_folder: Path
    data_folder: Path | None
    tracking_uri: str | None
    """None: no mirror."""
    is_json: bool
    notify: Notify
    outlets: Mapping[str, Deliver]


def _run(plan: Plan, runs: Store, choice: _Choice) -> SweepOutcome:
    from orchestrator.cli.display import open_display
    from orchestrator.sweep.backends import Scheduler, open_scheduler
    from orchestrator.sweep.driver import run_sweep
    from orchestrator.trial.stop import StopSignal, stop_file, stop_on_signals

    def scheduler() -> Scheduler:
        return open_scheduler(choice.scheduler, address=choice.address)

    stop = StopSignal(stop_file(runs.root, plan.experiment))
    # Trials in this process may print; with --json, standard output is for the outcome alone.
    aside = contextlib.redirect_stdout(sys.stderr) if choice.is_json else contextlib.nullcontext()
    signals = stop_on_signals(stop, interrupt_when_forced=choice.scheduler == "inline")
    with aside, open_display(on_stderr=choice.is_json) as display, signals:
        try:
            return run_sweep(
                plan,
                runs,
                settings=_settings(choice),
                open_scheduler=scheduler,
                stop=stop,
                on_event=display.say,
                on_progress=display.progress,
                around=_beside(plan, runs, choice, display, stop),
            )
        except KeyboardInterrupt:
            typer.echo("killed; trials resume from their last checkpoint: run the same command again", err=True)
            raise typer.Exit(130) from None
        finally:
            stop.close()


def _settings(choice: _Choice) -> SweepSettings:
    from orchestrator.status.doctor import why_no_hub
    from orchestrator.store.redact import masked
    from orchestrator.sweep.driver import SweepSettings
    from orchestrator.sweep.gpus import count_gpus

    return SweepSettings(
        cache_folder=choice.cache_folder,
        data_folder=choice.data_folder,
        argv=masked(sys.argv),
        python_path=os.environ.get("PYTHONPATH", ""),
        max_running=choice.max_concurrent,
        num_gpus=count_gpus(os.environ) if choice.address is None else None,
        why_no_hub=lambda: why_no_hub(os.environ),
    )


@contextlib.contextmanager
def _beside(plan: Plan, runs: Store, choice: _Choice, display: Display, stop: StopSignal) -> Iterator[None]:
    """What goes on while trials run: the display, the mirror, the notifications."""
    from orchestrator.cli.display import follow, notifying
    from orchestrator.status.rows import SweepView

    view = SweepView(runs, plan.entries, data_folder=choice.data_folder, experiment=plan.experiment)
    notifications = notifying(choice.notify, choice.outlets, plan.experiment, display, view)
    mirrored = _mirrored(runs, plan.experiment, choice, display.say, stop)
    with notifications as display_and_news, follow(view, display_and_news, stop), mirrored:
        yield


@contextlib.contextmanager
def _mirrored(
    runs: Store, experiment: str, choice: _Choice, say: Callable[[str], None], stop: StopSignal | None = None
) -> Iterator[None]:
    if choice.tracking_uri is None:
        yield
        return
    from orchestrator.cli.sync import open_mirror

    mirror = open_mirror(runs, experiment, choice.tracking_uri)
    mirror.start()
    try:
        yield
    finally:
        say("sending the rest to MLflow")
        is_in_haste = stop is not None and stop.is_requested
        mirror.stop(MIRROR_PATIENCE_STOPPED_S if is_in_haste else MIRROR_PATIENCE_S)


def _report(outcome: SweepOutcome, plan: Plan, runs: Store, choice: _Choice) -> None:
    """Print how it ended: the failures, the table, and the commands that are useful next."""
    if outcome.handed_to is not None and not choice.is_json:
        typer.echo(f"{outcome.experiment}: the plan was handed to the driver that runs it, {outcome.handed_to}")
        typer.echo(f"  orch watch {outcome.experiment}")
        return
    if outcome.num_started == 0 and outcome.handed_to is None:
        _catch_up(outcome.experiment, runs, choice)
    if choice.is_json:
        _print_json(outcome, plan, runs)
        return
    for row in outcome.failed[:_NUM_FAILURES_SHOWN]:
        _print_failure(row, runs)
    if any(row.scores for row in outcome.rows):
        from orchestrator.cli.table import table

        table(outcome.experiment, format="text", output=None, store=runs.root)
    if outcome.num_started and (digests := _digests(plan, runs)):
        typer.echo(
            f"inputs, as {runs.root}/inputs holds them: " + ", ".join(f"{n} {d[:12]}" for n, d in digests.items())
        )
    typer.echo(_closing_line(outcome))
    for command in _next_commands(outcome, choice):
        typer.echo(f"  {command}")


def _catch_up(experiment: str, runs: Store, choice: _Choice) -> None:
    """Send MLflow what an earlier sweep could not, if anything; loads mlflow only then."""
    if choice.tracking_uri is None:
        return
    from orchestrator.cli.sync import open_mirror

    if not open_mirror(runs, experiment, choice.tracking_uri).is_synced():
        with _mirrored(runs, experiment, choice, lambda line: typer.echo(line, err=True)):
            pass


def _print_failure(row: TrialRow, runs: Store) -> None:
    record = runs.find(row.id)
    failure = record.failure if record is not None else None
    typer.secho(f"{row.id} failed: {row.failure}", fg="red", err=True)
    for line in (failure.log_tail if failure else ())[-_NUM_LOG_LINES:]:
        typer.echo(f"  | {line}", err=True)
    if failure is not None:
        from orchestrator.trial.retry import RETRY_RULES, classify

        name = classify(failure)
        typer.echo(f"  class: {name}; {RETRY_RULES[name].fix}", err=True)
    typer.echo(f"  log: orch logs {row.id}", err=True)


def _closing_line(outcome: SweepOutcome) -> str:
    from orchestrator.sweep.driver import summary_line

    line = f"{outcome.experiment}: {summary_line(outcome.rows)}"
    if outcome.num_started == 0:
        line += "; nothing to do"
    elif len(outcome.failed) + len(outcome.unfinished) > len(outcome.held):
        line += "; run the same command again to finish the rest"
    return "\n  ".join([line, *_ways_on(outcome.held)])


def _ways_on(held: Sequence[TrialRow]) -> list[str]:
    """A line for each state in which trials are held, with the command that releases them."""
    from orchestrator.status.state import UNDO

    lines = []
    for state, verb in UNDO.items():
        names = [row.id for row in held if row.state == state]
        if names:
            lines.append(f"{state}: orch ctl {verb} {' '.join(names[:_NUM_NAMED])}{' …' * (len(names) > _NUM_NAMED)}")
    return lines


def _next_commands(outcome: SweepOutcome, choice: _Choice) -> list[str]:
    name = outcome.experiment
    commands = [f"orch table {name} --format md", f"orch status {name}"]
    return [*commands, f"orch ui {name}"] if choice.tracking_uri is not None else commands


def _digests(plan: Plan, runs: Store) -> dict[str, str]:
    """Name of a set or model → the digest that this runs folder saw of it first."""
    from orchestrator.store.inputs import SeenInputs
    from orchestrator.trial.inputs import inputs_of

    found = [SeenInputs(runs.root).find(one.name) for one in inputs_of(plan.entries)]
    return {one.name: one.digest for one in found if one is not None}


def _print_json(outcome: SweepOutcome, plan: Plan, runs: Store) -> None:
    from orchestrator.status.rows import count_states

    payload = {
        "experiment": outcome.experiment,
        "exit_code": outcome.exit_code,
        "num_started": outcome.num_started,
        "was_stopped": outcome.was_stopped,
        "handed_to": outcome.handed_to,
        "counts": count_states(outcome.rows),
        "inputs": _digests(plan, runs),
        "trials": outcome.rows,
    }
    print_json(payload)


def _print_missing(plan: Plan, runs: Store, choice: _Choice) -> None:
    """What a sweep would run, in order, or what it would refuse."""
    from orchestrator.status.rows import SweepView
    from orchestrator.status.state import UNDO
    from orchestrator.sweep.driver import check_possible, unfinished_trials

    view = SweepView(runs, plan.entries, data_folder=choice.data_folder)
    missing = unfinished_trials(view)
    check_possible(missing, plan, runs, _settings(choice))
    if choice.is_json:
        payload = {"experiment": plan.experiment, "num_trials": len(plan.entries)}
        trials = [{"id": one.trial.id, "label": one.label} for one in missing]
        print_json({**payload, "would_run": trials})
        return
    for one in missing:
        typer.echo(f"{one.trial.id}  {one.label}")
    line = f"{plan.experiment}: {len(missing)} of {len(plan.entries)} trials would run"
    typer.echo("\n  ".join([line, *_ways_on([row for row in view.rows() if row.state in UNDO])]))
