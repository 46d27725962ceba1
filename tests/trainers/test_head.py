from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Qwen2Config

from eval.errors import ModelError
from trainers.head.operators import Head, scaled

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "attn_implementation": "eager",
}


def hidden_and_logits(model):
    tokens = torch.arange(7)[None]
    with torch.no_grad():
        return model.get_decoder()(tokens).last_hidden_state[0], model(tokens).logits[0]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_logits_are_those_of_a_model_that_caps_them(temperature):
    torch.manual_seed(0)
    config = Gemma2Config(**SMALL, final_logit_softcapping=0.02, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config).eval()
    hidden_ND, logits_NV = hidden_and_logits(model)
    head = Head.of(model, temperature)
    assert head.weight_VD is model.get_input_embeddings().weight, "Gemma's head is tied"
    torch.testing.assert_close(head.logits(hidden_ND).detach(), logits_NV / temperature)
    assert float(logits_NV.abs().max()) < 0.02


def test_padding_behind_the_vocabulary_gets_no_probability():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Qwen2Config(**SMALL)).eval()
    hidden_ND, logits_NV = hidden_and_logits(model)
    model.config.vocab_size = 37  # rows 37 to 39 are padding
    torch.testing.assert_close(Head.of(model, 1.0).logits(hidden_ND).detach(), logits_NV[:, :37])


def test_a_model_that_rescales_its_logits_is_refused():
    model = SimpleNamespace(config=SimpleNamespace(logits_scaling=8.0))
    with pytest.raises(ModelError, match="logits_scaling"):
        Head.of(model, 1.0)


def test_the_temperature_divides_in_float32_whatever_the_model_computes_in():
    logits_NV = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    assert scaled(logits_NV, 0.3).dtype == torch.float32
    assert scaled(logits_NV, 0.3).tolist()[0] == pytest.approx([1 / 0.3, 2 / 0.3, 3 / 0.3], rel=1e-7)
    assert scaled(logits_NV.double(), 1.0).dtype == torch.float64
