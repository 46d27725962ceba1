"""How the commands open a mirror: the one place where the table of `dashboards` meets the runs of `tracking`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.store import Store
    from orchestrator.tracking.mirror import Mirror


def open_mirror(store: Store, experiment: str, tracking_uri: str) -> Mirror:
    """The mirror of an experiment, with its table; imports neither mlflow nor pandas by itself."""
    from orchestrator.tracking.mirror import Mirror

    def tables() -> Mapping[str, str]:
        from dashboards.frame import frame
        from dashboards.papers.comparison_table import compare_with_paper, published_of
        from dashboards.papers.render import compared_files
        from dashboards.render import files
        from dashboards.table import table

        beside_paper = {}
        if published_of(store.read_sweep(experiment)) is not None:
            beside_paper = compared_files(compare_with_paper(store, experiment))
        return {**files(table(frame(store, experiment))), **beside_paper}

    return Mirror(store, experiment, tracking_uri, tables=tables)
