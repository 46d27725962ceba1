import os
import sys
from pathlib import Path

import pytest

from eval.api import Batch, SampleRequest, SamplingSettings
from eval.engines import visible_gpus
from eval.engines.gang import open_gang
from eval.engines.stream import sample_all
from eval.errors import EngineError, ModelError

sys.path.append(str(Path(__file__).parent / "fakes"))
from fake_engine import StreamWorker, Worker, no_engine

SHORT = SamplingSettings(num_samples=1, temperature=1.0, max_new_tokens=8, template="plain")
LONG = SamplingSettings(num_samples=1, temperature=1.0, max_new_tokens=32, template="plain")


def request(number, prompt):
    return SampleRequest(problem_id=f"p-{number}", index=number, prompt_tokens=tuple(prompt), seed=number)


def singles(prompts, settings=SHORT):
    return [Batch(requests=(request(n, prompt),), settings=settings) for n, prompt in enumerate(prompts)]


@pytest.mark.parametrize("kind", [Worker, StreamWorker])
def test_every_draw_is_answered_once_under_its_own_settings_and_no_worker_holds_the_rest(kind):
    gang = open_gang(kind, num_workers=2, gpus=("3", "5"))
    try:
        assert (gang.name, gang.model_digest) == ("fake 1 × 2", "m")
        assert gang.encode([{"content": "ab"}]) == gang.encode_text("ab") == (97, 98)
        for _ in range(2):  # a gang serves one call after another
            wanted = singles([b"slow", *[b"x"] * 40], LONG) + singles([b"x"] * 9, SHORT)
            found = list(gang.sample_stream(wanted))
            ends = sorted((c.problem_id, c.index, int(c.text.split()[0])) for c in found)
            asked = [(batch.requests[0], batch.settings) for batch in wanted]
            assert ends == sorted((one.problem_id, one.index, settings.max_new_tokens) for one, settings in asked)
            assert {c.text.split()[2] for c in found} == {"3", "5"}
    finally:
        gang.close()


def test_a_worker_that_dies_is_named_and_what_came_before_is_kept():
    gang = open_gang(StreamWorker, num_workers=2)
    found = []
    completions = gang.sample_stream(singles([*[b"x"] * 30, b"die", *[b"slow"] * 20]))
    with pytest.raises(EngineError, match=r"sampler-\d died with status 7"):
        found.extend(iter(lambda: next(completions), None))
    assert 10 <= len(found) < 51


def test_a_workers_error_arrives_as_it_was_raised():
    with pytest.raises(ModelError, match="too long"):
        list(open_gang(Worker, num_workers=1).sample_stream(singles([b"x" * 11])))
    with pytest.raises(EngineError, match="KeyError: 'what'"):
        list(open_gang(Worker, num_workers=1).sample(requests=[singles([b"bug"])[0].requests[0]], settings=SHORT))
    with pytest.raises(ModelError, match="no such model"):
        open_gang(no_engine, num_workers=1)
    with pytest.raises(EngineError, match="3 workers, but 2 GPUs"):
        open_gang(Worker, num_workers=3, gpus=("0", "1"))


def test_leaving_early_ends_the_workers():
    gang = open_gang(StreamWorker, num_workers=1)
    completions = gang.sample_stream(singles([b"x", *[b"slow"] * 9]))
    worker = int(next(completions).text.split()[1])
    completions.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_worker_without_a_queue_gets_one_batch_at_a_time_and_the_whole_of_it():
    gang = open_gang(Worker, num_workers=2)
    try:
        batches = [Batch(requests=tuple(request(n, b"x") for n in range(k, k + 5)), settings=SHORT) for k in (0, 5, 10)]
        worker_of = {c.index: c.text.split()[1] for c in gang.sample_stream(batches)}
        assert sorted(worker_of) == list(range(15))
        for batch in batches:
            assert len({worker_of[one.index] for one in batch.requests}) == 1
        assert len({c.text.split()[1] for c in gang.sample(batches[0].requests, SHORT)}) == 1
    finally:
        gang.close()


def test_engines_without_a_queue_get_one_call_for_each_batch():
    calls = []

    class Recorded(Worker):
        def sample(self, requests, settings):
            calls.append((settings.max_new_tokens, len(requests)))
            yield from super().sample(requests, settings)

    batches = [
        Batch(requests=tuple(request(n, b"x") for n in range(count)), settings=settings)
        for count, settings in ((3, SHORT), (4, LONG), (2, SHORT))
    ]
    assert len(list(sample_all(Recorded(), batches))) == 9
    assert calls == [(32, 4), (8, 3), (8, 2)]


def test_the_longest_go_first_and_samples_of_a_question_stay_together():
    asked = []

    class Recorded(StreamWorker):
        def sample_stream(self, batches):
            asked.extend((one.settings.max_new_tokens, bytes(one.requests[0].prompt_tokens)) for one in batches)
            return iter(())

    list(sample_all(Recorded(), singles([b"x", b"x", b"yy", b"yy"], SHORT) + singles([b"z"], LONG)))
    assert asked == [(32, b"z"), (8, b"yy"), (8, b"yy"), (8, b"x"), (8, b"x")]


def test_visible_gpus_are_those_that_the_environment_leaves(monkeypatch):
    for value, gpus in {"": (), "-1": (), "2": ("2",), "0, GPU-ab": ("0", "GPU-ab")}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_gpus() == gpus


def test_a_model_over_several_gpus_takes_its_own_of_them():
    gang = open_gang(Worker, num_workers=2, gpus=("3", "5", "6", "8"), gpus_each=2)
    try:
        drawn = list(gang.sample_stream(singles([b"slow", *[b"x"] * 20])))
    finally:
        gang.close()
    assert {one.text.split()[-1] for one in drawn} == {"3,5", "6,8"}
    with pytest.raises(EngineError, match="2 workers of 2 GPUs each, but 3 GPUs"):
        open_gang(Worker, num_workers=2, gpus=("0", "1", "2"), gpus_each=2)
