"""`orch sync EXPERIMENT`: send MLflow what it lacks, for instance after it was down during a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import MLFLOW, RUNS, AsJson, StoreFolder, TrackingUri
from orchestrator.cli.terminal import print_json

if TYPE_CHECKING:
    from orchestrator.store.store import Store
    from orchestrator.tracking.mirror import Mirror


def sync(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment that was swept.")],
    tracking_uri: TrackingUri = MLFLOW,
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Mirror an experiment into MLflow; doing it again adds nothing."""
    from orchestrator.store.store import Store
    from orchestrator.tracking.uri import shown_uri

    mirror = open_mirror(Store(store), experiment, tracking_uri)
    if mirror.is_synced() and not as_json:
        typer.echo(f"{experiment}: nothing to do, {shown_uri(mirror.tracking_uri)} has it all")
        return
    report = mirror.sync()
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"{experiment}: {report.num_runs_created} runs created, {report.num_points} metric points and "
        f"{report.num_artifacts} artifacts sent in {report.elapsed_s:.1f} s; `orch ui {experiment}` shows them"
    )


def open_mirror(store: Store, experiment: str, tracking_uri: str) -> Mirror:
    """The mirror of an experiment, with its table; imports neither mlflow nor pandas by itself."""
    from orchestrator.tracking.mirror import Mirror

    return Mirror(store, experiment, tracking_uri, tables=partial(sweep_files, store, experiment))


def sweep_files(store: Store, experiment: str) -> Mapping[str, str]:
    """What MLflow keeps of a sweep as a whole: its table in every format, beside the paper's, and its costs."""
    from dashboards.frame import frame
    from dashboards.papers.comparison_table import compare_with_paper, published_of
    from dashboards.papers.render import compared_files
    from dashboards.render import files
    from dashboards.table import table
    from orchestrator.cli.cost import cost_json
    from orchestrator.status.accounting import accounts_by_arm

    plan = store.plans.read(experiment)
    beside_paper = {}
    if published_of(plan) is not None:
        beside_paper = compared_files(compare_with_paper(store, experiment))
    costs = {"cost.json": cost_json(experiment, accounts_by_arm(plan.entries, store))}
    return {**files(table(frame(store, experiment))), **beside_paper, **costs}
