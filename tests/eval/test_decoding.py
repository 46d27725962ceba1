from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from eval.engines import decoding as module
from eval.engines import drawing
from eval.engines.decoding import Decoding, generate
from eval.engines.drawing import draw, statistics
from eval.errors import ModelError
from eval.seeds import derive_seed, uniforms

END, PAD, VOCABULARY = 31, 30, 32
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "bos_token_id": None,
}
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [1, 2, 3], [11, 12], [4]]


def model_of(kind: str) -> torch.nn.Module:
    torch.manual_seed(3)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    if kind == "sliding window":
        return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)).eval()
    return Qwen2ForCausalLM(Qwen2Config(**SIZES)).eval()


def decoding(**changes: object) -> Decoding:
    values = {
        "max_new_tokens": 24,
        "temperature": 1.0,
        "end_tokens": (END,),
        "pad_token": PAD,
        "batch_sequences": 64,
    } | changes
    return Decoding(**values)  # type: ignore[arg-type]


def decode(model: torch.nn.Module, prompts: list[list[int]], seeds: list[int], **changes: object) -> list[list[int]]:
    responses = list(generate(model, prompts, seeds=seeds, decoding=decoding(**changes)))
    assert sorted(response.row for response in responses) == list(range(len(prompts)))
    for response in responses:
        assert response.is_complete == (response.tokens[-1] == END)
    return [response.tokens for response in sorted(responses, key=lambda response: response.row)]


def reference_tokens(model: torch.nn.Module, prompt: list[int], seed: int, *, length: int = 24) -> list[int]:
    """No cache, no batch: a whole forward pass a token."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + length and tokens[-1:] != [END]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
        cdf = logits.double().softmax(-1).cumsum(-1)
        u = uniforms(np.array([seed], dtype=np.uint64), len(tokens) - len(prompt))[0]
        tokens.append(int((cdf <= u * cdf[-1]).sum()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("kind", ["qwen2", "llama", "sliding window"])
def test_greedy_decoding_equals_transformers_generate_token_for_token(kind: str) -> None:
    model = model_of(kind)
    ours = decode(model, PROMPTS, [0] * len(PROMPTS), temperature=0.0)
    for prompt, tokens in zip(PROMPTS, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=24,
        )[0, len(prompt) :]
        assert tokens == theirs.tolist()
    assert len({tuple(tokens) for tokens in ours}) > 1


@pytest.mark.parametrize("kind", ["qwen2", "sliding window"])
def test_sampling_equals_a_reference_without_cache_or_batch(kind: str) -> None:
    model = model_of(kind).double()
    prompts = PROMPTS * 4
    seeds = [derive_seed("decode", row) for row in range(len(prompts))]
    ours = decode(model, prompts, seeds)
    assert ours == [reference_tokens(model, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    assert {len(tokens) for tokens in ours} - {24}, "some rows must end early, so that rows are dropped"


def test_a_sample_is_the_same_in_any_batch_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen2").double()  # in float32, the rounding of some processor might draw another token
    prompts = PROMPTS * 5
    seeds = list(range(len(prompts)))
    together = decode(model, prompts, seeds)
    assert decode(model, prompts, seeds, batch_sequences=4) == together
    backwards = decode(model, prompts[::-1], seeds[::-1])
    assert backwards[::-1] == together
    monkeypatch.setattr(module, "PREFILL_TOKENS", 7)
    monkeypatch.setattr(module, "FIRST_CAPACITY", 2)
    assert decode(model, prompts, seeds) == together


def test_slices_of_prompts_join_for_sliding_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("sliding window").double()
    seeds = list(range(len(PROMPTS)))
    together = decode(model, PROMPTS, seeds)
    monkeypatch.setattr(module, "PREFILL_TOKENS", 7)
    assert decode(model, PROMPTS, seeds) == together


def test_statistics_of_each_token_equal_a_float64_pass_over_the_whole_response() -> None:
    model = model_of("qwen2")
    asked = decoding(has_statistics=True, temperature=0.7, batch_sequences=4)
    for response in generate(model, PROMPTS, seeds=range(len(PROMPTS)), decoding=asked):
        prompt = PROMPTS[response.row]
        with torch.no_grad():
            logits = model.double()(input_ids=torch.tensor([prompt + response.tokens])).logits[0, len(prompt) - 1 : -1]
        model.float()
        logp = (logits / 0.7).log_softmax(-1)
        expected = torch.stack(
            [
                logp.gather(1, torch.tensor(response.tokens)[:, None])[:, 0],
                -(logp.exp() * logp).sum(-1),
                logp.exp().square().sum(-1),
            ]
        )
        assert response.statistics is not None
        assert torch.allclose(response.statistics.double(), expected, atol=2e-5)


def test_statistics_count_impossible_tokens_as_nothing() -> None:
    logits = torch.tensor([[0.0, float("-inf"), 0.0]])
    found = statistics(logits, torch.tensor([2]), temperature=1.0)
    assert found[:, 0].tolist() == pytest.approx([-math.log(2), math.log(2), 0.5])


def test_drawn_frequencies_follow_the_softmax_at_the_temperature() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0, float("-inf"), 1.0]])
    seeds = np.arange(40_000, dtype=np.uint64)
    for temperature in (0.6, 1.0, 2.0):
        uniform = torch.from_numpy(uniforms(seeds, 5))
        drawn = draw(logits.expand(len(seeds), -1), uniform, temperature=temperature)
        counts = torch.bincount(drawn, minlength=5).double()
        expected = (logits[0].double() / temperature).softmax(-1) * len(seeds)
        assert counts[3] == 0
        chi_square = float(((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum())
        assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    uniform = torch.linspace(0, 1 - 1e-12, 1000, dtype=torch.float64)

    def shares(top_p: float) -> list[float]:
        drawn = draw(logits.expand(1000, -1), uniform, temperature=1.0, top_p=top_p)
        return (torch.bincount(drawn, minlength=4) / 1000).tolist()

    assert shares(0.5) == [0, 1, 0, 0]
    assert shares(0.74) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=2e-3)
    assert shares(0.8) == pytest.approx([0, 5 / 9, 1.5 / 9, 2.5 / 9], abs=2e-3)
    assert shares(1.0) == pytest.approx([0.1, 0.5, 0.15, 0.25], abs=2e-3)


def test_the_largest_uniform_still_draws_a_token_of_positive_mass() -> None:
    logits = torch.tensor([[0.3, 1.7, float("-inf"), float("-inf")]])
    assert draw(logits, torch.tensor([1 - 2.0**-53], dtype=torch.float64), temperature=1.0).tolist() == [1]
    assert draw(logits, torch.tensor([0.0], dtype=torch.float64), temperature=1.0).tolist() == [0]


@pytest.mark.parametrize("size", [255, 256, 257, 512, 1000])
def test_two_looks_at_a_vocabulary_draw_what_one_running_sum_draws(size: int) -> None:
    torch.manual_seed(0)
    logits_BV = torch.randn(200, size) * 4
    logits_BV[:50, 1:] = -torch.inf
    uniform_B = torch.rand(200, dtype=torch.float64)
    uniform_B[49:53] = torch.tensor([0.0, 0.0, 1 - 2**-53, 1 - 2**-53])
    cdf_BV = logits_BV.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    expected_B = torch.searchsorted(cdf_BV, uniform_B[:, None] * cdf_BV[:, -1:], right=True)[:, 0]
    assert draw(logits_BV, uniform_B, temperature=1.0).tolist() == expected_B.clamp(max=size - 1).tolist()


def test_large_vocabularies_are_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    uniform = torch.from_numpy(uniforms(np.arange(50, dtype=np.uint64), 0))
    whole = draw(logits, uniform, temperature=1.0)
    monkeypatch.setattr(drawing, "SAMPLED_ELEMENTS", 120)
    assert draw(logits, uniform, temperature=1.0).tolist() == whole.tolist()


def test_a_callback_can_end_a_response_early() -> None:
    model = model_of("qwen2")
    seeds = list(range(len(PROMPTS)))
    free = decode(model, PROMPTS, seeds)
    cut = [
        response.tokens
        for response in sorted(
            generate(model, PROMPTS, seeds=seeds, decoding=decoding(is_finished=lambda tokens: len(tokens) == 3)),
            key=lambda response: response.row,
        )
    ]
    assert cut == [tokens[:3] for tokens in free]


def test_a_prompt_that_does_not_fit_the_context_is_refused() -> None:
    model = model_of("qwen2")
    with pytest.raises(ModelError, match="exceed the model's context of 128"):
        list(generate(model, [[1] * 120], seeds=[0], decoding=decoding()))
    with pytest.raises(ModelError, match="without a token"):
        list(generate(model, [[]], seeds=[0], decoding=decoding()))


def test_decoding_leaves_the_model_in_the_mode_it_was_in() -> None:
    model = model_of("qwen2").train()
    decode(model, PROMPTS[:2], [0, 1])
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_decoding_works_in_bfloat16() -> None:
    model = model_of("qwen2").to(torch.bfloat16)
    ours = decode(model, PROMPTS, list(range(len(PROMPTS))))
    assert all(1 <= len(tokens) <= 24 for tokens in ours)
