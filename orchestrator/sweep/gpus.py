"""How many GPUs this machine has for a sweep of its own: asked before gigabytes are fetched for trials that need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.config.packaged import find_twin, shown_path
from orchestrator.errors import PlanError
from orchestrator.plan.trial import PlannedTrial

_SMOKE = "experiments/smoke.yaml"


def count_gpus(environment: Mapping[str, str], *, root: Path = Path("/")) -> int | None:
    """GPUs that processes started here may use; None where only a driver could tell (AMD, WSL).

    Args:
        environment: `CUDA_VISIBLE_DEVICES` hides devices, as it does for Ray and torch.
        root: where `dev` lies.
    """
    num_devices = len(list((root / "dev").glob("nvidia[0-9]*")))
    if not num_devices:
        return None if any((root / "dev" / name).exists() for name in ("kfd", "dxg")) else 0
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return num_devices
    names = [name.strip() for name in visible.split(",")]
    hidden_from = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))
    return hidden_from  # a device may be lent in slices, so the list may be longer than the number of devices


def check_gpus(trials: Sequence[PlannedTrial], num_gpus: int | None, *, file: Path, tables: Sequence[str]) -> None:
    """Refuse trials that ask for more GPUs than this machine has, and name what runs here instead.

    Args:
        trials: what is to run.
        num_gpus: of this machine; None where it is unknown, or where a cluster is to be joined.
        file: the experiment.
        tables: the printed tables that it stands beside: a twin stands beside the same.

    Raises:
        PlanError: the first trial that does not fit.
    """
    if num_gpus is None:
        return
    for planned in trials:
        wanted = planned.resources.num_gpus
        if wanted > num_gpus:
            twin = find_twin(file, tables)
            here = f"orch sweep {shown_path(twin)} runs the same comparison on a CPU" if twin is not None else ""
            here = here or f"orch sweep {_SMOKE} runs on a CPU"
            raise PlanError(
                f"trial {planned.trial.id} ({planned.label}) asks for {wanted} GPU{'s' * (wanted > 1)}, "
                f"and this machine has {num_gpus or 'none'}; nothing was fetched or started",
                where=f"{file}: cluster.num_gpus",
                fix=f"{here}; or sweep on a machine with GPUs, or join a Ray cluster that has them: --ray-address",
            )
