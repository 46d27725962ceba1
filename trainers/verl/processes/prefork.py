"""A Python that is warm: it imports torch, verl and vLLM once, and every process of a trial is a fork of it.

A trial has a dozen processes, each of which would import the same modules for ten seconds of a core. Ray starts its
workers by `warm_python(…)` (`py_executable` of a runtime environment), and so does Python's `multiprocessing`, by which
vLLM starts its engine: a small program (`prefork_client.py`) that hands arguments, environment and open files to the
server here, waits, and ends as the fork does.

For CPUs alone: a GPU's driver does not survive a fork. The server ends, and its forks with it, when its parent does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from types import ModuleType

from trainers.verl.processes import prefork_client
from trainers.verl.processes.prefork_client import MAX_FILES, SIZE, STATUS

PRELOADED = (
    "ray._private.workers.default_worker",
    "trainers.verl.inside.trainer",
    "trainers.verl.inside.agent_loop",
    "trainers.verl.inside.reward",
    "trainers.verl.inside.vllm_extension",
    "verl.trainer.main_ppo",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
)
"""What the processes of a trial import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRequest:
    """A process to be: what `python` would get of its caller."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    files: dict[int, int]
    """Descriptor that the process shall have → the one by which we hold that file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fork:
    process: int
    caller: socket.socket


@contextlib.contextmanager
def warm_python(folder: Path, *, modules: tuple[str, ...] = PRELOADED) -> Iterator[Path]:
    """Start a server, and yield the program that is its Python: it may be called at once, and waits for the imports.

    Args:
        folder: for the program and its socket; its path is short, as the paths of sockets may not exceed 107 bytes.
        modules: what to import.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address, python = folder / "prefork", folder / "python"
    command = shlex.join([sys.executable, "-IS", prefork_client.__file__, str(address)])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(address))
        address.chmod(0o600)  # who may connect may run anything as the owner
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-m", "trainers.verl.processes.prefork", str(listener.fileno()), str(python), *modules],
            env=os.environ | _read_at_import(),
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    try:
        yield python
    finally:
        server.communicate()  # closes its standard input, which ends it


def _read_at_import() -> dict[str, str]:
    """What Ray tells each worker by its environment, and reads when it is imported, which forks do not do again."""
    first_job = "01000000"  # a private Ray has one driver
    return {
        "RAY_JOB_ID": first_job,
        "RAY_RAYLET_PID": str(os.getpid()),  # workers end when that process does
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),
    }


def main(listener: socket.socket, python: str, modules: list[str]) -> None:
    """Import, then serve until standard input ends; a fork returns to here too, and becomes what was asked for."""
    before = dict(os.environ)
    for name in modules:
        importlib.import_module(name)
    _share_titles()
    added = {name: value for name, value in os.environ.items() if name not in before}
    gc.collect()
    gc.freeze()  # a collection in a fork would write to every page it shares
    request = _serve(listener)
    if request is not None:
        multiprocessing.set_executable(python)
        _become(request, added)


def _share_titles() -> None:
    """Let vLLM's processes name themselves too: of two copies of one library, Ray's has the place of the title."""
    with contextlib.suppress(ImportError):
        import setproctitle
        from ray._raylet import setproctitle as title_of_ray  # type: ignore[attr-defined]  # not in its stubs

        setproctitle.setproctitle = title_of_ray


def _serve(listener: socket.socket) -> ForkRequest | None:
    """Fork for each request, and tell its caller how the fork ended. Returns the request in a fork, None at the end."""
    selector = selectors.DefaultSelector()
    for source in (listener, sys.stdin):
        selector.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                caller, _ = listener.accept()
                request = _read(caller)
                process = os.fork()
                if not process:
                    _close_all(selector, caller)
                    return request
                for file in request.files.values():
                    os.close(file)
                fork = _Fork(process=process, caller=caller)
                selector.register(caller, selectors.EVENT_READ, fork)
                selector.register(os.pidfd_open(process), selectors.EVENT_READ, fork)
            elif key.fileobj is sys.stdin:
                for process in {key.data.process for key in selector.get_map().values() if key.data}:
                    os.kill(process, signal.SIGKILL)
                return None
            elif key.fileobj is key.data.caller:
                _pass_on(key.data, selector)
            else:
                _reap(key.data, selector, handle=key.fd)


def _read(caller: socket.socket) -> ForkRequest:
    size, held, _, _ = socket.recv_fds(caller, SIZE.size, MAX_FILES)
    (missing,) = SIZE.unpack(size)
    parts = []
    while missing:
        parts.append(caller.recv(missing))
        missing -= len(parts[-1])
    asked = json.loads(b"".join(parts))
    return ForkRequest(**{**asked, "files": dict(zip(asked["files"], held, strict=True))})


def _pass_on(fork: _Fork, selector: selectors.BaseSelector) -> None:
    """Signals of the caller; when it is dead, so shall be the fork."""
    if fork.caller.fileno() < 0:
        return  # reaped a moment ago
    numbers = fork.caller.recv(64)
    for number in numbers or [signal.SIGKILL]:
        os.kill(fork.process, number)
    if not numbers:
        selector.unregister(fork.caller)


def _reap(fork: _Fork, selector: selectors.BaseSelector, *, handle: int) -> None:
    _, status = os.waitpid(fork.process, 0)
    with contextlib.suppress(OSError):
        fork.caller.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))
    with contextlib.suppress(KeyError):
        selector.unregister(fork.caller)
    fork.caller.close()
    selector.unregister(handle)
    os.close(handle)


def _close_all(selector: selectors.BaseSelector, caller: socket.socket) -> None:
    """Close, in a fork, what belongs to the server."""
    for key in list(selector.get_map().values()):
        os.close(key.fd)
    selector.close()
    os.close(caller.detach())


def _become(request: ForkRequest, added: dict[str, str]) -> None:
    """Take over what the caller was given, and run what it was asked to run."""
    above = max([*request.files, *request.files.values()]) + 1
    parked = {number: os.dup2(held, above + index) for index, (number, held) in enumerate(request.files.items())}
    for number, held in parked.items():
        os.dup2(held, number)
    for file in {*request.files.values(), *parked.values()} - set(request.files):
        os.close(file)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(added | request.environment)
    # Flags before the program repeat those of the server, which the caller's own interpreter has too.
    program, *arguments = dropwhile(lambda word: word.startswith("-") and word != "-c", request.arguments)
    main_module = ModuleType("__main__")
    sys.modules["__main__"] = main_module
    if program == "-c":
        text, *arguments = arguments
        sys.path[0] = ""
    else:
        text = Path(program).read_text()
        main_module.__file__ = program
        sys.path[0] = str(Path(program).parent)
    sys.argv = [program, *arguments]
    exec(compile(text, program, "exec"), main_module.__dict__)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
