import contextlib
import email.utils
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eval.api import SampleRequest, SamplingSettings
from eval.engines import endpoint as endpoint_module
from eval.engines import open_endpoint
from eval.engines.endpoint import Deadlines
from eval.engines.fingerprint import NUM_ASKED_AGAIN, PROMPTS, Fingerprint, recognise
from eval.errors import EngineError

SETTINGS = SamplingSettings(num_samples=2, temperature=0.7, top_p=0.9, max_new_tokens=8, template="chat", stop=("END",))

IMPATIENT = Deadlines(connect_s=1.0, read_s=0.3, total_s=0.6, patience_s=0.0)
POISONED = (2**40 + 9) % 2**31
"""The seed of sample 9."""


class Endpoint(ThreadingHTTPServer):
    """A small server that answers with what it was sent; `trouble` may answer first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.trouble = [], lambda number, body: None
        self.weights, self.listed, self.version, self.trickle_s = "", {"id": "small"}, None, 0.0
        self.lock, self.active, self.most_active = threading.Lock(), 0, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path.endswith("/models"):
            self.reply(200, {"data": [self.server.listed]})
        elif self.path == "/version" and self.server.version:
            self.reply(200, {"version": self.server.version})
        else:
            self.reply(404, {"error": "no such path"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.active += 1
            server.most_active = max(server.most_active, server.active)
            server.requests.append((self.path, body, self.headers["Authorization"]))
            number = len(server.requests)
        trouble = server.trouble(number, body)
        if server.trickle_s:
            self.trickle()
            return
        with server.lock:
            server.active -= 1
        if trouble is not None:
            self.reply(*trouble)
        elif self.path.endswith("/chat/completions"):
            text = f"{body['messages'][-1]['content']} {body['seed']}{server.weights}"
            message = {"role": "assistant", "content": text}
            self.reply(
                200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}
            )
        else:
            self.reply(200, {"choices": [{"text": body["prompt"] + server.weights, "finish_reason": "length"}]})

    def trickle(self):
        """An answer without an end, a byte now and then."""
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" ")
                time.sleep(self.server.trickle_s)

    def reply(self, status, body, headers=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setattr(endpoint_module, "FIRST_DELAY_S", 0.01)
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def requests_for(sampler, count):
    prompt = sampler.encode([{"role": "user", "content": "what is 1+1?"}])
    return [SampleRequest(problem_id="p", index=k, prompt_tokens=prompt, seed=2**40 + k) for k in range(count)]


def test_chats_and_texts_are_sent_as_they_are_rendered(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    sampler = open_endpoint("small", base_url=endpoint.url + "/")
    found = list(sampler.sample(requests_for(sampler, 3), SETTINGS))
    assert sorted((c.index, c.text, c.num_tokens, c.finish_reason) for c in found) == [
        (k, f"what is 1+1? {(2**40 + k) % 2**31}", 5, "stop") for k in range(3)
    ]
    path, body, key = endpoint.requests[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert {
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 8,
        "stop": ["END"],
        "model": "small",
    }.items() <= body.items()
    text = SampleRequest(problem_id="p", index=0, prompt_tokens=sampler.encode_text("go on: é"), seed=1)
    (completion,) = sampler.sample([text], SETTINGS)
    assert (completion.text, completion.finish_reason) == ("go on: é", "length")


def test_failures_that_pass_are_tried_again(endpoint):
    tries = Counter()

    def trouble(number, body):
        tries[body["seed"]] += 1
        return (503, {"error": "busy"}) if tries[body["seed"]] < 3 else None

    endpoint.trouble = trouble
    sampler = open_endpoint("small", base_url=endpoint.url)
    assert sorted(c.index for c in sampler.sample(requests_for(sampler, 10), SETTINGS)) == list(range(10))
    assert set(tries.values()) == {3}


def of_sample_9(trouble):
    return lambda number, body: trouble if body["seed"] == POISONED else None


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ((400, {"error": "context too long"}), "status 400.*context too long"),
        ((401, {"error": "no"}), "status 401.*OPENAI_API_KEY"),
        ((429, {"error": "slow down"}), "failed 6 times in a row: status 429"),
        ((503, {"error": "down"}), "failed 6 times in a row: status 503"),
    ],
)
def test_refusals_and_a_server_that_stays_away_end_the_call_and_keep_what_came(endpoint, trouble, message):
    endpoint.trouble = of_sample_9(trouble)
    sampler = open_endpoint("small", base_url=endpoint.url, deadlines=IMPATIENT)
    sampler._max_concurrent = 1
    found = []
    with pytest.raises(EngineError, match=f"(?s){message}"):
        found.extend(completion.index for completion in sampler.sample(requests_for(sampler, 12), SETTINGS))
    assert found == list(range(9))


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {"error": "a bug"}),
        (200, b"<html>"),
        (200, b'{"choices": [{"te'),
        (200, {"choices": []}),
        (200, {"choices": [{"message": {"content": 7}}]}),
        (200, {"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": "many"}}),
        (200, [1]),
        (200, {"error": {"message": "overloaded"}}),
    ],
)
def test_a_request_that_is_never_answered_well_costs_one_sample(endpoint, trouble, caplog):
    endpoint.trouble = of_sample_9(trouble)
    sampler = open_endpoint("small", base_url=endpoint.url)
    found = {one.index: one for one in sampler.sample(requests_for(sampler, 12), SETTINGS)}
    assert sorted(found) == list(range(12))
    assert [index for index, one in found.items() if one.finish_reason == "failed"] == [9]
    assert (found[9].text, found[9].num_tokens) == ("", 0)
    assert sum(body["seed"] == POISONED for _, body, _ in endpoint.requests) == endpoint_module.MAX_TRIES
    assert "sample 9 failed in 6 tries" in caplog.text


def test_an_answer_that_was_broken_once_costs_nothing(endpoint):
    broken = Counter()

    def trouble(number, body):
        broken[body["seed"]] += 1
        return (200, b"{") if broken[body["seed"]] == 1 else None

    endpoint.trouble = trouble
    sampler = open_endpoint("small", base_url=endpoint.url)
    found = list(sampler.sample(requests_for(sampler, 20), SETTINGS))
    assert sorted(one.index for one in found) == list(range(20))
    assert {one.finish_reason for one in found} == {"stop"}


def test_a_request_that_stalls_holds_no_other_and_is_given_up(endpoint, caplog):
    endpoint.trouble = lambda number, body: time.sleep(1.0) if body["seed"] == POISONED else None
    sampler = open_endpoint("small", base_url=endpoint.url, deadlines=IMPATIENT)
    found = {one.index: one.finish_reason for one in sampler.sample(requests_for(sampler, 12), SETTINGS)}
    assert found == {index: "failed" if index == 9 else "stop" for index in range(12)}
    assert "silent for 0.3 s; asking again" in caplog.text


def test_an_answer_that_trickles_for_ever_meets_the_total_deadline(endpoint):
    endpoint.trickle_s = 0.1
    sampler = open_endpoint("small", base_url=endpoint.url, deadlines=IMPATIENT)
    (found,) = sampler.sample(requests_for(sampler, 1), SETTINGS)
    assert found.finish_reason == "failed"


def test_an_endpoint_that_fails_sample_after_sample_ends_the_call_and_fails_none(endpoint):
    endpoint.trouble = lambda number, body: (500, b"") if body["seed"] != 2**40 % 2**31 else None
    sampler = open_endpoint("small", base_url=endpoint.url)
    sampler._max_concurrent, found = 4, []
    with pytest.raises(EngineError, match="failed 8 samples in a row") as caught:
        found.extend(sampler.sample(requests_for(sampler, 40), SETTINGS))
    assert [one.index for one in found] == [0]
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(endpoint, as_date):
    arrived = []

    def trouble(number, body):
        arrived.append(time.monotonic())
        if len(arrived) > 1:
            return None
        asked = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "1"
        return 429, {"error": "slow down"}, {"Retry-After": asked}

    endpoint.trouble = trouble
    sampler = open_endpoint("small", base_url=endpoint.url)
    assert len(list(sampler.sample(requests_for(sampler, 1), SETTINGS))) == 1
    assert arrived[1] - arrived[0] >= 0.9


def test_a_server_that_asks_for_an_hour_ends_the_call(endpoint):
    endpoint.trouble = lambda number, body: (429, b"", {"Retry-After": "3600"})
    sampler = open_endpoint("small", base_url=endpoint.url)
    with pytest.raises(EngineError, match="come back in 3600 s"):
        list(sampler.sample(requests_for(sampler, 3), SETTINGS))


@pytest.mark.parametrize(
    ("message", "text", "is_reasoning"),
    [
        ({"content": "5", "reasoning_content": "2+3"}, "5", False),
        ({"content": None, "reasoning_content": "2+3 = 5"}, "2+3 = 5", True),
        ({"content": "", "reasoning": "2+3 = 5"}, "2+3 = 5", True),
        ({"reasoning_content": "2+3 = 5"}, "2+3 = 5", True),
        ({"content": None}, "", False),
    ],
)
def test_reasoning_is_taken_where_there_is_no_content(endpoint, message, text, is_reasoning):
    endpoint.trouble = lambda number, body: (200, {"choices": [{"message": message, "finish_reason": "length"}]})
    sampler = open_endpoint("small", base_url=endpoint.url)
    (found,) = sampler.sample(requests_for(sampler, 1), SETTINGS)
    assert (found.text, found.is_reasoning, found.finish_reason) == (text, is_reasoning, "length")


def test_concurrency_is_bounded(endpoint):
    endpoint.trouble = lambda number, body: time.sleep(0.02)
    sampler = open_endpoint("small", base_url=endpoint.url)
    sampler._max_concurrent = 4
    assert len(list(sampler.sample(requests_for(sampler, 40), SETTINGS))) == 40
    assert endpoint.most_active <= 4


def test_leaving_early_stops_the_requests(endpoint):
    sampler = open_endpoint("small", base_url=endpoint.url)
    sampler._max_concurrent = 2
    completions = sampler.sample(requests_for(sampler, 500), SETTINGS)
    next(completions)
    completions.close()
    assert len(endpoint.requests) < 500


@pytest.mark.parametrize(
    ("model", "url", "message"),
    [
        ("large", None, "it serves: small"),
        ("small", "http://127.0.0.1:9/v1", "does not answer"),
        ("small", "nonsense", "does not answer"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_the_users_to_mend(endpoint, model, url, message):
    with pytest.raises(EngineError, match=message) as raised:
        open_endpoint(model, base_url=url or endpoint.url)
    assert raised.value.exit_code == 2
    assert raised.value.fix


def digest_at(endpoint, known=()):
    return open_endpoint("small", base_url=endpoint.url, known=known).model_digest


def test_other_weights_a_new_listing_or_version_under_one_name_are_another_model(endpoint):
    first = digest_at(endpoint)
    assert digest_at(endpoint) == first
    assert len(endpoint.requests) == 2 * len(PROMPTS)
    endpoint.weights = "others"
    second = digest_at(endpoint)
    endpoint.weights, endpoint.listed["max_model_len"] = "", 4096
    third = digest_at(endpoint)
    endpoint.listed.pop("max_model_len")
    endpoint.listed["created"] = time.time()
    assert digest_at(endpoint) == first, "the hour at which it was asked is no matter"
    endpoint.version = "0.28.1"
    assert len({first, second, third, digest_at(endpoint)}) == 4


def test_a_chat_only_endpoint_and_one_that_answers_neither_have_an_identity(endpoint, caplog):
    endpoint.trouble = lambda number, body: (404, b"") if "prompt" in body else None
    sampler = open_endpoint("small", base_url=endpoint.url)
    assert len(sampler.fingerprint.answers) == len(PROMPTS)
    endpoint.trouble = lambda number, body: (400, b"")
    assert open_endpoint("small", base_url=endpoint.url).fingerprint.answers == ()
    assert "known by its URL" in caplog.text


def fingerprint(*answers, version=None):
    return Fingerprint(base_url="http://a/v1", model="small", listing={}, version=version, answers=answers)


def test_a_model_that_answers_as_before_when_asked_again_is_the_same(caplog):
    known, met = fingerprint("a", "b", "c", "d", "e"), fingerprint("a", "B", "c", "d", "E")
    asked = []

    def ask(place):
        asked.append(place)
        return known.answers[place] if asked.count(place) == NUM_ASKED_AGAIN else "other"

    assert recognise(met, [known], ask) is known
    assert sorted(asked) == [1, 1, 4, 4]
    assert recognise(met, [known], lambda place: "other") is met
    assert "answers 2 of 10 fixed prompts otherwise" in caplog.text
    assert recognise(fingerprint("v", "w", "x", "y", "e"), [known], lambda place: known.answers[place]) is not known
    assert recognise(known, [fingerprint(*known.answers, version="2")], lambda place: "") is known
