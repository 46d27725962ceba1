from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.api import SampleRequest, SamplingSettings
from eval.benchmarks.arithmetic import problems, worked_solution
from eval.engines.hf import HfSampler, live_digest, open_hf_sampler
from eval.errors import ModelError
from eval.grading import grade_many
from eval.templates import render
from trainers.models.resolve import model_digest
from trainers.models.tiny import build, build_once, make_model, make_tokenizer
from trainers.models.tiny_spec import ARITHMETIC_TINY, TinySpec
from trainers.recipe import Model

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "47+85=?"}]


def quick() -> TinySpec:
    """A build of two steps: everything but the patience."""
    return replace(
        ARITHMETIC_TINY,
        hidden_size=32,
        intermediate_size=32,
        num_layers=1,
        batch_sequences=4,
        first_check=1,
        check_every=1,
        check_problems=2,
        check_samples=1,
        num_threads=1,
        max_steps=2,
        stop_at=0.0,
        band=(0.0, 1.0),
    )


def test_every_byte_is_one_token_and_text_survives_the_round_trip() -> None:
    tokenizer = make_tokenizer(ARITHMETIC_TINY)
    text = "47+85=?\n\\boxed{132} déjà ∑"
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens) == text
    assert len(tokenizer("\n")["input_ids"]) == 1


def test_the_chat_template_marks_turns_with_single_tokens() -> None:
    tokenizer = make_tokenizer(ARITHMETIC_TINY)
    sampler = HfSampler(None, tokenizer, model_digest="", batch_sequences=1)
    tokens = sampler.encode(MESSAGES)
    expected = "<|system|>\nBe brief.<|end|>\n<|user|>\n47+85=?<|end|>\n<|assistant|>\n"
    assert tokenizer.decode(list(tokens)) == expected
    assert len(tokens) == len("Be brief.47+85=?") + 5 + 5
    assert sampler.decode(tokens) == "\nBe brief.\n\n47+85=?\n\n"


def test_the_saved_folder_loads_with_a_vocabulary_that_fits_its_tokenizer(tmp_path: Path) -> None:
    build(quick(), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.config.vocab_size == len(tokenizer) == 261
    assert model.config.architectures == ["Qwen2ForCausalLM"]
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer("\n7")["input_ids"] == make_tokenizer(quick())("\n7")["input_ids"]
    assert tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False).endswith("assistant|>\n")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"


def test_the_full_model_has_about_a_million_parameters() -> None:
    model = make_model(ARITHMETIC_TINY, make_tokenizer(ARITHMETIC_TINY))
    assert 700_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_300_000


def test_a_build_gives_the_same_weights_and_leaves_torch_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    digests = []
    for name in ("a", "b"):
        torch.manual_seed(5)
        threads = torch.get_num_threads()
        build(quick(), tmp_path / name)
        assert torch.equal(torch.rand(1), expected)
        assert torch.get_num_threads() == threads
        assert not torch.are_deterministic_algorithms_enabled()
        digests.append(live_digest(AutoModelForCausalLM.from_pretrained(tmp_path / name)))
    assert digests[0] == digests[1]


def test_a_model_is_built_once_and_half_builds_are_thrown_away(tmp_path: Path) -> None:
    spec = quick()
    (tmp_path / f".{spec.name}-{spec.digest[:12]}-killed").mkdir()
    lines: list[str] = []
    folder = build_once(spec, cache_folder=tmp_path, on_progress=lines.append)
    assert folder == tmp_path / f"{spec.name}-{spec.digest[:12]}"
    assert any("step 1" in line for line in lines)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert build_once(spec, cache_folder=tmp_path, on_progress=pytest.fail) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [folder.name]


def test_an_average_outside_its_band_fails_the_build(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="outside 20% to 60%"):
        build_once(replace(quick(), band=(0.2, 0.6)), cache_folder=tmp_path, on_progress=lambda line: None)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith(".")]


def test_the_digest_follows_the_specification() -> None:
    assert model_digest(Model(path="builtin:arithmetic-tiny")) == ARITHMETIC_TINY.digest
    assert replace(ARITHMETIC_TINY, seed=1).digest != ARITHMETIC_TINY.digest


@pytest.mark.slow
def test_the_built_in_model_is_half_good_and_says_so_twice_alike(tmp_path: Path) -> None:
    folder = build_once(ARITHMETIC_TINY, cache_folder=tmp_path, on_progress=lambda line: None)
    sampler = open_hf_sampler(folder)
    assert sampler.decode(sampler.encode_text(worked_solution(problems("test")[0]))) == "6+2=8\n4+2=6\n\\boxed{68}"
    requests = [
        SampleRequest(
            problem_id=problem.id, index=index, prompt_tokens=render("chat", problem, sampler), seed=100 * row + index
        )
        for row, problem in enumerate(problems("test"))
        for index in range(4)
    ]
    settings = SamplingSettings(num_samples=4, temperature=1.0, max_new_tokens=48, template="chat")
    by_id = {problem.id: problem for problem in problems("test")}
    verdicts = grade_many((answer.text, by_id[answer.problem_id]) for answer in sampler.sample(requests, settings))
    assert 0.2 < sum(verdict.is_correct for verdict in verdicts) / len(verdicts) < 0.6
    again = tmp_path / "again"
    build(ARITHMETIC_TINY, again)
    assert (folder / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
