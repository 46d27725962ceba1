"""The GPUs of this node as a trial finds them: what their driver says, and nothing that opens them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from orchestrator.sizing.devices import GPUS, Device

_TIMEOUT_S = 10.0
_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_UNKNOWN = GPUS["a100-40"]
"""Stands for a GPU that is not listed, as far as its speed goes."""

Ask = Callable[[Sequence[str]], str | None]
"""Command → its output, or None where it is absent or fails."""


def smallest_gpu(environment: Mapping[str, str], ask: Ask | None = None) -> Device | None:
    """The smallest of the GPUs that this process may use, with the memory that its driver reports; None without any.

    Args:
        environment: `CUDA_VISIBLE_DEVICES` hides GPUs.
        ask: runs the driver's command.
    """
    listing = (ask or output_of)(_QUERY) or ""
    rows = [[part.strip() for part in line.split(",")] for line in listing.splitlines()]
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else {name.strip() for name in visible.split(",")}
    found = [
        _device(row[2], float(row[3]))
        for row in rows
        if len(row) == 4 and row[3].replace(".", "").isdigit() and (wanted is None or {row[0], row[1]} & wanted)
    ]
    return min(found, key=lambda one: one.memory_gb, default=None)


def _device(name: str, memory_mib: float) -> Device:
    """The listed kind whose name the driver's contains, nearest in memory; else one that is slow."""
    memory_gb = memory_mib * 2**20 / 1e9
    alike = [device for device in GPUS.values() if device.name.partition("-")[0].lower() in name.lower()]
    kind = min(alike, key=lambda device: abs(device.memory_gb - memory_gb), default=_UNKNOWN)
    return replace(kind, memory_gb=memory_gb)


def output_of(command: Sequence[str]) -> str | None:
    """Standard output of a command, or None where it is absent, fails or hangs: what it would tell stops no run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
