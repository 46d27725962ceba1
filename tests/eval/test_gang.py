import os
import sys
from pathlib import Path

import pytest

from eval.api import Draw, SampleRequest, SamplingSettings
from eval.engines import visible_gpus
from eval.engines.gang import open_gang
from eval.engines.stream import sample_all
from eval.errors import EngineError, ModelError

sys.path.append(str(Path(__file__).parent / "fakes"))
from fake_engine import StreamWorker, Worker, no_engine

SHORT = SamplingSettings(num_samples=1, temperature=1.0, max_new_tokens=8, template="plain")
LONG = SamplingSettings(num_samples=1, temperature=1.0, max_new_tokens=32, template="plain")


def draws(prompts, settings=SHORT):
    return [
        Draw(
            request=SampleRequest(problem_id=f"p-{n}", index=n, prompt_tokens=tuple(prompt), seed=n), settings=settings
        )
        for n, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize("kind", [Worker, StreamWorker])
def test_every_draw_is_answered_once_under_its_own_settings_and_no_worker_holds_the_rest(kind):
    gang = open_gang(kind, num_workers=2, gpus=("3", "5"))
    try:
        assert (gang.name, gang.model_digest) == ("fake 1 × 2", "m")
        assert gang.encode([{"content": "ab"}]) == gang.encode_text("ab") == (97, 98)
        for _ in range(2):  # a gang serves one call after another
            wanted = draws([b"slow", *[b"x"] * 40], LONG) + draws([b"x"] * 9, SHORT)
            found = list(gang.sample_stream(wanted))
            ends = sorted((c.problem_id, c.index, int(c.text.split()[0])) for c in found)
            assert ends == sorted((d.request.problem_id, d.request.index, d.settings.max_new_tokens) for d in wanted)
            assert {c.text.split()[2] for c in found} == {"3", "5"}
    finally:
        gang.close()


def test_a_worker_that_dies_is_named_and_what_came_before_is_kept():
    gang = open_gang(StreamWorker, num_workers=2)
    found = []
    completions = gang.sample_stream(draws([*[b"x"] * 30, b"die", *[b"slow"] * 20]))
    with pytest.raises(EngineError, match=r"sampler-\d died with status 7"):
        found.extend(iter(lambda: next(completions), None))
    assert 10 <= len(found) < 51


def test_a_workers_error_arrives_as_it_was_raised():
    with pytest.raises(ModelError, match="too long"):
        list(open_gang(Worker, num_workers=1).sample_stream(draws([b"x" * 11])))
    with pytest.raises(EngineError, match="KeyError: 'what'"):
        list(open_gang(Worker, num_workers=1).sample(requests=[draws([b"bug"])[0].request], settings=SHORT))
    with pytest.raises(ModelError, match="no such model"):
        open_gang(no_engine, num_workers=1)
    with pytest.raises(EngineError, match="3 workers, but 2 GPUs"):
        open_gang(Worker, num_workers=3, gpus=("0", "1"))


def test_leaving_early_ends_the_workers():
    gang = open_gang(StreamWorker, num_workers=1)
    completions = gang.sample_stream(draws([b"x", *[b"slow"] * 9]))
    worker = int(next(completions).text.split()[1])
    completions.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_engines_without_a_queue_get_one_call_for_all_that_share_settings():
    calls = []

    class Recorded(Worker):
        def sample(self, requests, settings):
            calls.append((settings.max_new_tokens, len(requests)))
            yield from super().sample(requests, settings)

    two_a_question = SamplingSettings(num_samples=2, temperature=1.0, max_new_tokens=8, template="plain")
    wanted = draws([b"x"] * 3, SHORT) + draws([b"y"] * 4, LONG) + draws([b"z"] * 2, two_a_question)
    assert len(list(sample_all(Recorded(), wanted))) == 9
    assert calls == [(32, 4), (8, 5)]


def test_the_longest_draws_go_first_and_samples_of_a_question_stay_together():
    asked = []

    class Recorded(StreamWorker):
        def sample_stream(self, draws):
            asked.extend((draw.settings.max_new_tokens, bytes(draw.request.prompt_tokens)) for draw in draws)
            return iter(())

    list(sample_all(Recorded(), draws([b"x", b"x", b"yy", b"yy"], SHORT) + draws([b"z"], LONG)))
    assert asked == [(32, b"z"), (8, b"yy"), (8, b"yy"), (8, b"x"), (8, b"x")]


def test_visible_gpus_are_those_that_the_environment_leaves(monkeypatch):
    for value, gpus in {"": (), "-1": (), "2": ("2",), "0, GPU-ab": ("0", "GPU-ab")}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_gpus() == gpus
