"""`orch verify`: every table made again, offline, from plans, samples and manifests; what differs is listed."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, DataFolder, StoreFolder
from orchestrator.cli.terminal import print_json

if TYPE_CHECKING:
    from orchestrator.archive.verify import Verification
    from orchestrator.store.store import Store

Cells = list[list[str]]
NUM_SHOWN = 50
"""Findings of an experiment that are printed; `--json` has all."""


def verify(
    target: Annotated[str | None, typer.Argument(help="Experiment or archive; all experiments without it.")] = None,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Grade, average and print everything again; exit 1 if anything is not what it was."""
    from orchestrator.archive.format import ArchiveDamaged
    from orchestrator.store.store import Store

    if target is None or not Path(target).is_file():
        runs = Store(store)
        found = [_verify(runs, name, data_dir) for name in ((target,) if target else runs.plans.names())]
    else:
        try:
            found = [_verify_archive(Path(target), data_dir)]
        except ArchiveDamaged as damage:
            if as_json:
                print_json({"archive": target, "damage": damage.what})
            else:
                typer.echo(damage.what)
            raise typer.Exit(1) from damage
    if as_json:
        print_json([_as_dict(one) for one in found])
    else:
        for one in found:
            _print(one)
        if not found:
            typer.echo("no experiment has been started in this runs folder")
    if any(one.differences for one in found):
        raise typer.Exit(1)


def _verify_archive(file: Path, data_folder: Path | None) -> Verification:
    from orchestrator.archive.format import unpack
    from orchestrator.store.store import Store

    with tempfile.TemporaryDirectory(prefix="orch-verify-") as folder:
        manifest = unpack(file, Path(folder))
        return _verify(Store(Path(folder)), manifest.experiment, data_folder)


def _verify(store: Store, experiment: str, data_folder: Path | None) -> Verification:
    from orchestrator.archive.verify import RederivedStore, verify_sweep
    from orchestrator.errors import OrchError

    found = verify_sweep(store, experiment, data_folder=data_folder)
    try:
        printed = dict(_tables(store, experiment))
        derived = dict(_tables(RederivedStore(store.root, found.scores), experiment))
    except OrchError as error:
        found.note("difference", f"orch table {experiment}", f"cannot be made: {error.what}")
        return found
    if printed != derived:
        # What moved in between is a trial at work, not a difference.
        again = dict(_tables(store, experiment))
        for command in printed:
            for what in _unequal_cells(printed[command], derived[command], again[command]):
                found.note("difference", command, what)
    return found


def _unequal_cells(printed: Cells, derived: Cells, again: Cells) -> Iterator[str]:
    """Cells that differ though they stood still; each of the three begins with the names of its columns."""
    for number, rows in enumerate(zip(printed[1:], derived[1:], again[1:], strict=True), start=1):
        for column, one, other, later in zip(printed[0], *rows, strict=True):
            if one != other and one == later:
                yield f"row {number}, {column}: {one or 'nothing'} as stored, {other or 'nothing'} from the samples"


def _tables(store: Store, experiment: str) -> Iterator[tuple[str, Cells]]:
    """Command → cells of its table: the experiment's own, and that beside the paper where it names one."""
    from dashboards.frame import frame
    from dashboards.papers.comparison_table import compare_with_paper, published_of
    from dashboards.papers.render import render_compared
    from dashboards.render import render
    from dashboards.table import table

    yield f"orch table {experiment}", _cells(render(table(frame(store, experiment)), "csv"))
    if published_of(store.plans.read(experiment)) is not None:
        yield (
            f"orch table {experiment} --published",
            _cells(render_compared(compare_with_paper(store, experiment), "csv")),
        )


def _cells(text: str) -> Cells:
    return list(csv.reader(io.StringIO(text)))


def _print(found: Verification) -> None:
    for one in found.findings[:NUM_SHOWN]:
        typer.secho(f"{one.kind}: ", fg="red" if one.kind == "difference" else "yellow", nl=False)
        typer.echo(f"{one.where}: {one.what}")
    if len(found.findings) > NUM_SHOWN:
        typer.echo(f"… {len(found.findings) - NUM_SHOWN} more: --json lists them")
    made = f"{found.num_trials} trials, {found.num_scores} scores of {found.num_samples} samples"
    typer.echo(
        f"{found.experiment}: {made}, {found.num_checkpoints} checkpoints: {len(found.differences)} differences, "
        f"{len(found.findings) - len(found.differences)} unchecked"
    )


def _as_dict(found: Verification) -> dict[str, object]:
    counts = ("num_trials", "num_scores", "num_samples", "num_checkpoints")
    numbers = {name: getattr(found, name) for name in counts}
    return {"experiment": found.experiment, **numbers, "findings": found.findings}
