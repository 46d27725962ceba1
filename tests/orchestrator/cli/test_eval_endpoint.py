"""`orch eval` over a real server that misbehaves: nothing lost, nothing twice, and what it prints next works."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from endpoint_server import EndpointServer, Handler  # from the folder of fakes
from typer.testing import CliRunner

from eval.engines import endpoint as endpoint_module
from eval.errors import EngineError, OrchError
from eval.grading import version
from orchestrator.cli.compare import compare
from orchestrator.cli.eval import evaluate
from orchestrator.cli.regrade import regrade

app = typer.Typer()
for name, command in {"eval": evaluate, "compare": compare, "regrade": regrade}.items():
    app.command(name)(command)

K, LIMIT = 3, 8


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    monkeypatch.setattr(endpoint_module, "FIRST_DELAY_S", 0.02)
    server = EndpointServer()
    yield server
    server.die()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def orch(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def evaluated(server: EndpointServer, store: Path, *options: object, name: str = "small") -> str:
    asked = ("--bench", "arithmetic", "--k", K, "--limit", LIMIT, "--max-new-tokens", 8, "--store", store)
    return orch(
        "eval",
        name,
        "--engine",
        "openai",
        "--base-url",
        server.url,
        *asked,
        "--no-mlflow",
        "--read-timeout",
        1,
        *options,
    )


def score_of(printed: str) -> dict[str, Any]:
    (row,) = json.loads(printed)
    return row


def stored(store: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The samples of the only evaluation; each is there once."""
    (file,) = store.glob("evaluations/*/eval/*/samples.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    found = {(row["problem"], row["index"]): row for row in rows}
    assert len(rows) == len(found) == K * LIMIT, "none lost, none twice"
    return found


def misbehave(handler: Handler, body: dict[str, Any], count: int) -> bool:
    match ("429", "500", "stall", "half", "broken", "empty", "fine")[body["seed"] % 7] if count == 0 else "fine":
        case "429":
            handler.send(429, {"error": "slow down"}, {"Retry-After": "0.1"})
        case "500":
            handler.send(500, b"oops")
        case "stall":
            time.sleep(1.5)
        case "half":
            handler.send(200, {"choices": [{"text": "\\boxed{1}"}]}, cut=True)
        case "broken":
            handler.send(200, b'{"choices": [')
        case "empty":
            handler.send(200, {"choices": []})
        case _:
            return False
    return True


def test_a_server_that_misbehaves_in_every_way_gives_what_a_good_one_gives(
    server: EndpointServer, tmp_path: Path
) -> None:
    good = score_of(evaluated(server, tmp_path / "good", "--json"))
    server.trouble = misbehave
    bad = score_of(evaluated(server, tmp_path / "bad", "--json"))
    assert bad["score"]["per_problem"] == good["score"]["per_problem"]
    assert {p: r["text"] for p, r in stored(tmp_path / "bad").items()} == {
        p: r["text"] for p, r in stored(tmp_path / "good").items()
    }
    assert bad["failed_rate"] == 0.0


def test_a_server_that_dies_and_comes_back_loses_nothing(server: EndpointServer, store: Path) -> None:
    died = threading.Event()

    def trouble(handler: Handler, body: dict[str, Any], count: int) -> bool:
        if server.num_drawn() == 10 and not died.is_set():
            died.set()
            server.die()
            threading.Timer(1.0, server.start).start()
        return False

    server.trouble = trouble
    assert score_of(evaluated(server, store, "--json"))["failed_rate"] == 0.0
    assert died.is_set()
    stored(store)


def test_a_sample_that_always_fails_is_counted_said_and_tried_again(server: EndpointServer, store: Path) -> None:
    poisoned: list[int] = []

    def trouble(handler: Handler, body: dict[str, Any], count: int) -> bool:
        poisoned[:] = poisoned or [body["seed"]]
        if body["seed"] == poisoned[0]:
            handler.send(200, b"<html>")
        return body["seed"] == poisoned[0]

    server.trouble = trouble
    assert "4.2 % of the requests left unanswered by the endpoint, counted as wrong" in evaluated(server, store)
    assert sorted(row["finish"] for row in stored(store).values()).count("failed") == 1
    server.trouble, before = None, server.num_drawn()
    assert score_of(evaluated(server, store, "--json"))["failed_rate"] == 0.0
    assert server.num_drawn() == before + 1


def test_reasoning_without_content_is_graded_and_said(server: EndpointServer, store: Path) -> None:
    server.reply = lambda text: {"message": {"content": None, "reasoning_content": text}, "finish_reason": "stop"}
    printed = evaluated(server, store)
    assert "100.0 % of the completions had no content: their reasoning was graded" in printed
    assert all(row["reasoning"] for row in stored(store).values())
    assert {row["grade"]["is_correct"] for row in stored(store).values()} == {True, False}


def test_other_weights_under_the_same_name_are_drawn_and_kept_apart(server: EndpointServer, store: Path) -> None:
    first = score_of(evaluated(server, store, "--json"))
    num = server.num_drawn()
    assert score_of(evaluated(server, store, "--json"))["score"]["per_problem"] == first["score"]["per_problem"]
    assert server.num_drawn() == num == K * LIMIT
    server.weights = "others"
    second = score_of(evaluated(server, store, "--json"))
    assert server.num_drawn() == 2 * K * LIMIT
    assert second["score"]["per_problem"] != first["score"]["per_problem"]
    assert len(list(store.glob("evaluations/*/model.json"))) == 2
    with pytest.raises(OrchError, match="small names 2 models"):
        orch("compare", "small", "small", "--store", store)


def test_what_is_printed_next_can_be_pasted(server: EndpointServer, store: Path) -> None:
    printed = evaluated(server, store)
    assert " OTHER " in printed
    (owner,) = (file.parent.name for file in store.glob("evaluations/*/model.json"))
    server.weights = "others"
    printed = evaluated(server, store)
    (line,) = (line for line in printed.splitlines() if line.startswith("next: "))
    words = shlex.split(line.removeprefix("next: orch "))
    assert owner in words
    server.die()  # nothing of it asks the endpoint
    assert "arithmetic" in orch(*words)
    server.start()


def test_an_endpoint_is_regraded_by_its_name_or_id(server: EndpointServer, store: Path) -> None:
    evaluated(server, store)
    (file,) = store.glob("evaluations/*/eval/*/score.json")
    for path in (file, file.with_name("samples.jsonl")):
        path.write_text(path.read_text().replace(version.grader_version(), "0ld0ld0ld0ld"))
    file.parent.rename(file.parent.with_name("000000000000"))
    for name in ("small", file.parents[2].name):
        (row,) = json.loads(orch("regrade", name, "--store", store, "--json"))
        assert (row["benchmark"], row["num_changed"]) == ("arithmetic", 0)


def test_fresh_draws_all_anew_and_keeps_what_was(server: EndpointServer, store: Path) -> None:
    evaluated(server, store)
    before = {place: row["text"] for place, row in stored(store).items()}
    evaluated(server, store, "--fresh")
    assert server.num_drawn() == 2 * K * LIMIT
    assert {place: row["text"] for place, row in stored(store).items()} == before
    assert len(list(store.glob("evaluations/*/eval/*/samples.*.before.jsonl"))) == 1
    evaluated(server, store)
    assert server.num_drawn() == 2 * K * LIMIT


def test_what_an_earlier_version_drew_is_found_with_a_line(
    server: EndpointServer, store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eval.engines.fingerprint import Fingerprint

    with monkeypatch.context() as earlier:
        earlier.setattr(Fingerprint, "digest", Fingerprint.former_digest)
        evaluated(server, store)
    (file,) = store.glob("evaluations/*/model.json")
    file.write_text(json.dumps({"path": "small", "revision": None, "label": "small"}))
    num = server.num_drawn()
    evaluated(server, store)
    assert server.num_drawn() == num
    assert "found under the digest of an earlier version" in caplog.text
    server.weights = "others"
    evaluated(server, store)
    assert server.num_drawn() == 2 * num, "the earlier name was given to the first content found under it"


def test_a_server_that_stays_away_ends_the_command_which_can_go_on(server: EndpointServer, store: Path) -> None:
    def trouble(handler: Handler, body: dict[str, Any], count: int) -> bool:
        if server.num_drawn() > 5:
            handler.send(500, b"")
        return server.num_drawn() > 5

    server.trouble = trouble
    with pytest.raises(EngineError, match="samples in a row"):
        evaluated(server, store)
    server.trouble = None
    assert score_of(evaluated(server, store, "--json"))["failed_rate"] == 0.0
    assert {row["finish"] for row in stored(store).values()} == {"stop"}


@pytest.mark.parametrize(("context", "is_capped"), [(90, True), (10_000, False), (20, False), (None, False)])
def test_new_tokens_are_capped_by_the_context_that_the_server_tells(
    server: EndpointServer, store: Path, context: int | None, is_capped: bool
) -> None:
    server.context = context
    asked = ("--bench", "arithmetic", "--k", 1, "--limit", 2, "--store", store, "--json", "--no-mlflow")
    found = score_of(orch("eval", "small", "--engine", "openai", "--base-url", server.url, *asked))
    limit = found["score"]["settings"]["max_new_tokens"]
    assert 0 < limit < 90 if is_capped else limit == 96, (
        "20 tokens hold no prompt as we estimate it: the server decides"
    )
