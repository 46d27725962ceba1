"""`orch logs`: what a trial printed, from its latest attempt; followed through its attempts with -f."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import RUNS, StoreFolder

if TYPE_CHECKING:
    from orchestrator.store.store import Store

POLL_S = 0.5
SETTLE_S = 5.0
"""A driver that lives is given so long to say that it starts a trial again, before the trial counts as over."""


def logs(
    trial: Annotated[str, typer.Argument(help="Trial id, or the beginning of one.")],
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on printing until the trial is over.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Attempt number; the latest without it.")] = None,
    store: StoreFolder = RUNS,
) -> None:
    """Print the log of a trial."""
    from contextlib import suppress

    from orchestrator.errors import StoreError
    from orchestrator.store.store import Store

    runs = Store(store)
    trial_id = runs.complete_id(trial)
    numbers = runs.attempt_numbers(trial_id)
    number = attempt if attempt is not None else max(numbers, default=0)
    if number not in numbers:
        have = ", ".join(map(str, numbers)) or "none yet"
        raise StoreError(
            f"trial {trial_id} has no attempt {number}" if attempt else f"trial {trial_id} has not been started",
            where=str(runs.trial_folder(trial_id)),
            fix=f"attempts there: {have}",
        )
    if follow:
        with suppress(KeyboardInterrupt):
            for text in followed(runs, trial_id, number, lines=lines, is_single=attempt is not None):
                typer.echo(text, nl=False)
        typer.echo(f"{trial_id}: {runs.read(trial_id).status}", err=True)
        return
    for line in runs.log_tail(trial_id, number, lines=lines):
        typer.echo(line)
    typer.echo(f"log: {runs.log_file(trial_id, number)}", err=True)


def followed(
    runs: Store,
    trial_id: str,
    number: int,
    *,
    lines: int,
    is_single: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Yield the last lines of an attempt and all that comes after, through later attempts, until the trial is over.

    Args:
        runs: the runs folder.
        trial_id: whose log.
        number: of the attempt to begin with.
        lines: how many of its last lines.
        is_single: end with that attempt.
        sleep: waits between looks.
    """
    from orchestrator.store.progress import FileTail

    tail = FileTail(runs.log_file(trial_id, number), last_bytes=0)
    yield "".join(f"{line}\n" for line in runs.log_tail(trial_id, number, lines=lines))
    quiet_s = 0.0
    while True:
        patience_s = _patience_s(runs, trial_id)  # asked before the last look: nothing printed in between is missed
        later = [n for n in runs.attempt_numbers(trial_id) if n > number]
        if text := tail.read():
            yield text
        if later and not is_single:
            number, quiet_s = later[0], 0.0
            tail = FileTail(runs.log_file(trial_id, number))
            yield f"-- attempt {number}\n"
            continue
        if (patience_s is not None and quiet_s >= patience_s) or (later and is_single):
            return
        quiet_s = quiet_s + POLL_S if patience_s is not None else 0.0
        sleep(POLL_S)


def _patience_s(runs: Store, trial_id: str) -> float | None:
    """How long to wait for a trial that does not run before it counts as over; None while it runs or is due."""
    from orchestrator.status.driver import live_drivers, waits_of
    from orchestrator.store.record import Status

    progress = runs.progress(trial_id)
    record = runs.find(trial_id)
    if record is not None and record.status is Status.DONE:
        return 0.0
    is_open = record is not None and bool(record.attempts) and record.attempts[-1].ended_at is None
    if is_open and progress is not None and progress.is_alive():
        return None
    drivers = live_drivers(runs.root)
    wait = waits_of(drivers).get(trial_id)
    if wait is not None and wait.due_at is not None:
        return None
    return SETTLE_S if drivers else 0.0
