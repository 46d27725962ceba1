"""verl's own FSDP engine registered for a CPU, with its reference policy unwrapped: loaded by `model.external_lib`."""

from typing import Any

from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead


class PlainEngine(FSDPEngineWithLMHead):  # type: ignore[misc]  # verl is untyped
    """verl would offload the reference to pinned memory, which needs a GPU."""

    def _build_fsdp_module(self, module: Any) -> Any:
        if not self.engine_config.forward_only:
            return super()._build_fsdp_module(module)
        precision = self.engine_config.mixed_precision or {}
        self._autocast_dtype = PrecisionType.to_dtype(precision.get("param_dtype", "bf16"))
        return module


EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(PlainEngine)
