"""Sequences laid end to end attend each to itself, as they do alone: values and gradients of a whole model."""

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config

import trainers.verl.inside.attention  # noqa: F401  # registers itself
from eval.errors import ModelError
from trainers.verl.inside.attention import packed_attention
from trainers.verl.launch.overrides import PACKED_ATTENTION

SMALL = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
CONFIGS = {
    "Qwen2": Qwen2Config(**SMALL),
    "a window of three": MistralConfig(**SMALL, sliding_window=3),
    "one head each": Qwen2Config(**SMALL | {"num_key_value_heads": 4}),
}
LENGTHS = (5, 1, 9, 3)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_sequence_sees_itself_alone(config):
    torch.manual_seed(0)
    packed = AutoModelForCausalLM.from_config(config, attn_implementation=PACKED_ATTENTION).double()
    alone = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").double()
    alone.load_state_dict(packed.state_dict())
    rows = [torch.randint(1, 48, (1, length)) for length in LENGTHS]
    starts = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
    together = packed(
        torch.cat(rows, 1),
        position_ids=torch.cat([torch.arange(length) for length in LENGTHS])[None],
        use_cache=False,
        cu_seq_lens_q=starts,
        cu_seq_lens_k=starts,
        max_length_q=max(LENGTHS),
        max_length_k=max(LENGTHS),
    ).logits
    expected = torch.cat([alone(row, use_cache=False).logits for row in rows], 1)
    torch.testing.assert_close(together, expected, atol=1e-12, rtol=1e-10)
    pull = torch.randn_like(expected)
    gradients = torch.autograd.grad((together * pull).sum(), list(packed.parameters()))
    for ours, theirs in zip(
        gradients, torch.autograd.grad((expected * pull).sum(), list(alone.parameters())), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)


def test_a_cap_on_attention_scores_is_refused():
    value = torch.zeros(1, 1, 2, 8)
    starts = torch.tensor([0, 2], dtype=torch.int32)
    with pytest.raises(ModelError, match="caps its attention"):
        packed_attention(None, value, value, value, None, cu_seq_lens_q=starts, max_length_q=2, softcap=50.0)
