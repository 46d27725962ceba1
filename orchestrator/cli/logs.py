"""`orch logs`: what a trial printed, from its latest attempt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.store import Store

POLL_S = 0.5


def logs(
    trial: Annotated[str, typer.Argument(help="Trial id, or the beginning of one.")],
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print new lines until the trial ends.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Attempt number; the latest without it.")] = None,
    store: Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")] = Path("runs"),
) -> None:
    """Print the log of a trial."""
    from orchestrator.errors import StoreError
    from orchestrator.store import Store

    runs = Store(store)
    trial_id = runs.complete_id(trial)
    numbers = runs.attempt_numbers(trial_id)
    number = attempt if attempt is not None else max(numbers, default=0)
    if number not in numbers:
        have = ", ".join(map(str, numbers)) or "none yet"
        raise StoreError(
            f"trial {trial_id} has no attempt {number}" if attempt else f"trial {trial_id} has not been started",
            where=str(runs.trial_folder(trial_id)),
            mend=f"attempts there: {have}",
        )
    for line in runs.log_tail(trial_id, number, lines=lines):
        typer.echo(line)
    if follow:
        _follow(runs, trial_id, number)
    else:
        typer.echo(f"log: {runs.log_file(trial_id, number)}", err=True)


def _follow(runs: Store, trial_id: str, number: int) -> None:
    """Print what is added to the log until its attempt has ended, or Ctrl-C."""
    from contextlib import suppress

    with suppress(KeyboardInterrupt), runs.log_file(trial_id, number).open(errors="replace") as log:
        log.seek(0, 2)
        while True:
            text = log.read()
            typer.echo(text, nl=False)
            if not text:
                if not _is_running(runs, trial_id, number):
                    return
                time.sleep(POLL_S)


def _is_running(runs: Store, trial_id: str, number: int) -> bool:
    from orchestrator.record import Outcome

    outcomes = {attempt.number: attempt.outcome for attempt in runs.read(trial_id).attempts}
    progress = runs.progress(trial_id)
    return outcomes.get(number) is Outcome.RUNNING and progress is not None and progress.is_alive()
