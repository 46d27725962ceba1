"""Fetch or build the inputs of a sweep before its first trial: `python -m orchestrator.trial.fetch`, inputs on stdin.

In a process of its own with every core, so that the driver stays light and no trial holds its resources waiting. It
prints lines; those that begin with a record separator are JSON for the driver: {"bytes": [name, done, total]} and
{"error": [what, where, fix]}.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.codec import decode, encode
from orchestrator.errors import OrchError
from orchestrator.store.inputs import SeenInputs
from orchestrator.trial.inputs import Input, Progress, make_ready
from orchestrator.trial.stop import StopSignal, exit_with_parent
from orchestrator.trial.transfer import Transfer

_POLL_S = 0.2
_NUM_LINES_KEPT = 20
_REFUSED = 2
_FOR_THE_DRIVER = "\x1e"
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
"""The driver draws the only bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareSettings:
    """Where inputs are looked for, kept and compared."""

    store_root: Path
    data_folder: Path | None
    cache_folder: Path
    """Of models that are built here."""


def prepare_inputs(
    inputs: Sequence[Input],
    settings: PrepareSettings,
    *,
    stop: StopSignal,
    on_event: Callable[[str], None],
    on_progress: Callable[[str], None],
) -> None:
    """Make sure that every input is on disk and what the runs folder first saw; returns early after a stop request.

    Args:
        inputs: without repetition; each is tried, even when others fail.
        settings: folders.
        stop: ends the preparation; files that were whole by then are kept.
        on_event: called with a line for each thing done.
        on_progress: called once a second with the state of a download.

    Raises:
        OrchError: inputs that cannot be had, all of them in one message.
    """
    if not inputs:
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.trial.fetch", *_arguments(settings), "--parent", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **_QUIET},
    )
    assert process.stdin is not None, "a pipe was asked for"
    with process.stdin as pipe:
        json.dump([encode(one) for one in inputs], pipe)
    output = _Output(on_event, on_progress)
    reader = threading.Thread(target=output.read, args=(process,), daemon=True)
    reader.start()
    try:
        _wait(process, stop)
    finally:
        process.kill()
        process.wait()
        reader.join()
    if process.returncode and not stop.is_requested:
        raise _refusal(output, inputs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the inputs given on standard input; what happens goes to standard output, a line at a time."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.trial.fetch")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    exit_with_parent(threading.Event(), parent=options.parent, grace_s=0.0)
    seen, status = SeenInputs(options.store), 0
    for payload in json.load(sys.stdin):
        one = decode(Input, payload)
        try:
            make_ready(
                one,
                seen,
                data_folder=options.data_dir,
                cache_folder=options.cache_dir,
                progress=_progress_of(one),
            )
        except OrchError as error:
            _tell(error=[error.what, error.where, error.fix])
            status = _REFUSED
    return status


class _Output:
    """What the preparing process says."""

    def __init__(self, on_event: Callable[[str], None], on_progress: Callable[[str], None]) -> None:
        self.errors: list[OrchError] = []
        self.lines: deque[str] = deque(maxlen=_NUM_LINES_KEPT)
        self._on_event, self._on_progress = on_event, on_progress
        self._transfer = Transfer(name="")

    def read(self, process: subprocess.Popen[str]) -> None:
        """Pass on all lines until the process ends."""
        assert process.stdout is not None, "a pipe was asked for"
        with process.stdout as output:
            for line in output:
                self._take(line.rstrip("\n"))

    def _take(self, line: str) -> None:
        if not line.startswith(_FOR_THE_DRIVER):
            self.lines.append(line)
            self._on_event(line)
            return
        report = json.loads(line.removeprefix(_FOR_THE_DRIVER))
        if "error" in report:
            what, where, fix = report["error"]
            self.errors.append(OrchError(what, where=where, fix=fix))
            return
        name, done, total = report["bytes"]
        if self._transfer.name != name:
            self._transfer = Transfer(name=name)
        self._on_progress(self._transfer.line(done, total, at_s=time.monotonic()))


def _progress_of(one: Input) -> Progress:
    return Progress(
        on_line=lambda line: print(line, flush=True),
        on_bytes=lambda done, total: _tell(bytes=[one.name, done, total]),
    )


def _tell(**what: Any) -> None:
    print(_FOR_THE_DRIVER + json.dumps(what), flush=True)


def _arguments(settings: PrepareSettings) -> list[str]:
    data = [] if settings.data_folder is None else ["--data-dir", str(settings.data_folder)]
    return ["--store", str(settings.store_root), "--cache-dir", str(settings.cache_folder), *data]


def _refusal(output: _Output, inputs: Sequence[Input]) -> OrchError:
    if len(output.errors) == 1:
        return output.errors[0]
    if output.errors:
        listed = "\n".join("  " + str(error).replace("\n", "\n  ") for error in output.errors)
        what = f"{len(output.errors)} of {len(inputs)} inputs cannot be had:\n{listed}"
        return OrchError(what, fix="fix each, then run the same command again: what came is kept")
    return OrchError(
        "the inputs cannot be prepared:\n  " + "\n  ".join(output.lines),
        where=", ".join(one.name for one in inputs),
        fix="fix what the last line says, then run the same command again",
    )


def _wait(process: subprocess.Popen[str], stop: StopSignal) -> None:
    while process.poll() is None:
        if stop.wait(_POLL_S):
            return


if __name__ == "__main__":
    sys.exit(main())
