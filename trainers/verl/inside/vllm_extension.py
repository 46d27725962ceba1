"""What runs inside vLLM's worker processes: it takes the trained weights, through a socket of this attempt alone."""

from __future__ import annotations

import os
from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from trainers.verl.launch.job import TOKEN


class OwnSocketExtension(vLLMColocateWorkerExtension):  # type: ignore[misc]  # verl is untyped
    """Takes weights where this attempt sends them: on a node of eight GPUs, eight trials may do so at once."""

    def _get_zmq_handle(self) -> str:
        return own_socket(super()._get_zmq_handle())


class CpuWorkerExtension(OwnSocketExtension):
    """Keeps weights replaceable on a CPU.

    vLLM's CPU build packs every linear layer for oneDNN and drops its weight, so that a sync would wait for ever;
    without oneDNN it keeps the weight.
    """

    def __new__(cls, **options: Any) -> CpuWorkerExtension:
        """Turn oneDNN off before vLLM loads the weights."""
        import vllm._custom_ops as operators

        operators._supports_onednn = False
        made: CpuWorkerExtension = super().__new__(cls, **options)
        return made


def own_socket(handle: str) -> str:
    """A socket's address with the attempt's token: all private Ray clusters of a machine have the same job id."""
    return handle.replace("zmq-", f"zmq-{os.environ[TOKEN]}-", 1)
