import json
import sys
import types
from dataclasses import dataclass, replace

import pytest

from eval.api import Draw, SampleRequest, SamplingSettings
from eval.engines import open_sampler
from eval.engines.vllm import CPU_CONTEXT, VllmSampler, cpu_options
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

    def draws():
        for number, request in enumerate(requests(9)):
            read.append(number)
            yield Draw(request=request, settings=long if number % 2 else SETTINGS)

    completions = sampler(engine).sample_stream(draws())
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


def test_unknown_engines_are_refused(tmp_path):
    with pytest.raises(EngineError, match="one of hf, vllm, openai"):
        open_sampler("tgi", tmp_path)
    with pytest.raises(EngineError, match="--base-url"):
        open_sampler("openai", tmp_path)
