"""A language model as grader, against a server of the test's own that judges, fails, stalls and babbles."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eval.api import Problem
from eval.engines import endpoint
from eval.errors import EndpointError, EngineError
from eval.graders import judge_endpoint
from eval.graders.judge import JudgeGrader, JudgeSettings, prompt, read_verdict
from eval.graders.judge_cache import JudgementCache


class Judge(ThreadingHTTPServer):
    """Says right where the student's text holds the reference; `trouble` may answer first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.lock = [], threading.Lock()
        self.trouble = lambda number, text: None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"]
        with self.server.lock:
            self.server.bodies.append(body)
            number = len(self.server.bodies)
        status, reply, headers = self.server.trouble(number, text) or (200, self.completion(text), {})
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def completion(self, text):
        inside = {
            name: text.partition(f"<{name}>\n")[2].partition(f"\n</{name}>")[0] for name in ("reference", "student")
        }
        verdict = "right" if inside["reference"] == inside["student"] else "wrong"
        return reply_of(f"Both are numbers.\nVERDICT: {verdict}")


def reply_of(text):
    return {
        "choices": [{"message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 7},
    }


@pytest.fixture
def server():
    judge = Judge()
    threading.Thread(target=judge.serve_forever, args=(0.01,), daemon=True).start()
    yield judge
    judge.shutdown()
    judge.server_close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_DELAY_S", 0.001)


def problem(gold, question="What is it?", **options):
    return Problem(**{"id": "q", "question": question, "answer": gold, "kind": "expression", **options})


def opened(server, tmp_path, model="big"):
    return JudgeGrader(JudgeSettings(model=model, base_url=server.url, folder=tmp_path / "judge"))


PAIRS = [
    (r"\boxed{5}", problem("5")),
    (r"\boxed{6}", problem("5")),
    (r"Another way to the same \boxed{5}", problem("5")),
    ("no box, but 5", problem("5")),
]


def test_verdicts_are_kept_and_a_rerun_costs_nothing(server, tmp_path):
    first = opened(server, tmp_path)
    grades = first.grade_many(PAIRS)
    assert [one.is_correct for one in grades] == [True, False, True, False]
    assert [one.answer for one in grades] == ["5", "6", "5", "no box, but 5"]
    assert {one.grader_version for one in grades} == {first.version}
    assert (first.cost.num_asked, first.cost.num_cached) == (3, 1)  # the same answer is asked once
    assert (first.cost.prompt_tokens, first.cost.completion_tokens) == (300, 21)
    again = opened(server, tmp_path)
    assert [one.is_correct for one in again.grade_many(PAIRS)] == [True, False, True, False]
    assert (again.cost.num_asked, again.cost.num_cached, again.cost.prompt_tokens) == (0, 4, 0)
    assert len(server.bodies) == 3
    assert all((body["model"], body["temperature"]) == ("big", 0) for body in server.bodies)


def test_another_model_is_another_judge(server, tmp_path):
    first, second = opened(server, tmp_path), opened(server, tmp_path, model="small")
    assert first.version != second.version
    first.grade_many(PAIRS[:1])
    second.grade_many(PAIRS[:1])
    assert [body["model"] for body in server.bodies] == ["big", "small"]


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {"error": "busy"}, {}),
        (429, {"error": "slow down"}, {"Retry-After": 0}),
        (200, b"{broken", {}),
        (200, {"choices": []}, {}),
        (200, [1], {}),
        (200, b"half", {"Content-Length": 100}),
    ],
    ids=["500", "429", "broken JSON", "no choice", "no object", "half a body"],
)
def test_a_reply_that_fails_is_asked_for_again(server, tmp_path, trouble, monkeypatch):
    monkeypatch.setattr(judge_endpoint, "READ_LIMIT_S", 1.0)
    server.trouble = lambda number, text: trouble if number == 1 else None
    (grade,) = opened(server, tmp_path).grade_many(PAIRS[:1])
    assert grade.is_correct
    assert len(server.bodies) == 2


def test_an_endpoint_that_keeps_failing_ends_it_and_loses_no_verdict(server, tmp_path):
    server.trouble = lambda number, text: (503, {}, {}) if "\n6\n" in text else None
    with pytest.raises(EngineError, match="failed 5 times in a row: status 503"):
        opened(server, tmp_path).grade_many(PAIRS)
    server.trouble = lambda number, text: None
    num_before = len(server.bodies)
    later = opened(server, tmp_path)
    assert [one.is_correct for one in later.grade_many(PAIRS)] == [True, False, True, False]
    assert len(server.bodies) - num_before == later.cost.num_asked
    assert later.cost.num_asked < 3


def test_a_stalled_endpoint_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(judge_endpoint, "READ_LIMIT_S", 0.2)
    monkeypatch.setattr(judge_endpoint, "MAX_TRIES", 2)
    release = threading.Event()
    server.trouble = lambda number, text: release.wait(20) and None
    with pytest.raises(EngineError, match="failed 2 times in a row: ReadTimeout"):
        opened(server, tmp_path).grade_many(PAIRS[:1])
    release.set()


def test_a_refusal_is_not_asked_again(server, tmp_path):
    server.trouble = lambda number, text: (401, {"error": "no key"}, {})
    with pytest.raises(EndpointError, match="status 401"):
        opened(server, tmp_path).grade_many(PAIRS[:1])
    assert len(server.bodies) == 1


@pytest.mark.parametrize("said", ["I cannot tell.", "", None])
def test_a_reply_without_a_verdict_is_undecided_and_paid_for_once(server, tmp_path, said):
    server.trouble = lambda number, text: (200, reply_of(said), {})
    for _ in range(2):
        (grade,) = opened(server, tmp_path).grade_many(PAIRS[:1])
        assert (grade.is_correct, grade.status) == (False, "undecided")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("VERDICT: right", "right"),
        ("verdict: **Wrong**.", "wrong"),
        ("One may think VERDICT: right, but no.\n**VERDICT: wrong**", "wrong"),
        ("right", "right"),
        ("That is right.", "undecided"),
        ("VERDICT: rightly so", "undecided"),
    ],
)
def test_the_last_verdict_of_a_reply_counts(reply, verdict):
    assert read_verdict(reply) == verdict


def test_the_prompt_holds_question_options_gold_and_answer_as_they_stand():
    asked = problem("B", question="Which of {gold}?", kind="choice", choices=("red", "{answer}"))
    text = prompt(r"\boxed{\frac{1}{2} {question}}", asked)
    for part in ("Which of {gold}?\n(A) red\n(B) {answer}\n", "\nB\n", "\n\\frac{1}{2} {question}\n"):
        assert part in text


def test_a_torn_line_costs_one_verdict(server, tmp_path):
    opened(server, tmp_path).grade_many(PAIRS)
    (file,) = (tmp_path / "judge").glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    again = opened(server, tmp_path)
    assert [one.is_correct for one in again.grade_many(PAIRS)] == [True, False, True, False]
    assert again.cost.num_asked == 1
    assert len([line for line in file.read_text().splitlines() if _is_json(line)]) == 3
    assert JudgementCache(file).get("unknown") is None
    last = opened(server, tmp_path)
    last.grade_many(PAIRS)
    assert last.cost.num_asked == 0


def _is_json(line):
    try:
        return bool(json.loads(line))
    except ValueError:
        return False
