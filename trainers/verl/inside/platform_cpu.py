"""A CPU as a platform of verl 0.9.1, which knows none: loaded by VERL_USE_EXTERNAL_MODULES, chosen by VERL_PLATFORM.

To Ray the CPU is one logical GPU (`ray.init(num_gpus=1)`), so that verl's placement groups work unchanged.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


def _nothing(*arguments: Any, **options: Any) -> None:
    """What has no meaning on a CPU."""


def _resident_peak(*arguments: Any) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _memory(*arguments: Any) -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _stream(*arguments: Any) -> AbstractContextManager[None]:
    return nullcontext()


def _device_module() -> ModuleType:
    """What `torch.cuda` is elsewhere."""
    module = ModuleType("orch_cpu_device")
    silent = "empty_cache ipc_collect synchronize set_device set_per_process_memory_fraction reset_peak_memory_stats"
    memory = "memory_allocated memory_reserved max_memory_allocated max_memory_reserved"
    members: dict[str, Any] = {
        **dict.fromkeys(silent.split(), _nothing),
        **dict.fromkeys(memory.split(), _resident_peak),
        "manual_seed": torch.manual_seed,
        "manual_seed_all": torch.manual_seed,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: torch.device("cpu"),
        "get_device_name": lambda *device: "cpu",
        "mem_get_info": _memory,
        "get_rng_state": lambda *device: torch.get_rng_state(),
        "set_rng_state": lambda state, *device: torch.set_rng_state(state),
        "current_stream": lambda *device: torch.cpu.current_stream(),
        "stream": _stream,
        "Stream": torch.cpu.Stream,
    }
    for name, member in members.items():
        setattr(module, name, member)
    return module


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):  # type: ignore[misc]  # verl is untyped
    """The interface of `PlatformBase`, whose documentation applies."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:  # noqa: D102
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:  # noqa: D102
        return True

    def current_device(self) -> torch.device:
        """A device that `tensor.to` takes; an index would mean a GPU."""
        return torch.device("cpu")

    def device_count(self) -> int:  # noqa: D102
        return 1

    def set_device(self, device_index: int) -> None:  # noqa: D102
        pass

    def synchronize(self, device_index: int | None = None) -> None:  # noqa: D102
        pass

    def manual_seed(self, seed: int) -> None:  # noqa: D102
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:  # noqa: D102
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:  # noqa: D102
        pass

    def empty_cache(self) -> None:  # noqa: D102
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:  # noqa: D102
        return (None, None)

    def communication_backend_name(self) -> str:  # noqa: D102
        return "gloo"

    def visible_devices_envvar(self) -> str:  # noqa: D102
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:  # noqa: D102
        yield

    def profiler_start(self) -> None:  # noqa: D102
        pass

    def profiler_stop(self) -> None:  # noqa: D102
        pass

    def ray_resource_name(self) -> str:
        """The logical GPU."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:  # noqa: D102
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def ray_resource_options(self, num_gpus: float) -> dict[str, float]:  # noqa: D102
        return {"num_gpus": num_gpus}

    def is_ipc_supported(self) -> bool:
        """Weights travel through shared memory."""
        return False

    def cudart(self) -> None:  # noqa: D102
        return None
