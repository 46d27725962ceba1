"""`orch gc`: what of the runs folder may go, how many bytes that is, and with --yes its removal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, AsJson, CacheFolder, StoreFolder

if TYPE_CHECKING:
    from orchestrator.archive.gc import Removal


def gc(
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Remove it. Without it, only say what would go.")
    ] = False,
    keep_last: Annotated[int, typer.Option(min=0, help="Resumable checkpoints kept of a finished training.")] = 1,
    keep_every: Annotated[
        int | None, typer.Option(min=1, help="Also keep those at multiples of so many steps.")
    ] = None,
    unplanned: Annotated[bool, typer.Option(help="Also trials that no experiment of the runs folder names.")] = False,
    store: StoreFolder = RUNS,
    cache_dir: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Remove what no table, resume or verification needs; never what a trial at work has."""
    from orchestrator.archive.gc import KeepRule, removable, remove
    from orchestrator.store.store import Store

    runs = Store(store)
    policy = KeepRule(keep_last=keep_last, keep_every=keep_every, with_unplanned=unplanned)
    found = removable(runs, policy, cache_folder=cache_dir or store / "models")
    kept: list[Removal] = []
    if yes:
        found, kept = remove(found, runs)
    if as_json:
        _print_json(found, kept, is_removed=yes)
        return
    for one in found:
        typer.echo(f"{'removed' if yes else 'would remove'}  {one.kind:<10}  {size(one.num_bytes):>9}  {one.path}")
    for one in kept:
        typer.echo(f"kept, at work  {one.kind:<10}  {one.path}")
    total = f"{len(found)} things, {size(sum(one.num_bytes for one in found))}"
    if yes or not found:
        typer.echo(f"removed {total}" if found else "nothing to remove")
    else:
        typer.echo(f"{total}; nothing was removed\n  orch gc --yes    # with the same options: removes it")


def size(num_bytes: int) -> str:
    """`640 B`, `1.5 MiB`."""
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _print_json(found: list[Removal], kept: list[Removal], *, is_removed: bool) -> None:
    from orchestrator.cli.terminal import print_json

    report = {
        "is_removed": is_removed,
        "num_bytes": sum(one.num_bytes for one in found),
        "removals": found,
        "kept_at_work": kept,
    }
    print_json(report)
