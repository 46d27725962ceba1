from __future__ import annotations

import shutil
import string
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from eval.api import Completion, SampleRequest, SamplingSettings
from eval.engines import open_sampler
from eval.engines.hf import HfSampler, live_digest, open_hf_sampler
from eval.errors import EngineError, ModelError

SYMBOLS = [*string.ascii_lowercase, "<end>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tokenizer = Qwen2Tokenizer(
        vocab={symbol: index for index, symbol in enumerate(SYMBOLS)},
        merges=[],
        eos_token="<end>",
        pad_token="<end>",
        unk_token="<end>",
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(SYMBOLS),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
        eos_token_id=26,
        pad_token_id=26,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def settings(**changes: object) -> SamplingSettings:
    values = {"num_samples": 4, "temperature": 1.0, "max_new_tokens": 20, "template": "plain"} | changes
    return SamplingSettings(**values)  # type: ignore[arg-type]


def requests(sampler: HfSampler, *texts: str, num_samples: int = 4) -> list[SampleRequest]:
    return [
        SampleRequest(problem_id=text, index=index, prompt_tokens=sampler.encode_text(text), seed=10 * row + index)
        for row, text in enumerate(texts)
        for index in range(num_samples)
    ]


def by_request(completions: list[Completion]) -> dict[tuple[str, int], Completion]:
    return {(completion.problem_id, completion.index): completion for completion in completions}


def test_every_request_is_answered_once_whatever_the_batch(folder: Path) -> None:
    sampler = open_hf_sampler(folder, dtype="float64")
    asked = requests(sampler, "abc", "q", "xyzzy")
    answers = list(sampler.sample(asked, settings()))
    assert len(answers) == len(asked)
    small = open_hf_sampler(folder, batch_sequences=3, dtype="float64")
    assert by_request(answers) == by_request(list(small.sample(asked[::-1], settings())))
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    for answer in answers:
        assert answer.num_tokens == len(answer.text) + (answer.finish_reason == "stop")
        assert "<" not in answer.text


def test_a_stop_string_ends_a_completion_and_is_cut_off(folder: Path) -> None:
    sampler = open_hf_sampler(folder)
    asked = requests(sampler, "abc", "q")
    free = by_request(list(sampler.sample(asked, settings())))
    stopped = by_request(list(sampler.sample(asked, settings(stop=("e", "t")))))
    for place, answer in stopped.items():
        whole = free[place].text
        cut = min((at for at in (whole.find("e"), whole.find("t")) if at >= 0), default=len(whole))
        assert answer.text == whole[:cut]
        if cut < len(whole):
            assert answer.finish_reason == "stop"
            assert answer.num_tokens == cut + 1
    assert stopped != free


def test_the_digest_of_a_sampler_follows_weights_and_type(folder: Path) -> None:
    sampler = open_hf_sampler(folder)
    assert sampler.model_digest == open_hf_sampler(folder).model_digest
    assert sampler.model_digest != open_hf_sampler(folder, dtype="bfloat16").model_digest
    assert sampler.name.startswith("hf 5.")
    model = sampler._model
    before = live_digest(model)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-6
    assert live_digest(model) != before
    assert len(live_digest(model.to(torch.bfloat16))) == 64


def test_a_chat_needs_a_chat_template(folder: Path) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        open_hf_sampler(folder).encode([{"role": "user", "content": "hello"}])


def test_what_cannot_be_opened_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        open_hf_sampler(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="no safetensors file"):
        open_hf_sampler(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="transformers cannot load the model"):
        open_hf_sampler(tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="torch sees none"):
            open_hf_sampler(folder, device="cuda")


def test_the_engine_is_opened_by_name(folder: Path) -> None:
    sampler = open_sampler("hf", folder, batch_sequences=2)
    asked = requests(HfSampler(None, sampler._tokenizer, model_digest="", batch_sequences=1), "abc")  # type: ignore[attr-defined]
    assert len(list(sampler.sample(asked, settings()))) == 4
    sampler.close()


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(folder: Path) -> None:
    settings = SamplingSettings(num_samples=1, temperature=1.0, max_new_tokens=8, template="plain")
    alone, gang = (open_sampler("hf", folder, dtype="float64", num_workers=count) for count in (1, 2))
    try:
        requests = [
            SampleRequest(problem_id=f"p-{n}", index=n, prompt_tokens=alone.encode_text("abc"), seed=n)
            for n in range(12)
        ]
        assert gang.encode_text("abc") == alone.encode_text("abc")
        assert gang.model_digest == alone.model_digest
        assert {c.index: c.text for c in gang.sample(requests, settings)} == {
            c.index: c.text for c in alone.sample(requests, settings)
        }
    finally:
        gang.close()


def test_a_tokenizer_of_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    many = {chr(0x4E00 + number): number for number in range(100)} | {"<end>": 100}
    Qwen2Tokenizer(vocab=many, merges=[], eos_token="<end>", pad_token="<end>", unk_token="<end>").save_pretrained(
        tmp_path / "model"
    )
    with pytest.raises(ModelError, match="of another vocabulary: it knows 101 tokens, the model 27"):
        open_hf_sampler(tmp_path / "model")


def test_weights_that_were_cut_off_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="was cut off"):
        open_hf_sampler(tmp_path / "model")
