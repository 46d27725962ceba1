from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trainers.lite.score import score_rollouts

_spec = spec_from_file_location("scored_step", Path(__file__).with_name("scored_step.py"))
step = module_from_spec(_spec)
_spec.loader.exec_module(step)

FIELDS = ("old_logp_BT", "entropy_BT", "purity_BT", "deviation_BT", "ref_logp_BT")


def distributions(model, batch, row, temperature):
    """Return the next-token distributions of one response, (T, V), from a pass over it alone."""
    start, length = int(batch.prompt_length_B[row]), int(batch.response_length_B[row])
    logits = model(batch.tokens_BS[row : row + 1, : start + length]).logits[0, start - 1 : start + length - 1]
    return torch.softmax(logits / temperature, -1).detach()


def slow_deviation(model, batch, row, temperature):
    peers = [
        distributions(model, batch, peer, temperature)
        for peer in range(len(batch))
        if batch.group_B[peer] == batch.group_B[row]
    ]
    found = []
    for t, p in enumerate(distributions(model, batch, row, temperature)):
        mean = torch.stack([peer[t] for peer in peers if len(peer) > t]).mean(0)
        middle = (p + mean) / 2
        found.append(float((p * (p / middle).log()).sum() + (mean * (mean / middle).log()).sum()) / 2)
    return found


@pytest.mark.parametrize("micro", [100, 4, 1])
def test_scores_equal_one_pass_over_each_response_alone(micro):
    model, reference = step.a_model(0), step.a_model(1)
    recipe = step.a_recipe({"kl_coef": 0.1}, {"method": "ict", "ratio": 0.3})
    batch = score_rollouts(model, reference, step.a_batch(0, pad=3), recipe, micro_batch_sequences=micro)
    for row in range(len(batch)):
        length = int(batch.response_length_B[row])
        p_TV = distributions(model, batch, row, 0.8)
        chosen_T1 = batch.response_BT[row, :length, None]
        close = {"atol": 1e-6, "rtol": 1e-6}
        torch.testing.assert_close(batch.old_logp_BT[row, :length], p_TV.gather(1, chosen_T1)[:, 0].log(), **close)
        torch.testing.assert_close(batch.entropy_BT[row, :length], torch.special.entr(p_TV).sum(-1), **close)
        torch.testing.assert_close(batch.purity_BT[row, :length], p_TV.square().sum(-1), **close)
        reference_TV = distributions(reference, batch, row, 0.8)
        expected = reference_TV.gather(1, chosen_T1)[:, 0].log()
        torch.testing.assert_close(batch.ref_logp_BT[row, :length], expected, **close)
        assert batch.deviation_BT[row, :length].tolist() == pytest.approx(
            slow_deviation(model, batch, row, 0.8), abs=1e-6
        )
        assert all(float(getattr(batch, name)[row, length:].abs().sum()) == 0.0 for name in FIELDS)


def test_scores_follow_their_rows_through_any_order_and_micro_batching():
    model = step.a_model(0)
    recipe = step.a_recipe({}, {"method": "ict", "ratio": 0.3})
    batch = step.a_batch(4)
    expected = score_rollouts(model, None, batch, recipe, micro_batch_sequences=100)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    found = score_rollouts(model, None, batch.take(order), recipe, micro_batch_sequences=3)
    for name in FIELDS[:-1]:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name)[order], atol=1e-9, rtol=1e-9)


def test_only_what_the_recipe_needs_is_measured():
    scored = score_rollouts(step.a_model(0), None, step.a_batch(0), step.a_recipe(), micro_batch_sequences=5)
    assert scored.deviation_BT is None
    assert scored.ref_logp_BT is None
    with pytest.raises(AssertionError, match="reference"):
        score_rollouts(step.a_model(0), None, step.a_batch(0), step.a_recipe({"kl_coef": 0.1}), micro_batch_sequences=5)


FAMILIES = {
    "llama": lambda sizes: LlamaForCausalLM(LlamaConfig(**sizes)),
    "window": lambda sizes: MistralForCausalLM(MistralConfig(**sizes, sliding_window=4)),
    "qwen3": lambda sizes: Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8)),
    "head with a bias": lambda sizes: PhiForCausalLM(PhiConfig(**sizes)),
    "no `layers`": lambda sizes: GPT2LMHeadModel(
        GPT2Config(vocab_size=step.VOCABULARY, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_whole_model_in_other_families(family):
    sizes = {"vocab_size": step.VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    model = FAMILIES[family](sizes).double().eval()
    batch = score_rollouts(model, None, step.a_batch(0), step.a_recipe(), micro_batch_sequences=5)
    for row in range(len(batch)):
        length = int(batch.response_length_B[row])
        chosen_T1 = batch.response_BT[row, :length, None]
        expected = distributions(model, batch, row, 0.8).gather(1, chosen_T1)[:, 0].log()
        torch.testing.assert_close(batch.old_logp_BT[row, :length], expected, atol=1e-9, rtol=1e-9)
