"""`orch why TABLE ROW COLUMN`: where a number comes from, down to the files of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, StoreFolder
from orchestrator.cli.terminal import print_json

if TYPE_CHECKING:
    from dashboards.trace import CellTrace, ScoreTrace, TrialTrace


def why(
    table: Annotated[str, typer.Argument(help="Name of an experiment that was swept.")],
    row: Annotated[str, typer.Argument(help="Row: its id or label beside a paper, else axis values: grpo,ets,0.2.")],
    column: Annotated[str, typer.Argument(help="Column: its id or label, for example a benchmark or avg.")],
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Trace a cell of a table to trials, checkpoints, sample files, grader, seeds and configuration."""
    from dashboards.trace import trace_cell
    from orchestrator.store.store import Store

    found = trace_cell(Store(store), table, row, column)
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: CellTrace) -> None:
    typer.secho(f"{found.experiment} · {found.row} · {found.column}: {found.shown}", bold=True)
    if not found.trials:
        typer.echo("  no trial of this experiment stands behind it")
    for trial in found.trials:
        for line in _lines(trial):
            typer.echo(line)
    typer.echo(f"  plan {found.plan_digest} · orch status {found.experiment}")


def _lines(trial: TrialTrace) -> list[str]:
    code = "unknown" if trial.commit is None else trial.commit[:12] + (" with changes" if trial.is_dirty else "")
    lines = [
        f"  {trial.trial}  {trial.label}: {trial.failure or trial.status}",
        f"    config {trial.config_digest} · model {trial.model_digest[:12]} · data {(trial.data_digest or '–')[-12:]}"
        f" · code {code} · attempts {trial.num_attempts}",
    ]
    if trial.step:
        absence = "its checkpoint is not on this disk" if trial.status == "done" else "not trained to the end"
        lines.append(f"    step {trial.step}: {trial.checkpoint or absence}")
    return [*lines, *(f"    {_score_line(score)}" for score in trial.scores)]


def _score_line(found: ScoreTrace) -> str:
    score = found.score
    if score is None:
        return f"{found.benchmark}: no score"
    wanted = score.num_problems * score.num_samples
    samples = f"{found.num_samples_stored} samples in {found.samples_file}"
    if found.samples_file is None:
        samples = f"its {wanted} samples are not on this disk"
    return (
        f"{found.benchmark} {100 * score.avg:.2f}: {score.num_problems} questions × {score.num_samples},"
        f" grader {score.grader_version}, data {score.benchmark_digest[:12]}, {score.engine}; {samples}"
    )
