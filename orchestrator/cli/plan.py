"""`orch plan`: what an experiment consists of, what of it is done or shared, and why; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.plan import Decision, Plan
    from orchestrator.record import RunRecord
    from orchestrator.store import Store
    from orchestrator.trial import PlannedTrial

STYLES = {"done": "green", "running": "cyan", "failed": "red", "partial": "magenta", "new": "bright_black"}
_WIDTH_OF_FILES = 240
"""Columns of the table where it goes to a file or a pipe: wide enough to keep a trial on one line."""


def plan(
    file: Annotated[Path, typer.Argument(help="Experiment file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes, for example selection.ratio=[0.1,0.2] seeds=[0,1].")
    ] = None,
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
    data_dir: Annotated[Path | None, typer.Option(envvar="ORCH_DATA_DIR", help="Benchmark files.")] = None,
    limit_rows: Annotated[int, typer.Option(min=0, help="Most trials shown; 0 shows the summary only.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print every trial as JSON.")] = False,
) -> None:
    """List the trials of an experiment: which are new, done or shared, and why."""
    from orchestrator.plan import make_plan, stand_in_digest, unfetched
    from orchestrator.spec import load_sweep
    from orchestrator.store import Store

    spec = load_sweep(file, tuple(overrides or ()))
    missing = unfetched(spec, data_folder=data_dir)
    made = make_plan(spec, data_folder=data_dir, data_digest=stand_in_digest(missing))
    decisions = _decide(made, Store(store), data_dir)
    if as_json:
        _print_json(made, decisions, missing)
        return
    _print_table(made, decisions[:limit_rows])
    if hidden := len(decisions) - len(decisions[:limit_rows]):
        typer.echo(f"… and {hidden} more: --limit-rows {len(decisions)} shows all, --json too")
    typer.echo(_summary(made, decisions))
    if missing:
        typer.echo(f"not on this machine yet: {', '.join(missing)}; trial ids may change when fetched")
        for name in missing:
            typer.echo(f"  orch data fetch {name}")
    typer.echo(f"  orch sweep {' '.join([str(file), *(overrides or ())])}")


def _decide(made: Plan, runs: Store, data_folder: Path | None) -> list[Decision]:
    """Compare the plan with the runs folder; a folder that does not exist yet holds nothing."""
    from orchestrator.errors import DataError
    from orchestrator.plan import reconcile
    from orchestrator.wanted import is_complete

    def has_everything(record: RunRecord, planned: PlannedTrial) -> bool:
        try:
            return is_complete(record, planned, data_folder=data_folder)
        except DataError:  # a benchmark that is not here cannot have been scored with what is declared now
            return False

    ids = [entry.trial.id for entry in made.entries]
    known = {path.name for path in runs.root.iterdir()} if runs.root.is_dir() else set()
    records = {trial_id: record for trial_id in ids if trial_id in known and (record := runs.find(trial_id))}
    return reconcile(
        made,
        records,
        is_complete=has_everything,
        is_running=runs.is_locked,
        others=_others(made.experiment, runs),
    )


def _others(experiment: str, runs: Store) -> dict[str, tuple[str, ...]]:
    """Trial id → the other experiments of this runs folder that plan it."""
    names = [name for name in runs.list_sweeps() if name != experiment]
    wanted: dict[str, tuple[str, ...]] = {}
    for name in names:
        for trial_id in runs.planned_ids(name):
            wanted[trial_id] = (*wanted.get(trial_id, ()), name)
    return wanted


def _print_table(made: Plan, decisions: Sequence[Decision]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not decisions:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_FILES)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", *made.axes, "seed", "state", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name != "reason")
    for one in decisions:
        trial = one.planned.trial
        cells = [_cell(one, axis) for axis in made.axes]
        seed = "base" if trial.seed is None else str(trial.seed)
        table.add_row(trial.id, *cells, seed, Text(one.state, style=STYLES[one.state]), one.reason)
    console.print(table)


def _cell(one: Decision, axis: str) -> str:
    value = one.planned.axes.get(axis)
    return "" if value is None else str(value)


def _summary(made: Plan, decisions: Sequence[Decision]) -> str:
    from collections import Counter

    counts = Counter(one.state for one in decisions)
    parts = [f"{counts[state]} {state}" for state in ("new", "partial", "failed", "running", "done") if counts[state]]
    shared = sum(bool(one.shared_with) for one in decisions)
    parts += [f"{shared} shared with other experiments"] if shared else []
    return f"{made.experiment}: {len(decisions)} trials: {', '.join(parts)}"


def _print_json(made: Plan, decisions: Sequence[Decision], missing: Sequence[str]) -> None:
    import json

    rows = [
        {
            "id": one.planned.trial.id,
            "kind": one.planned.trial.kind,
            "label": one.planned.label,
            "axes": one.planned.axes,
            "seed": one.planned.trial.seed,
            "state": one.state,
            "reason": one.reason,
            "shared_with": one.shared_with,
        }
        for one in decisions
    ]
    payload = {"experiment": made.experiment, "file": made.file, "digest": made.digest, "axes": made.axes}
    summary = {"num_trials": len(rows), "unfetched": list(missing), "trials": rows}
    typer.echo(json.dumps({**payload, **summary}, indent=1, allow_nan=False))
