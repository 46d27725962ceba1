"""One trial in its own process: `python -m orchestrator.trial.worker --store RUNS --sweep NAME --trial ID`.

Started by a supervisor in a process group of its own. Its exit status is one of the constants below; anything else
is the death of the process.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.store.lease import LeaseLost
from orchestrator.store.store import Store, TrialLocked
from orchestrator.trial.stop import GRACE_S, exit_with_parent

DONE = 0
FAILED = 10
"""The record says why."""
STOPPED = 11
"""On request; resumable."""
LOCKED = 12
"""Another process is at work on the trial, or has taken it over."""
REFUSED = 13
"""Did not start, or could not write its record; standard error says why."""
_LOCK_TIMEOUT_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial and return the exit status."""
    options = _parse(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.parent:
        exit_with_parent(stop, parent=options.parent, grace_s=GRACE_S)
    try:
        return _run(options, stop)
    except (TrialLocked, LeaseLost) as error:
        print(error, file=sys.stderr)
        return LOCKED
    except OrchError as error:
        print(error, file=sys.stderr)
        return REFUSED


def _run(options: argparse.Namespace, stop: threading.Event) -> int:
    store = Store(options.store)
    planned = store.plans.read_planned(options.sweep, options.trial)
    os.environ["OMP_NUM_THREADS"] = str(planned.resources.num_cpus)  # read once, when torch is first imported
    from orchestrator.store.record import Status
    from orchestrator.trial.attempt import RunContext, run_trial

    context = RunContext(
        cache_folder=options.cache_dir,
        data_folder=options.data_dir,
        argv=tuple(options.argv) or tuple(sys.argv),
        should_stop=stop.is_set,
        lock_timeout_s=_LOCK_TIMEOUT_S,
        on_lost=lambda: os._exit(LOCKED),  # at once: the supervisor ends the rest of the process group
        open_log=_everything_to,
        nodes=tuple(options.node),
    )
    record = run_trial(planned, store, context=context)
    return {Status.DONE: DONE, Status.STOPPED: STOPPED}.get(record.status, FAILED)


@contextlib.contextmanager
def _everything_to(path: Path) -> Iterator[None]:
    """Send all output of this process and its children to a file, for the rest of the process's life."""
    with path.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    from orchestrator.store.redact import SecretlessFormatter
    from orchestrator.trial.log_file import LOG_FORMAT

    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(SecretlessFormatter(LOG_FORMAT))
    yield
    sys.stdout.flush()
    sys.stderr.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.trial.worker", description="Run one trial of a sweep."
    )
    parser.add_argument("--store", type=Path, required=True, help="runs folder")
    parser.add_argument("--sweep", required=True, help="experiment whose kept plan names the trial")
    parser.add_argument("--trial", required=True, help="trial id")
    parser.add_argument("--cache-dir", type=Path, required=True, help="folder of built and fetched models")
    parser.add_argument("--data-dir", type=Path, help="folder of benchmark files")
    parser.add_argument("--node", action="append", default=[], help="Ray's id of this node, then of the others")
    parser.add_argument("--parent", type=int, default=0, help="end when this parent process does")
    parser.add_argument("argv", nargs="*", help="after `--`: the command line to put on record")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
