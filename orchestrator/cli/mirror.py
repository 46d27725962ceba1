"""How the commands open a mirror: the one place where the table of `dashboards` meets the runs of `tracking`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.store import Store
    from orchestrator.tracking.mirror import Mirror


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
    from orchestrator.accounting import accounts_by_arm
    from orchestrator.cli.cost import cost_json

    plan = store.plans.read(experiment)
    beside_paper = {}
    if published_of(plan) is not None:
        beside_paper = compared_files(compare_with_paper(store, experiment))
    costs = {"cost.json": cost_json(experiment, accounts_by_arm(plan.entries, store))}
    return {**files(table(frame(store, experiment))), **beside_paper, **costs}
