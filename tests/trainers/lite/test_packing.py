from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from eval.engines import attention
from eval.engines.attention import IMPLEMENTATION, MAX_SCORES
from trainers.batch import RolloutBatch
from trainers.lite import forward as packing
from trainers.lite.forward import decoder_inputs, needed_hidden, passes

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
        model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES))
    model.set_attn_implementation(IMPLEMENTATION)
    return model.double().eval()


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


def run_row_by_row(
    model: Any, batch: RolloutBatch, needed_BT: torch.Tensor, sequences: int
) -> tuple[torch.Tensor, ...]:
    """The same by transformers' own attention over padded rows."""
    model.set_attn_implementation("sdpa")
    try:
        return run(model, batch, needed_BT, sequences)
    finally:
        model.set_attn_implementation(IMPLEMENTATION)


@pytest.mark.parametrize("prompt_lengths", [[5, 5, 5], [1, 6, 3], [1, 1, 1], [2, 9]])
@pytest.mark.parametrize("sequences", [100, 4])
@pytest.mark.parametrize("max_scores", [MAX_SCORES, 0], ids=["products", "fused kernel"])
def test_packing_changes_neither_hidden_states_nor_gradients(
    prompt_lengths: list[int], sequences: int, max_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MAX_SCORES", max_scores)
    model, batch = model_of(), batch_of(prompt_lengths)
    every_third = torch.arange(batch.response_mask_BT.numel()).view(batch.response_mask_BT.shape) % 3 == 0
    for needed_BT in (batch.response_mask_BT, batch.response_mask_BT & every_third):
        packed = run(model, batch, needed_BT, sequences)
        whole = run_row_by_row(model, batch, needed_BT, sequences)
        for found, expected in zip(packed, whole, strict=True):
            # transformers takes norms in float32 whatever the weights are.
            assert float((found - expected).norm()) <= 2e-6 * float(expected.norm())


def test_every_token_runs_once_and_a_shared_prompt_once_for_all() -> None:
    batch = batch_of([5, 8], group_size=4)
    (part,) = passes(batch, batch.response_mask_BT, 100)
    arguments = decoder_inputs(model_of().get_decoder(), part).arguments
    assert arguments["input_ids"].shape == (1, 4 + 7 + int(batch.response_length_B.sum()))
    prompts = arguments["input_ids"][0, :11].tolist()
    short, long = batch.tokens_BS[0, :4].tolist(), batch.tokens_BS[4, :7].tolist()
    assert prompts in (short + long, long + short)


def test_equal_labels_do_not_make_different_prompts_one() -> None:
    batch = batch_of([5, 5])
    batch.tokens_BS[1, 2] = (batch.tokens_BS[1, 2] + 1) % 23
    model = model_of()
    alone = batch.take(torch.tensor([1]))
    found = run(model, batch, batch.response_mask_BT, 100)[0][1]
    width = alone.response_mask_BT.shape[1]
    assert torch.allclose(found[:width], run(model, alone, alone.response_mask_BT, 1)[0][0], atol=1e-6)


def test_decoders_that_would_ignore_a_packing_run_row_by_row() -> None:
    batch = batch_of([5, 5])
    (part,) = passes(batch, batch.response_mask_BT, 100)
    other_attention = model_of()
    other_attention.set_attn_implementation("eager")
    for model in (model_of("sliding window"), other_attention):
        inputs = decoder_inputs(model.get_decoder(), part)
        assert inputs.arguments == {"input_ids": part.tokens_RL, "use_cache": False}
        assert torch.equal(inputs.index_N, part.row_N * part.tokens_RL.shape[1] + part.column_N)


@pytest.mark.parametrize("model_type", sorted(packing.PACKED_MODELS))
def test_every_packed_model_hands_its_packing_on(model_type: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **SIZES, head_dim=4, sliding_window=None)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=IMPLEMENTATION).double().eval()
    batch = batch_of([5, 2])
    (part,) = passes(batch, batch.response_mask_BT, 100)
    assert "packing" in decoder_inputs(model.get_decoder(), part).arguments
    packed = run(model, batch, batch.response_mask_BT, 100)
    whole = run_row_by_row(model, batch, batch.response_mask_BT, 100)
    assert float((packed[0] - whole[0]).norm()) <= 2e-6 * float(whole[0].norm())
