"""verl's FSDP engine with our log-probs and scores: its head is asked for them, and gives no logits.

Imported in each worker through `model.external_lib`, before verl looks an engine up; registering for a CPU fills a gap,
and for an NVIDIA GPU takes the place of verl's own entry.

Shapes: N response tokens of a micro-batch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import postprocess_batch_func

import trainers.verl.inside.attention  # noqa: F401  # known to transformers from here on
from eval.engines.vocabulary import mark_tokens
from trainers.verl.inside.columns import column
from trainers.verl.inside.head import LOG_PROB_NAMES, LOSS_NAMES, SCORE_NAMES, AskedHead, Question
from trainers.verl.inside.passes import cut_by_tokens, cut_into, ends_here
from trainers.verl.launch.pulse import Pulse, PulseFile

SCORES, DISTANCE, LEAVE_ONE_OUT, LEARNING_RATE = "orch_scores", "orch_distance", "orch_leave_one_out", "orch_lr"
"""What the trainer tells the engine with a batch."""
FIRST_CELL, COMPLETE = "orch_first_cell", "orch_complete"
"""What the engine puts beside each row of a pass over groups: the label of its first token, which is its group's, and
whether the pass has the last member of its group."""
SCALER_FILE = "loss_scale.json"


class ScoringEngine(FSDPEngineWithLMHead):  # type: ignore[misc]  # verl is untyped
    """The engine of actor and reference."""

    pulse_file: PulseFile | None = None
    """Where the first worker tells of each pass."""
    num_passes = 0
    """Of the present call."""

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

    def save_checkpoint(self, local_path: str, *arguments: Any, **options: Any) -> None:
        """Save what verl does, and the scale of float16's loss, which is the same on every worker."""
        super().save_checkpoint(local_path, *arguments, **options)
        if self.scaler is not None and torch.distributed.get_rank() == 0:
            (Path(local_path) / SCALER_FILE).write_text(json.dumps(self.scaler.state_dict()))

    def load_checkpoint(self, local_path: str, *arguments: Any, **options: Any) -> None:
        """Load what `save_checkpoint` saved."""
        super().load_checkpoint(local_path, *arguments, **options)
        if self.scaler is not None and (Path(local_path) / SCALER_FILE).is_file():
            self.scaler.load_state_dict(json.loads((Path(local_path) / SCALER_FILE).read_text()))

    def _build_module(self) -> Any:
        """Build the model, and let its head answer questions."""
        module = super()._build_module()
        mark_tokens(module, self.model_config.tokenizer)
        self.head = AskedHead.install(module)
        return module

    def forward_backward_batch(self, data: Any, loss_function: Any, forward_only: bool = False) -> Any:
        """Run verl's passes over a worker's share, or our own where groups are averaged, and count them."""
        self.num_passes = 0
        if forward_only and _told(data, SCORES) and _told(data, DISTANCE):
            assert loss_function is None, "scores are asked for without a loss"
            return self._score_groups(data)
        return super().forward_backward_batch(data, loss_function, forward_only)

    def _score_groups(self, data: Any) -> Any:
        """Run passes over neighbouring rows; the pass with a group's last member answers for all of its members.

        verl's own cut would need a group to fit one pass, and would leave many groups open at a time if it need not.
        """
        cut = self._cut(data)
        uids = column(data["uid"])
        longest = int(data["responses"].offsets().diff().max())
        number = {uid: number for number, uid in enumerate(dict.fromkeys(uids))}
        complete = ends_here([[uids[row] for row in rows] for rows in cut])
        micro_batches, outputs = [], []
        with torch.no_grad(), self.head.over_passes() as answers:
            for rows, is_complete in zip(cut, complete, strict=True):
                micro_batch = tu.index_select_tensor_dict(data, list(rows))
                micro_batch[FIRST_CELL] = torch.tensor([number[uids[row]] * longest for row in rows])
                micro_batch[COMPLETE] = torch.tensor(is_complete)
                outputs.append(self.forward_step(micro_batch, None, forward_only=True)[1])
                micro_batches.append(micro_batch)
            # Only now are the answers whole: those for a group that was cut came with its last member.
            for micro_batch, output, answer_NK in zip(micro_batches, outputs, answers, strict=True):
                output["model_output"] = _laid_out(answer_NK, micro_batch)
        return postprocess_batch_func(output_lst=outputs, indices=[list(rows) for rows in cut], data=data)

    def _cut(self, data: Any) -> list[range]:
        """Return the rows of each pass, of which all workers make equally many."""
        lengths = data["input_ids"].offsets().diff().tolist()
        if not _told(data, "use_dynamic_bsz"):
            size = _told(data, "micro_batch_size_per_gpu")
            return [range(first, min(first + size, len(lengths))) for first in range(0, len(lengths), size)]
        num_passes = len(cut_by_tokens(lengths, _told(data, "max_token_len_per_gpu")))
        if torch.distributed.is_initialized():
            most = torch.tensor(num_passes, device=get_device_name())
            torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=self.get_data_parallel_group())
            num_passes = int(most)
        return cut_into(lengths, num_passes)

    def forward_step(self, micro_batch: Any, loss_function: Any, forward_only: bool) -> Any:
        """Run the model over a micro-batch, and the loss."""
        with self.head.without_cap():
            found = super().forward_step(micro_batch, loss_function, forward_only)
        self.num_passes += 1
        if self.pulse_file is not None:
            doing = "score" if forward_only else "update"
            self.pulse_file.beat(Pulse(doing=doing, done=self.num_passes, unit="passes"))
        return found

    def prepare_model_inputs(self, micro_batch: Any) -> Any:
        """Return what verl's own does, and ask the head for what the batch wants of its response tokens."""
        rows = _response_places(micro_batch)
        inputs, output_args = super().prepare_model_inputs(micro_batch)
        if _is_packed(micro_batch):
            offsets = micro_batch["input_ids"].offsets()
            inputs["cu_seq_lens_q"] = inputs["cu_seq_lens_k"] = offsets.to(torch.int32)
            inputs["max_length_q"] = inputs["max_length_k"] = int(offsets.diff().max())
        self.head.ask(_question(micro_batch, rows, inputs["input_ids"].shape[1]))
        return inputs, output_args

    def prepare_model_outputs(
        self, output: Any, output_args: Any, micro_batch: Any, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        """Return log-probs, and what else the batch asks for, of the response tokens; 0 elsewhere.

        In the place of verl's own: in float32 whatever the model's type, the same in every pass, for responses alone,
        without logits, and without a loop over tokens, which is what verl does where flash-attn is not installed.
        """
        return _laid_out(output.logits[0], micro_batch)


def _laid_out(answer_NK: Tensor, micro_batch: Any) -> dict[str, Tensor]:
    """Return each number that the head said, by verl's names and in its layout."""
    rows = _response_places(micro_batch)
    return {
        name: _on_whole_sequences(value_N, micro_batch, rows)
        for name, value_N in zip(_names(micro_batch), answer_NK.unbind(-1), strict=True)
    }


def _told(micro_batch: Any, key: str) -> Any:
    return tu.get_non_tensor_data(data=micro_batch, key=key, default=None)


def _is_packed(micro_batch: Any) -> bool:
    return bool(tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True))


def _response_places(micro_batch: Any) -> list[tuple[int, int, int]]:
    """(row, start, end) of the logits that predict each response: they stand one position before its tokens."""
    lengths = micro_batch["input_ids"].offsets().diff().tolist()
    responses = micro_batch["responses"].offsets().diff().tolist()
    return [
        (row, length - response - 1, length - 1)
        for row, (length, response) in enumerate(zip(lengths, responses, strict=True))
    ]


def _names(micro_batch: Any) -> tuple[str, ...]:
    if _told(micro_batch, SCORES):
        return SCORE_NAMES
    return LOSS_NAMES if _told(micro_batch, "calculate_entropy") else LOG_PROB_NAMES


def _question(micro_batch: Any, rows: list[tuple[int, int, int]], width: int) -> Question:
    """What the head is to say; its positions lie end to end, or in padded rows of one width."""
    if _is_packed(micro_batch):
        firsts = micro_batch["input_ids"].offsets().tolist()
    else:
        firsts = [row * width for row in range(len(rows) + 1)]
    token_N = micro_batch["responses"].values()
    distance = _told(micro_batch, DISTANCE) if _told(micro_batch, SCORES) else None
    cells = _cells(micro_batch, rows) if distance else {}
    return Question(
        names=_names(micro_batch),
        place_N=_places(firsts, rows).to(token_N.device),
        token_N=token_N,
        temperature=float(_told(micro_batch, "temperature")),
        distance=distance or None,
        leave_one_out=bool(_told(micro_batch, LEAVE_ONE_OUT)),
        **cells,
    )


def _places(firsts: list[int], rows: list[tuple[int, int, int]]) -> Tensor:
    """Positions that predict response tokens, int64 (N,), from where each row starts."""
    return torch.cat([torch.arange(firsts[row] + start, firsts[row] + end) for row, start, end in rows])


def _cells(micro_batch: Any, rows: list[tuple[int, int, int]]) -> dict[str, Tensor]:
    """Return the parts of a question that say which tokens are averaged, and which groups have all of theirs."""
    first_B, device = micro_batch[FIRST_CELL].cpu(), micro_batch["responses"].values().device
    length_B = torch.tensor([end - start for _, start, end in rows])
    group_N = first_B.repeat_interleave(length_B)
    position_N = torch.cat([torch.arange(length) for length in length_B.tolist()])
    complete_G = first_B[micro_batch[COMPLETE].cpu()].unique()
    found = {"cell_N": group_N + position_N, "group_N": group_N, "complete_G": complete_G}
    return {name: value.to(device) for name, value in found.items()}


def _on_whole_sequences(value_N: Tensor, micro_batch: Any, rows: list[tuple[int, int, int]]) -> Tensor:
    """Values of response tokens at the positions that predict them, as verl's own outputs are laid out."""
    offsets = micro_batch["input_ids"].offsets().to(value_N.device)
    place_N = _places(offsets.tolist(), rows)
    whole = value_N.new_zeros(int(offsets[-1])).index_copy(0, place_N.to(value_N.device), value_N)
    return torch.nested.nested_tensor_from_jagged(whole, offsets)


EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(ScoringEngine)
EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor="nvidia")(
    ScoringEngine
)
