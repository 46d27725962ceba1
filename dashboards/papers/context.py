"""What a compared table says of itself besides its cells: facts that hold for all of it, and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from dashboards.papers.experiment_runs import ExperimentRuns
from dashboards.papers.published import PublishedTable, Row
from dashboards.selector_contrasts import control_fact
from dashboards.table import SIGNIFICANT, seed_fact, settings_fact, size_facts
from eval.graders.api import grader_name, regrade_command
from trainers.methods import CONTROL

_NUM_NAMED = 4
"""Trials that share a reason: so many are named, the others counted."""


def table_facts(table: PublishedTable, rows: Sequence[Row], runs: ExperimentRuns) -> tuple[str, ...]:
    """Sizes, settings, how errors and marks were made, what stands for what, and what controls there are."""
    frame = runs.frame
    return (
        *_stand_ins(table, runs),
        *size_facts(frame),
        f"Cells: ours ± standard error | published | Δ = ours − published, in percent. {seed_fact(frame)}",
        "Marks: ¹ best and ² second best of ours in its block, the untrained model left out; from two seeds on "
        f"* p < {SIGNIFICANT} against the block's arm on all tokens, paired by question and seed, after Holm's "
        "correction over the column.",
        f"In the paper: {table.emphasis.rule}" + ("" if table.emphasis.complete else " Not all marks survive."),
        *_sampling(table),
        *_unprinted_controls(rows, runs),
        *control_fact(frame),
        *settings_fact(frame),
    )


def table_warnings(rows: Sequence[Row], runs: ExperimentRuns) -> tuple[str, ...]:
    """Several graders, arms that stand in no row, trials without a number."""
    scored = runs.frame[runs.frame["state"] == "scored"]
    warnings = []
    versions = {str(name): len(part) for name, part in scored.groupby("grader_version", sort=False)}
    if len(versions) > 1:
        counts = ", ".join(f"{version} ({number} scores)" for version, number in versions.items())
        command = regrade_command(grader_name(next(iter(versions))))
        warnings.append(f"Graded by several versions: {counts}. `{command}` brings all to the present one.")
    strangers = _unprinted(rows, runs, controls=False)
    if strangers:
        warnings.append(f"Arms that stand in no row: {'; '.join(strangers)}.")
    return (*warnings, *_unscored(runs))


def _unprinted_controls(rows: Sequence[Row], runs: ExperimentRuns) -> tuple[str, ...]:
    labels = _unprinted(rows, runs, controls=True)
    if not labels:
        return ()
    return (f"Random arms that the paper does not print, in `orch table {runs.plan.experiment}`: {'; '.join(labels)}.",)


def _unprinted(rows: Sequence[Row], runs: ExperimentRuns, *, controls: bool) -> list[str]:
    """Labels of the trained arms that stand in no row: those of random tokens, or all others."""
    behind = {arm for row in rows for arm in runs.arms_behind(row.arm)}
    trained = runs.frame[runs.frame["kind"] == "train"]
    wanted = set(trained.loc[(trained["method"] == CONTROL) == controls, "arm"])
    return [label for arm, label in runs.labels().items() if arm in wanted - behind]


def _unscored(runs: ExperimentRuns) -> Iterator[str]:
    """One line a reason, with the trials that share it."""
    unscored = runs.frame[runs.frame["state"] != "scored"]
    for reason, part in unscored.groupby("reason", sort=False):
        labels = list(dict.fromkeys(part["label"]))
        others = f" and {len(labels) - _NUM_NAMED} more" if len(labels) > _NUM_NAMED else ""
        yield f"{reason}: {'; '.join(labels[:_NUM_NAMED])}{others}"


def _stand_ins(table: PublishedTable, runs: ExperimentRuns) -> tuple[str, ...]:
    own = " and ".join(str(name) for name in runs.frame["model"].unique())
    stands_for = [str(value) for value in asdict(runs.stands_for).values() if value is not None]
    if not stands_for:
        return ()
    return (
        f"A scaled twin: {own} takes the place of {', '.join(stands_for)}. Its numbers compare arms with each other; "
        f"a Δ stands only where the benchmark is the paper's.",
    )


def _sampling(table: PublishedTable) -> tuple[str, ...]:
    return () if table.sampling is None else (f"Published: {table.sampling.text}: {table.sampling.stated_in}",)
