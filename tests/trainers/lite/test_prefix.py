from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from trainers.batch import RolloutBatch
from trainers.lite import forward
from trainers.lite.forward import needed_hidden, passes
from trainers.lite.prefix import decoder_inputs

SIZES = {
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def model_of(kind: str = "qwen2") -> Any:
    torch.manual_seed(0)
    if kind == "sliding window":
        return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)).double().eval()
    return Qwen2ForCausalLM(Qwen2Config(**SIZES)).double().eval()


def batch_of(prompt_lengths: list[int], group_size: int = 3, seed: int = 0) -> RolloutBatch:
    """Groups that share a prompt, as rollouts do, with ragged responses."""
    generator = torch.Generator().manual_seed(seed)
    rows = len(prompt_lengths) * group_size
    prompt_length_B = torch.tensor(prompt_lengths).repeat_interleave(group_size)
    response_length_B = torch.randint(1, 8, (rows,), generator=generator)
    tokens_BS = torch.randint(0, 23, (rows, int((prompt_length_B + response_length_B).max())), generator=generator)
    for group, length in enumerate(prompt_lengths):
        first = group * group_size
        tokens_BS[first : first + group_size, :length] = tokens_BS[first, :length].clone()
    return RolloutBatch(
        tokens_BS=tokens_BS,
        prompt_length_B=prompt_length_B,
        response_length_B=response_length_B,
        group_B=torch.arange(len(prompt_lengths)).repeat_interleave(group_size),
        uid_B=torch.arange(rows),
        reward_B=torch.zeros(rows),
        advantage_B=torch.zeros(rows),
    )


def run(model: Any, batch: RolloutBatch, needed_BT: torch.Tensor, sequences: int) -> tuple[torch.Tensor, ...]:
    """Hidden states at the needed tokens in batch order, and the gradients of a fixed function of them."""
    model.zero_grad()
    hidden_BTD = torch.zeros(*needed_BT.shape, SIZES["hidden_size"], dtype=torch.float64)
    for part in passes(batch, needed_BT, sequences):
        rows, positions = part.needed_RT.nonzero(as_tuple=True)
        hidden_ND = needed_hidden(model, part)
        weight_ND = torch.cos(torch.arange(hidden_ND.numel()).view(hidden_ND.shape) * 0.1 + 1)
        (hidden_ND * weight_ND).sum().backward()
        hidden_BTD[part.rows_R[rows], positions] = hidden_ND.detach()
    return hidden_BTD, *(
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for parameter in model.parameters()
    )


@pytest.fixture
def unshared(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def switch() -> None:
        monkeypatch.setattr(
            forward,
            "decoder_inputs",
            lambda decoder, part: (
                {"input_ids": part.tokens_RL, "use_cache": False},
                torch.zeros_like(part.prompt_length_R),
            ),
        )

    return switch


@pytest.mark.parametrize("prompt_lengths", [[5, 5, 5], [1, 6, 3], [1, 1, 1], [2, 9]])
@pytest.mark.parametrize("sequences", [100, 4])
def test_sharing_prompts_changes_neither_hidden_states_nor_gradients(
    prompt_lengths: list[int], sequences: int, unshared: Callable[[], None]
) -> None:
    model, batch = model_of(), batch_of(prompt_lengths)
    every_third = torch.arange(batch.response_mask_BT.numel()).view(batch.response_mask_BT.shape) % 3 == 0
    masks = (batch.response_mask_BT, batch.response_mask_BT & every_third)
    shared = [run(model, batch, needed_BT, sequences) for needed_BT in masks]
    unshared()
    whole = [run(model, batch, needed_BT, sequences) for needed_BT in masks]
    for found, expected in zip(shared[0] + shared[1], whole[0] + whole[1], strict=True):
        # transformers takes norms in float32 whatever the weights are.
        assert float((found - expected).norm()) <= 2e-6 * float(expected.norm())


def test_a_shared_prompt_runs_once_and_its_responses_alone_follow() -> None:
    batch = batch_of([5, 8], group_size=4)
    (part,) = passes(batch, batch.response_mask_BT, 100)
    arguments, first_R = decoder_inputs(model_of().get_decoder(), part)
    assert arguments["past_key_values"].get_seq_length() == 7
    assert arguments["input_ids"].shape == (8, int(batch.response_length_B.max()))
    assert first_R.tolist() == (part.prompt_length_R - 1).tolist()
    assert torch.equal(arguments["input_ids"][:, 0], part.tokens_RL[torch.arange(8), first_R])


def test_equal_labels_do_not_make_different_prompts_one() -> None:
    batch = batch_of([5, 5])
    batch.tokens_BS[1, 2] = (batch.tokens_BS[1, 2] + 1) % 23
    (part,) = passes(batch, batch.response_mask_BT, 100)
    arguments, _ = decoder_inputs(model_of().get_decoder(), part)
    model = model_of()
    alone = batch.take(torch.tensor([1]))
    found = run(model, batch, batch.response_mask_BT, 100)[0][1]
    width = alone.response_mask_BT.shape[1]
    assert torch.allclose(found[:width], run(model, alone, alone.response_mask_BT, 1)[0][0], atol=1e-6)
    assert arguments["use_cache"]


def test_decoders_that_forget_their_prompt_run_whole_rows() -> None:
    batch = batch_of([5, 5])
    (part,) = passes(batch, batch.response_mask_BT, 100)
    for decoder in (model_of("sliding window").get_decoder(), model_of().get_decoder().train()):
        decoder.gradient_checkpointing = decoder.training
        arguments, first_R = decoder_inputs(decoder, part)
        assert arguments == {"input_ids": part.tokens_RL, "use_cache": False}
        assert not first_R.any()
