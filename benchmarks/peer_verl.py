"""What plain `verl.trainer.main_ppo` needs to run on a CPU at all, and nothing else: the peer of `bench_verl.py`.

Loaded in every process of the peer by VERL_USE_EXTERNAL_MODULES; the platform is ours
(`trainers.verl.inside.platform_cpu`).
"""

from typing import Any

import verl.utils.distributed as distributed

from trainers.verl.inside import platform_cpu  # noqa: F401  # registers the platform

_start_group = distributed.initialize_global_process_group_ray


def _start_group_of_gloo(timeout_second: Any = None, backend: str | None = None) -> Any:
    return _start_group(timeout_second=timeout_second, backend=backend or "cpu:gloo")


distributed.initialize_global_process_group_ray = _start_group_of_gloo
