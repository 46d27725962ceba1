"""verl's FSDP engine with our log-probs and scores: one pass over the logits gives all that selection ranks by.

Imported in each worker through `model.external_lib`, before verl looks an engine up; registering for a CPU fills a gap,
and for an NVIDIA GPU takes the place of verl's own entry.

Shapes: N response tokens of a micro-batch, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from trainers.deviation import group_deviation
from trainers.distribution import chosen_logp, entropy, statistics
from trainers.head import Head, scaled
from trainers.verl.columns import column

SCORES, DISTANCE, LEAVE_ONE_OUT, LEARNING_RATE = "orch_scores", "orch_distance", "orch_leave_one_out", "orch_lr"
"""What the trainer tells the engine with a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsHead(Head):
    """A head for hidden states that are the logits already."""

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return z/T."""
        return scaled(hidden_ND, self.temperature)


class ScoringEngine(FSDPEngineWithLMHead):  # type: ignore[misc]  # verl is untyped
    """The engine of actor and reference."""

    def _build_fsdp_module(self, module: Any) -> Any:
        """Leave the reference unwrapped on a CPU: verl would offload it to pinned memory, which needs a GPU."""
        if get_device_name() == "cpu" and self.engine_config.forward_only:
            precision = self.engine_config.mixed_precision or {}
            self._autocast_dtype = PrecisionType.to_dtype(precision.get("param_dtype", "bf16"))
            return module
        return super()._build_fsdp_module(module)

    def train_batch(self, data: Any, loss_function: Any) -> Any:
        """Make one optimizer step at the learning rate that came with the batch."""
        rate = tu.get_non_tensor_data(data=data, key=LEARNING_RATE, default=None)
        assert rate is not None, "the trainer sends a learning rate with every batch"
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return super().train_batch(data, loss_function)

    def prepare_model_outputs(
        self, output: Any, output_args: Any, micro_batch: Any, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        """Return log-probs, and what else the batch asks for, of the response tokens; 0 elsewhere.

        In the place of verl's own: in float32 whatever the model's type, the same in every pass, for responses alone,
        and without a loop over tokens, which is what verl does where flash-attn is not installed.
        """
        rows = _response_places(micro_batch)
        logits_NV = _response_logits(output.logits, micro_batch, rows)
        token_N = micro_batch["responses"].values()
        if _told(micro_batch, SCORES):
            found = self._scores(logits_NV, token_N, micro_batch, rows)
        else:
            scaled_NV = scaled(logits_NV, float(_told(micro_batch, "temperature")))
            found = {"log_probs": chosen_logp(scaled_NV, token_N)}
            if _told(micro_batch, "calculate_entropy"):
                found["entropy"] = entropy(scaled_NV)
        return {name: _on_whole_sequences(value_N, micro_batch, rows) for name, value_N in found.items()}

    @torch.no_grad()
    def _scores(
        self, logits_NV: Tensor, token_N: Tensor, micro_batch: Any, rows: list[tuple[int, int, int]]
    ) -> dict[str, Tensor]:
        temperature, distance = float(_told(micro_batch, "temperature")), _told(micro_batch, DISTANCE)
        if distance:
            cell_N = _cells(micro_batch, rows)
            head = LogitsHead(weight_VD=logits_NV.new_empty(logits_NV.shape[1], 0), temperature=temperature)
            deviation_N, found = group_deviation(
                logits_NV,
                head,
                token_N,
                cell_N,
                distance=distance,
                leave_one_out=bool(_told(micro_batch, LEAVE_ONE_OUT)),
            )
        else:
            found = statistics(scaled(logits_NV, temperature), token_N)
            deviation_N = torch.zeros_like(found.entropy_N)
        return {
            "log_probs": found.logp_N,
            "entropy": found.entropy_N,
            "sum_pi_squared": found.purity_N,
            "orch_deviation": deviation_N,
        }


def _told(micro_batch: Any, key: str) -> Any:
    return tu.get_non_tensor_data(data=micro_batch, key=key, default=None)


def _response_places(micro_batch: Any) -> list[tuple[int, int, int]]:
    """(row, start, end) of the logits that predict each response: they stand one position before its tokens."""
    lengths = micro_batch["input_ids"].offsets().diff().tolist()
    responses = micro_batch["responses"].offsets().diff().tolist()
    return [
        (row, length - response - 1, length - 1)
        for row, (length, response) in enumerate(zip(lengths, responses, strict=True))
    ]


def _response_logits(logits: Tensor, micro_batch: Any, rows: list[tuple[int, int, int]]) -> Tensor:
    """The logits that predict response tokens: of padded rows, or of rows that lie end to end."""
    if not tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True):
        return torch.cat([logits[row, start:end] for row, start, end in rows])
    offsets = micro_batch["input_ids"].offsets().tolist()
    return torch.cat([logits[0, offsets[row] + start : offsets[row] + end] for row, start, end in rows])


def _cells(micro_batch: Any, rows: list[tuple[int, int, int]]) -> Tensor:
    """Labels, equal for the tokens of one group at one position of the response."""
    uids = column(micro_batch["uid"])
    place = {uid: index for index, uid in enumerate(dict.fromkeys(uids))}
    longest = max(end - start for _, start, end in rows)
    parts = [torch.arange(end - start) + place[uids[row]] * longest for row, start, end in rows]
    return torch.cat(parts).to(micro_batch["responses"].values().device)


def _on_whole_sequences(value_N: Tensor, micro_batch: Any, rows: list[tuple[int, int, int]]) -> Tensor:
    """Values of response tokens at the positions that predict them, as verl's own outputs are laid out."""
    offsets = micro_batch["input_ids"].offsets()
    firsts = offsets.tolist()
    place_N = torch.cat([torch.arange(firsts[row] + start, firsts[row] + end) for row, start, end in rows])
    whole = value_N.new_zeros(firsts[-1]).index_copy(0, place_N.to(value_N.device), value_N)
    return torch.nested.nested_tensor_from_jagged(whole, offsets)


EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(ScoringEngine)
EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor="nvidia")(
    ScoringEngine
)
