"""Build or fetch the models of a sweep before its first trial: `python -m orchestrator.prepare`, models on stdin.

In a process of its own with every core, so that the driver stays light and no trial holds its resources waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.codec import decode, encode
from orchestrator.errors import ModelError, OrchError
from orchestrator.stop import StopSignal, exit_with_parent
from trainers.api import Model

_POLL_S = 0.2
_NUM_LINES_KEPT = 20
_REFUSED = 2


def prepare_models(
    models: Sequence[Model], *, cache_folder: Path, stop: StopSignal, on_event: Callable[[str], None]
) -> None:
    """Make sure that every model is on disk; returns early after a stop request.

    Args:
        models: without repetition; plain folders cost nothing.
        cache_folder: where built and fetched models are kept.
        stop: ends the preparation; what is half built is thrown away.
        on_event: told of progress, a line at a time.

    Raises:
        ModelError: a model cannot be built or fetched.
    """
    to_prepare = [model for model in models if not Path(model.path).is_dir()]
    if not to_prepare:
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.prepare", "--cache-dir", str(cache_folder), "--parent", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None, "a pipe was asked for"
    with process.stdin as pipe:
        json.dump([encode(model) for model in to_prepare], pipe)
    lines: deque[str] = deque(maxlen=_NUM_LINES_KEPT)
    reader = threading.Thread(target=_pass_on, args=(process, lines, on_event), daemon=True)
    reader.start()
    try:
        _wait(process, stop)
    finally:
        process.kill()
        process.wait()
        reader.join()
    if process.returncode and not stop.is_requested:
        raise ModelError(
            "a model cannot be prepared:\n  " + "\n  ".join(lines),
            where=", ".join(model.path for model in to_prepare),
            mend="mend what the last line says, then run the same command again",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Resolve the models given on standard input; progress goes to standard output, a line at a time."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.prepare")
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    exit_with_parent(threading.Event(), parent=options.parent, grace_s=0.0)
    from trainers.models import resolve

    try:
        for payload in json.load(sys.stdin):
            model = decode(Model, payload)
            resolve(model, cache_folder=options.cache_dir, on_progress=lambda line: print(line, flush=True))
    except OrchError as error:
        print(error, flush=True)
        return _REFUSED
    return 0


def _pass_on(process: subprocess.Popen[str], lines: deque[str], on_event: Callable[[str], None]) -> None:
    assert process.stdout is not None, "a pipe was asked for"
    with process.stdout as output:
        for line in output:
            lines.append(line.rstrip())
            on_event(line.rstrip())


def _wait(process: subprocess.Popen[str], stop: StopSignal) -> None:
    while process.poll() is None:
        if stop.wait(_POLL_S):
            return


if __name__ == "__main__":
    sys.exit(main())
