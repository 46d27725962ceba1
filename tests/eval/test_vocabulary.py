"""Models whose head has more rows than the tokenizer tokens, and whose padding would win nearly every draw."""

from __future__ import annotations

import string
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from eval.api import Completion, SampleRequest, SamplingSettings
from eval.engines import open_sampler
from eval.engines.decoding import Decoding, generate
from eval.engines.vllm import without_padding
from eval.engines.vocabulary import mark_tokens, num_tokens
from trainers.head.distribution import hidden_statistics
from trainers.head.operators import Head

SYMBOLS = [*string.ascii_lowercase, "<end>"]
ROWS = 40
SETTINGS = SamplingSettings(num_samples=4, temperature=1.0, max_new_tokens=12, template="plain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("padded")
    tokenizer = Qwen2Tokenizer(
        vocab={symbol: index for index, symbol in enumerate(SYMBOLS)},
        merges=[],
        eos_token="<end>",
        pad_token="<end>",
        unk_token="<end>",
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=ROWS,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=False,
        eos_token_id=26,
        pad_token_id=26,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[len(SYMBOLS) :] *= 20
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def completions(folder: Path, engine: str) -> list[Completion]:
    sampler = open_sampler(engine, folder, batch_sequences=8)
    try:
        prompt = sampler.encode_text("abc")
        asked = [SampleRequest(problem_id="p", index=index, prompt_tokens=prompt, seed=index) for index in range(8)]
        return sorted(sampler.sample(asked, SETTINGS), key=lambda completion: completion.index)
    finally:
        sampler.close()


def assert_all_tokens_are_text(found: list[Completion]) -> None:
    """Every token of a completion but the end is one letter; a row without a token would be none."""
    for completion in found:
        assert len(completion.text) == completion.num_tokens - (completion.finish_reason == "stop")


def test_hf_draws_only_what_the_tokenizer_can_spell(folder: Path) -> None:
    assert_all_tokens_are_text(completions(folder, "hf"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_vllm_draws_only_what_the_tokenizer_can_spell(folder: Path) -> None:
    pytest.importorskip("vllm", reason="make vllm, or make verl, builds an environment that has it")
    assert_all_tokens_are_text(completions(folder, "vllm"))


def test_a_worker_of_vllm_gives_no_probability_to_padding() -> None:
    logits_BV = torch.randn(3, ROWS)
    model = SimpleNamespace(compute_logits=lambda hidden: logits_BV.clone() if hidden else None)
    without_padding(SimpleNamespace(model_runner=SimpleNamespace(model=model)), 27)
    masked_BV = model.compute_logits(True)
    assert torch.equal(masked_BV[:, :27], logits_BV[:, :27])
    assert bool((masked_BV[:, 27:] == -torch.inf).all())
    assert model.compute_logits(False) is None, "a worker that has no logits is left in peace"


def test_training_scores_a_token_by_the_distribution_it_was_drawn_from(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    mark_tokens(model, SYMBOLS)
    decoding = Decoding(
        max_new_tokens=10, temperature=0.7, end_tokens=(), pad_token=26, batch_sequences=4, has_statistics=True
    )
    for response in generate(model, [[0, 1, 2]] * 4, seeds=range(4), decoding=decoding):
        tokens = torch.tensor([[0, 1, 2, *response.tokens]])
        with torch.no_grad():
            hidden_TD = model.get_decoder()(tokens).last_hidden_state[0, 2:-1]
            scored = hidden_statistics(hidden_TD, Head.of(model, 0.7), tokens[0, 3:])
            whole_TV = model(tokens).logits[0, 2:-1]
        logp_TV = torch.log_softmax(whole_TV[:, : len(SYMBOLS)].double() / 0.7, -1)
        expected = logp_TV.gather(1, tokens[0, 3:, None])[:, 0], -(logp_TV.exp() * logp_TV).sum(-1)
        for drawn, trained, slow in zip(response.statistics, (scored.logp_N, scored.entropy_N), expected, strict=False):
            torch.testing.assert_close(drawn, slow.float(), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(trained, slow.float(), atol=1e-4, rtol=1e-4)


def test_rows_beyond_the_config_are_padding_too_and_tokens_beyond_the_head_are_none() -> None:
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=37))
    assert num_tokens(model, ROWS) == 37
    mark_tokens(model, SYMBOLS)
    assert num_tokens(model, ROWS) == len(SYMBOLS)
    mark_tokens(model, range(50))
    assert num_tokens(model, ROWS) == 37
    assert num_tokens(model, 30) == 30


def test_saving_a_marked_model_leaves_its_config_as_it_was(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "before")
    mark_tokens(model, SYMBOLS)
    model.save_pretrained(tmp_path / "after")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()
