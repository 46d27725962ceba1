import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eval.api import SampleRequest, SamplingSettings
from eval.engines import open_endpoint, openai
from eval.errors import EngineError

SETTINGS = SamplingSettings(num_samples=2, temperature=0.7, top_p=0.9, max_new_tokens=8, template="chat", stop=("END",))


class Endpoint(ThreadingHTTPServer):
    """A small server that answers with what it was sent; `trouble` may answer first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.trouble = [], lambda number, body: None
        self.lock, self.active, self.most_active = threading.Lock(), 0, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.reply(200, {"data": [{"id": "small"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.active += 1
            server.most_active = max(server.most_active, server.active)
            server.requests.append((self.path, body, self.headers["Authorization"]))
            number = len(server.requests)
        trouble = server.trouble(number, body)
        with server.lock:
            server.active -= 1
        if trouble is not None:
            self.reply(*trouble)
        elif self.path.endswith("/chat/completions"):
            text = f"{body['messages'][-1]['content']} {body['seed']}"
            message = {"role": "assistant", "content": text}
            self.reply(
                200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}
            )
        else:
            self.reply(200, {"choices": [{"text": body["prompt"], "finish_reason": "length"}]})

    def reply(self, status, body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setattr(openai, "FIRST_DELAY_S", 0.01)
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ((400, {"error": "context too long"}), "status 400.*context too long"),
        ((401, {"error": "no"}), "status 401"),
        ((500, {"error": "down"}), "failed 6 times in a row: status 500"),
        ((200, b"<html>"), "not JSON"),
        ((200, {"choices": []}), "no completion"),
    ],
)
def test_failures_that_stay_end_the_call_and_keep_what_came(endpoint, trouble, message):
    endpoint.trouble = lambda number, body: trouble if body["seed"] % 10 == (2**40 + 9) % 2**31 % 10 else None
    sampler = open_endpoint("small", base_url=endpoint.url)
    sampler._max_concurrent = 1
    found = []
    with pytest.raises(EngineError, match=message):
        found.extend(completion.index for completion in sampler.sample(requests_for(sampler, 12), SETTINGS))
    assert found == list(range(9))


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
