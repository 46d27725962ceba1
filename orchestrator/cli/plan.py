"""`orch plan`: what an experiment consists of, what of it is done or shared, and why; changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, DataFolder, StoreFolder
from orchestrator.cli.terminal import print_json, reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dashboards.columns import Column
    from orchestrator.cli.plan_cost import CostAsked, PlanCost
    from orchestrator.cli.plan_seeds import SeedsAhead
    from orchestrator.plan.trial import Plan, PlannedTrial
    from orchestrator.status.rows import TrialRow
    from orchestrator.store.store import Store
    from orchestrator.trial.inputs import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A planned trial, how it stands, and the other experiments of the runs folder that want it too."""

    planned: PlannedTrial
    row: TrialRow
    shared_with: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why it is in its state, and who shares it."""
        shared = f"shared with {', '.join(self.shared_with)}" if self.shared_with else ""
        return "; ".join(part for part in (self.row.why, shared) if part)


def plan(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE… [key=value …]",
            help="Experiment files, then changes to each, for example selection.ratio=[0.1,0.2] seeds=[0,1].",
        ),
    ] = None,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    limit_rows: Annotated[int, typer.Option(min=0, help="Most trials shown; 0 shows the summary only.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="All experiments of experiments/, shared trials once.")] = False,
    cluster: Annotated[str | None, typer.Option(help="Cost and schedule on a cluster, for example 8xH100x2.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Money for a GPU-hour; needs --cluster.")] = None,
    assume: Annotated[list[str] | None, typer.Option(help="Replace an assumption of the costs: name=number.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the trials of experiments: which are waiting, done or shared, and why; with --cluster, what they cost."""
    from orchestrator.cli.plan_seeds import seeds_ahead
    from orchestrator.config.spec import load_sweep
    from orchestrator.plan.make import make_plan
    from orchestrator.status.looks import SeedLooks
    from orchestrator.store.known_models import model_digest_of
    from orchestrator.store.store import Store
    from orchestrator.sweep.notify import outlets

    files, overrides = _files(words or [], every=every)
    asked = _asked(cluster, price=price, assume=assume or [])
    specs = [load_sweep(file, overrides) for file in files]
    for spec in specs:
        outlets(spec, os.environ)  # refused now as `orch sweep` would
    runs = Store(store)
    find = model_digest_of(runs, on_bytes=reading)
    plans = [SeedLooks(runs).grown(make_plan(spec, model_digest=find)) for spec in specs]
    cost = None if asked is None else asked.cost(specs, plans, runs, data_dir)
    if every or len(plans) > 1:
        from orchestrator.cli.plan_union import show_union

        show_union(plans, cost, as_json=as_json)
        return
    ahead = seeds_ahead(plans[0], None if cost is None else cost.gpu_hours)
    decisions, missing = _decide(plans[0], runs, data_dir), _missing(plans[0], runs, data_dir)
    if as_json:
        _print_json(plans[0], decisions, missing, (cost, ahead))
        return
    _print_table(plans[0], decisions[:limit_rows], cost)
    if hidden := len(decisions) - len(decisions[:limit_rows]):
        typer.echo(f"… and {hidden} more: --limit-rows {len(decisions)} shows all, --json too")
    typer.echo(_summary(plans[0], decisions))
    if ahead is not None:
        typer.echo(ahead.text())
    for line in _trusted(plans[0]):
        typer.secho(line, fg="yellow")
    if cost is not None:
        typer.echo(cost.text())
    if missing:
        typer.echo(f"not on this machine yet, and fetched by `orch sweep`: {', '.join(one.name for one in missing)}")
    typer.echo(f"  orch sweep {' '.join([str(files[0]), *map(_quoted, overrides)])}")


def _files(words: Sequence[str], *, every: bool) -> tuple[list[Path], tuple[str, ...]]:
    """Which words are experiment files or names of them, and which are changes."""
    from orchestrator.errors import PlanError

    files = [word for word in words if "=" not in word and not word.startswith("~")]
    overrides = tuple(word for word in words if word not in files)
    if not every and not files:
        raise PlanError(
            "no experiment file is given",
            where="orch plan",
            fix="name one, as in experiments/smoke.yaml, or use --all",
        )
    if not every:
        return [Path(file) for file in files], overrides
    folders = [Path(file) for file in files] or [_experiments()]
    found = [file for folder in folders for file in sorted(folder.glob("*.yaml"))]
    if not found:
        raise PlanError(
            "there are no experiment files", where=", ".join(map(str, folders)), fix="give the folder that has them"
        )
    return found, overrides


def _quoted(change: str) -> str:
    """A change as a shell takes it."""
    return f"'{change}'" if " " in change else change


def _experiments() -> Path:
    from orchestrator.config.packaged import NAME, PACKAGED

    here = Path(NAME)
    return here if here.is_dir() else PACKAGED


def _asked(cluster: str | None, *, price: float | None, assume: Sequence[str]) -> CostAsked | None:
    from orchestrator.errors import PlanError

    if cluster is None:
        if price is not None or assume:
            raise PlanError(
                "a price and assumptions say nothing without a cluster",
                where="--price, --assume",
                fix="add --cluster, for example --cluster 8xH100x2",
            )
        return None
    from orchestrator.cli.plan_cost import CostAsked
    from orchestrator.forecast.cluster import parse_cluster
    from orchestrator.sizing.assumptions import read_assumptions

    return CostAsked(cluster=parse_cluster(cluster), price=price, assumed=read_assumptions(assume))


def _decide(made: Plan, runs: Store, data_folder: Path | None) -> list[Decision]:
    """Compare the plan with the runs folder; a folder that does not exist yet holds nothing."""
    from orchestrator.status.rows import SweepView

    rows = SweepView(runs, made.entries, data_folder=data_folder).rows()
    others = _others(made.experiment, runs)
    return [
        Decision(planned=planned, row=row, shared_with=others.get(planned.trial.id, ()))
        for planned, row in zip(made.entries, rows, strict=True)
    ]


def _missing(made: Plan, runs: Store, data_folder: Path | None) -> tuple[Input, ...]:
    """The sets and models that a sweep would fetch first; ids are the same before and after."""
    from orchestrator.store.inputs import SeenInputs
    from orchestrator.trial.inputs import inputs_of, missing_inputs

    return missing_inputs(inputs_of(made.entries), SeenInputs(runs.root), data_folder=data_folder)


def _others(experiment: str, runs: Store) -> dict[str, tuple[str, ...]]:
    """Trial id → the other experiments of this runs folder that plan it."""
    names = [name for name in runs.plans.names() if name != experiment]
    wanted: dict[str, tuple[str, ...]] = {}
    for name in names:
        for trial_id in runs.plans.trial_ids(name):
            wanted[trial_id] = (*wanted.get(trial_id, ()), name)
    return wanted


def _print_table(made: Plan, decisions: Sequence[Decision], cost: PlanCost | None) -> None:
    from dashboards.columns import common_values
    from orchestrator.cli.display import STYLES
    from orchestrator.cli.terminal import above_columns, print_columns

    if not decisions:
        return
    common = common_values(entry.axes for entry in made.entries if entry.trial.kind == "train")
    colours = [STYLES[one.row.state] for one in decisions]
    print_columns(_columns(made, decisions, cost, common), above=above_columns(common), colours=colours)


def _columns(
    made: Plan, decisions: Sequence[Decision], cost: PlanCost | None, common: Mapping[str, object]
) -> list[Column]:
    from dashboards.columns import Column, short_names

    planned = [one.planned for one in decisions]
    axes = [axis for axis in made.axes if axis not in common]
    others = ("trial", "seed", "state", "reason")
    columns = [Column(header="trial", role="key", cells=tuple(one.trial.id for one in planned))]
    for axis, short in zip(axes, short_names(axes, others=others), strict=True):
        cells = tuple(str(one.axes.get(axis, "")) for one in planned)
        columns.append(Column(header=axis, short_header=short, role="name", cells=cells))
    seeds = tuple("base" if one.trial.seed is None else str(one.trial.seed) for one in planned)
    columns.append(Column(header="seed", role="name", cells=seeds))
    if cost is not None:
        hours, gpu_hours = zip(*(cost.cells(one) for one in planned), strict=True)
        columns.append(Column(header="hours", is_number=True, cells=hours))
        columns.append(Column(header="GPU-hours", is_number=True, cells=gpu_hours))
    columns.append(Column(header="state", cells=tuple(one.row.state for one in decisions)))
    columns.append(Column(header="reason", cells=tuple(one.reason for one in decisions)))
    return columns


def _summary(made: Plan, decisions: Sequence[Decision]) -> str:
    from orchestrator.status.rows import count_states

    parts = [f"{number} {state}" for state, number in count_states([one.row for one in decisions]).items()]
    shared = sum(bool(one.shared_with) for one in decisions)
    parts += [f"{shared} shared with other experiments"] if shared else []
    return f"{made.experiment}: {len(decisions)} trials: {', '.join(parts)}"


def _trusted(made: Plan) -> list[str]:
    """A line for each model whose folder may bring code along and run it."""
    models = {one.trial.model.path for one in made.entries if one.trial.model.trust_remote_code}
    return [f"runs code that comes with {path} (model.trust_remote_code)" for path in sorted(models)]


def _print_json(
    made: Plan,
    decisions: Sequence[Decision],
    missing: Sequence[Input],
    forecast: tuple[PlanCost | None, SeedsAhead | None],
) -> None:
    cost, ahead = forecast
    rows = [
        {
            "id": one.planned.trial.id,
            "kind": one.planned.trial.kind,
            "label": one.planned.label,
            "axes": one.planned.axes,
            "seed": one.planned.trial.seed,
            "state": one.row.state,
            "reason": one.reason,
            "shared_with": one.shared_with,
            "trust_remote_code": one.planned.trial.model.trust_remote_code,
            **({} if cost is None else {"cost": cost.trial_json(one.planned)}),
        }
        for one in decisions
    ]
    payload = {"experiment": made.experiment, "file": made.file, "digest": made.digest, "axes": made.axes}
    summary = {"num_trials": len(rows), "unfetched": [one.name for one in missing], "trials": rows}
    summary |= {} if cost is None else {"cost": cost.json()}
    summary |= {} if ahead is None else {"seeds": ahead.json()}
    print_json({**payload, **summary})
