import json
import sys
import types
from dataclasses import dataclass, replace

import pytest
import torch

from eval.api import Batch, SampleRequest, SamplingSettings
from eval.engines import open_sampler
from eval.engines.vllm import CPU_CONTEXT, VllmSampler, cpu_options, draw_by_inverse_cdf
from eval.errors import EngineError, ModelError

SETTINGS = SamplingSettings(
    num_samples=3, temperature=0.5, top_p=0.9, max_new_tokens=6, template="plain", stop=("END",)
)


@dataclass
class Output:
    request_id: str
    outputs: list
    finished: bool = True


@dataclass
class Choice:
    text: str
    token_ids: list
    finish_reason: str = "stop"


class FakeEngine:
    """Stands for vllm.LLM: names requests as it does, and finishes the newest first."""

    def __init__(self, reason="stop"):
        self.llm_engine, self.reason = self, reason
        self.model_config = types.SimpleNamespace(max_model_len=20)
        self.engine_core = types.SimpleNamespace(shutdown=lambda: None)
        self.queue, self.longest_queue, self.aborted, self.parameters, self.count = [], 0, [], [], 0

    def enqueue(self, prompts, parameters, use_tqdm):
        names = []
        for prompt, given in zip(prompts, parameters, strict=True):
            self.queue.append((str(self.count), prompt["prompt_token_ids"], given))
            names.append(f"{self.count}-ab12cd34")
            self.parameters.append(given)
            self.count += 1
        self.longest_queue = max(self.longest_queue, len(self.queue))
        return names

    def step(self):
        name, prompt, given = self.queue.pop()
        return [Output(name, [Choice(f"{prompt} {given.seed}", [1, 2], self.reason)])]

    def abort_request(self, names):
        self.aborted = names


class Parameters:
    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.fixture(autouse=True)
def fake_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(SamplingParams=Parameters))


def sampler(engine, queue_length=4):
    return VllmSampler(engine, None, name="vllm fake", model_digest="m", queue_length=queue_length)


def requests(count):
    return [SampleRequest(problem_id=f"p-{n}", index=n, prompt_tokens=(n, 7), seed=100 + n) for n in range(count)]


def test_each_request_is_answered_once_with_its_own_seed():
    engine = FakeEngine()
    found = list(sampler(engine).sample(requests(11), SETTINGS))
    assert sorted((c.problem_id, c.index, c.text, c.num_tokens, c.finish_reason) for c in found) == sorted(
        (f"p-{n}", n, f"[{n}, 7] {100 + n}", 2, "stop") for n in range(11)
    )
    assert engine.longest_queue <= 4
    given = engine.parameters[0]
    assert (given.temperature, given.top_p, given.max_tokens, given.stop) == (0.5, 0.9, 6, ["END"])


def test_draws_of_other_settings_enter_as_there_is_room():
    engine, long = FakeEngine(), replace(SETTINGS, max_new_tokens=9, temperature=0.0)
    read = []

    def batches():
        for number, request in enumerate(requests(9)):
            read.append(number)
            yield Batch(requests=(request,), settings=long if number % 2 else SETTINGS)

    completions = sampler(engine).sample_stream(batches())
    next(completions)
    assert len(read) == 4
    assert len(list(completions)) == 8
    assert [(one.seed, one.max_tokens, one.temperature) for one in engine.parameters[:2]] == [
        (100, 6, 0.5),
        (101, 9, 0),
    ]


@pytest.mark.parametrize(("positions", "context"), [(2048, 2048), (1 << 20, CPU_CONTEXT)])
def test_on_a_cpu_prompts_are_read_whole(tmp_path, positions, context):
    """In pieces, seeded requests end vLLM's CPU build with "CPU Generator does not use offset"."""
    config = {"model_type": "qwen2", "max_position_embeddings": positions}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = cpu_options(tmp_path)
    assert found["enable_chunked_prefill"] is False
    assert found["max_model_len"] == found["max_num_batched_tokens"] == context


def test_leaving_early_aborts_what_is_under_way():
    engine = FakeEngine()
    completions = sampler(engine).sample(requests(9), SETTINGS)
    first = next(completions)
    completions.close()
    assert first.index == 3
    assert sorted(engine.aborted) == ["0", "1", "2"]


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_sent():
    engine = FakeEngine()
    long = [SampleRequest(problem_id="p", index=0, prompt_tokens=tuple(range(15)), seed=1)]
    with pytest.raises(ModelError, match="at most 5 response tokens"):
        list(sampler(engine).sample(long, SETTINGS))
    assert engine.count == 0


def test_a_request_that_vllm_gives_up_is_an_error():
    with pytest.raises(EngineError, match="gave up sample 0 of p-0: abort"):
        list(sampler(FakeEngine("abort")).sample(requests(1), SETTINGS))


@pytest.fixture
def forward(monkeypatch):
    """A worker's drawing of tokens, after its vLLM was told to draw by inverse CDF; it drew -1 before."""
    ops = types.SimpleNamespace(apply_top_k_top_p=lambda logits_BV, k, p: logits_BV)
    monkeypatch.setitem(sys.modules, "vllm.v1.sample.ops.topk_topp_sampler", ops)
    inner = types.SimpleNamespace(forward=lambda logits_BV, *_: (torch.full((len(logits_BV),), -1), None))
    sampler = types.SimpleNamespace(topk_topp_sampler=inner)
    draw_by_inverse_cdf(types.SimpleNamespace(model_runner=types.SimpleNamespace(sampler=sampler)))
    return lambda logits_BV, generators: inner.forward(logits_BV, generators, None, None)[0].tolist()


def generators(*seeds):
    return {row: torch.Generator().manual_seed(seed) for row, seed in enumerate(seeds)}


def test_a_seeded_row_is_drawn_alike_alone_and_in_a_batch(forward):
    logits_BV = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together, alone = generators(7, 8, 9), generators(8)
    batch = [forward(logits_BV, together) for _ in range(5)]
    assert [tokens[1] for tokens in batch] == [forward(logits_BV[1:2], alone)[0] for _ in range(5)]
    assert len({tuple(tokens) for tokens in batch}) > 1


def test_seeded_rows_follow_the_distribution(forward):
    logits_BV = torch.tensor([0.2, 0.5, 0.3]).log().expand(4000, 3)
    tokens = forward(logits_BV, generators(*range(4000)))
    assert [tokens.count(token) / 4000 for token in range(3)] == pytest.approx([0.2, 0.5, 0.3], abs=0.03)


def test_a_batch_with_unseeded_rows_stays_the_engines_own(forward):
    assert forward(torch.zeros(2, 3), generators(1)) == [-1, -1]


def test_unknown_engines_are_refused(tmp_path):
    with pytest.raises(EngineError, match="one of hf, vllm, openai"):
        open_sampler("tgi", tmp_path)
    with pytest.raises(EngineError, match="--base-url"):
        open_sampler("openai", tmp_path)
