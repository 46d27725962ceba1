"""verl's own worker extension of vLLM, with oneDNN off: on a CPU vLLM would pack its weights, and a sync would hang."""

from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class PlainExtension(vLLMColocateWorkerExtension):  # type: ignore[misc]  # verl is untyped
    """What a weight sync talks to."""

    def __new__(cls, **options: Any) -> Any:
        """Turn oneDNN off before vLLM loads the weights."""
        import vllm._custom_ops as operators

        operators._supports_onednn = False
        return super().__new__(cls, **options)
