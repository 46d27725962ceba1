"""`orch regrade`: grade stored samples with the present grader; nothing is generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def regrade(
    target: Annotated[
        str | None, typer.Argument(help="Trial, or a model evaluated, by path, id or name; everything without it.")
    ] = None,
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
    data_dir: Annotated[Path | None, typer.Option(envvar="ORCH_DATA_DIR", help="Benchmark files.")] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(envvar="ORCH_CACHE_DIR", help="Built models; STORE/models without it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Re-score samples that an older grader scored; scores appear under their new keys."""
    from orchestrator.archive.regrade import regrade_all
    from orchestrator.store.store import Store

    changes = regrade_all(Store(store), target, data_folder=data_dir, cache_folder=cache_dir or store / "models")
    rows: list[dict[str, Any]] = [
        {
            "owner": change.owner,
            "benchmark": change.after.benchmark,
            "before": change.before.avg,
            "after": change.after.avg,
            "num_changed": change.num_changed,
            "grader_before": change.before.grader_version,
            "grader_after": change.after.grader_version,
        }
        for change in changes
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo(
            f"{row['owner']}  {row['benchmark']:<15} {100 * row['before']:6.2f} → {100 * row['after']:6.2f}  "
            f"{row['num_changed']} verdicts changed  grader {row['grader_before']} → {row['grader_after']}"
        )
    if not rows:
        typer.echo("nothing to do: every score was made by the present grader")
