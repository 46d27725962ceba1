"""`orch regrade`: grade stored samples with the present version of a grader; nothing is generated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.graders.api import GraderName
from orchestrator.cli.judge import JudgeModel, JudgeUrl
from orchestrator.cli.options import RUNS, AsJson, CacheFolder, DataFolder, StoreFolder
from orchestrator.cli.terminal import print_json

if TYPE_CHECKING:
    from orchestrator.archive.regrade import Change


def regrade(
    target: Annotated[
        str | None, typer.Argument(help="Trial, or a model evaluated, by path, id or name; everything without it.")
    ] = None,
    grader: Annotated[
        GraderName, typer.Option(help="Whose verdicts are wanted; those of others stand beside ours.")
    ] = "ours",
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    cache_dir: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Re-score samples that another grader scored; scores appear under their new keys."""
    from orchestrator.archive.regrade import regrade_all
    from orchestrator.cli.judge import cost_line, open_named
    from orchestrator.store.store import Store

    opened = open_named(grader, store, judge_model=judge_model, judge_url=judge_url)
    rows = []
    for change in regrade_all(
        Store(store), target, data_folder=data_dir, cache_folder=cache_dir or store / "models", grader=opened
    ):
        rows.append(_row(change))
        if not as_json:
            typer.echo(_line(rows[-1]))
    if as_json:
        print_json(rows)
    elif not rows:
        typer.echo(f"nothing to do: every score has one by the present version of the grader, {opened.version}")
    if cost := cost_line(opened):
        typer.echo(cost, err=True)


def _row(change: Change) -> dict[str, Any]:
    return {
        "owner": change.owner,
        "benchmark": change.after.benchmark,
        "before": change.before.avg,
        "after": change.after.avg,
        "num_changed": change.num_changed,
        "grader_before": change.before.grader_version,
        "grader_after": change.after.grader_version,
    }


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['owner']}  {row['benchmark']:<15} {100 * row['before']:6.2f} → {100 * row['after']:6.2f}  "
        f"{row['num_changed']} verdicts changed  grader {row['grader_before']} → {row['grader_after']}"
    )
