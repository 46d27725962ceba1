import json
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.display import notifying
from orchestrator.config.blocks import Notify
from orchestrator.config.spec import load_sweep
from orchestrator.errors import OrchError
from orchestrator.status.rows import SweepView, TrialRow
from orchestrator.sweep.notify import Event, Outbox, RowWatch, channels

EVENT = Event(event="failed", experiment="e", text="e: failed", trial="0123456789ab", label="x", at="now")


def row(**changes: Any) -> TrialRow:
    return replace(
        TrialRow(id="0123456789ab", label="grpo · seed 0", state="running", attempts=1, scores={}), **changes
    )


def news(*moments: Sequence[TrialRow]) -> list[tuple[str, str]]:
    watch = RowWatch("e", now=lambda: "now")
    return [(event.event, event.text) for rows in moments for event in watch.see(rows)]


def test_a_failure_is_told_once_for_each_attempt_that_fails() -> None:
    failed = row(state="failed", failure="RuntimeError: no")
    assert (
        news([row()], [failed], [failed], [row(attempts=2)], [replace(failed, attempts=2)])
        == [("failed", "e: failed: grpo · seed 0 (0123456789ab): RuntimeError: no")] * 2
    )


def test_what_had_failed_before_the_sweep_began_is_no_news() -> None:
    failed = row(state="failed", alarms=("reward 0 ≤ 0 at step 5: warn",))
    assert news([failed], [failed]) == []


def test_a_guard_is_told_as_soon_as_it_speaks() -> None:
    assert news([row()], [row(alarms=("a",))], [row(alarms=("a", "b"))]) == [
        ("guard", "e: guard: grpo · seed 0 (0123456789ab): a"),
        ("guard", "e: guard: grpo · seed 0 (0123456789ab): b"),
    ]


def test_a_command_gets_the_event_as_json_on_its_standard_input(tmp_path: Path) -> None:
    command = ("sh", "-c", f"cat > {tmp_path}/event.json")
    outbox = Outbox(channels(Notify(command=command), {}))
    outbox.put(EVENT)
    assert outbox.drain(10.0)
    assert json.loads((tmp_path / "event.json").read_text())["text"] == "e: failed"


class Hook(BaseHTTPRequestHandler):
    """Fails as often as it is told, and keeps what it is sent."""

    failures_left = 0
    received: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200
        if type(self).failures_left:
            type(self).failures_left -= 1
            status = 500
        else:
            self.received.append({**json.loads(body), "path": self.path})
        self.send_response(status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        return None


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.received, Hook.failures_left = [], 0
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/services/SECRET"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_is_tried_again_and_its_address_is_never_logged(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    Hook.failures_left = 1
    ways_out = channels(Notify(webhook_env="HOOK"), {"HOOK": hook})
    outbox = Outbox(ways_out, retry_waits_s=(0.0, 0.0))
    with caplog.at_level(logging.DEBUG):
        outbox.put(EVENT)
        assert outbox.drain(10.0)
    assert [one["text"] for one in Hook.received] == ["e: failed"]
    assert "did not go out (HTTPError)" in caplog.text
    assert "SECRET" not in caplog.text


def test_one_dead_way_out_neither_blocks_the_sweep_nor_the_other_way() -> None:
    has_timed_out = threading.Event()

    def dead(event: Event) -> None:
        has_timed_out.wait()
        raise OSError("no route")

    told: list[Event] = []
    outbox = Outbox({"dead": dead, "alive": told.append}, retry_waits_s=(0.0, 0.0))
    outbox.put(EVENT)
    outbox.put(replace(EVENT, event="finished"))
    assert not outbox.drain(0.0)
    assert told == []
    has_timed_out.set()
    assert outbox.drain(20.0)
    assert [event.event for event in told] == ["failed", "finished"]


@pytest.mark.parametrize(
    ("notify", "environment", "where"),
    [
        (Notify(webhook_env="HOOK"), {}, "notify.webhook_env"),
        (Notify(webhook_env="HOOK"), {"HOOK": "file:///etc/passwd"}, "notify.webhook_env"),
        (Notify(command=("no-such-program",)), {}, "notify.command"),
    ],
)
def test_a_way_out_that_cannot_work_is_refused(notify: Notify, environment: dict[str, str], where: str) -> None:
    with pytest.raises(OrchError) as refused:
        channels(notify, environment)
    assert refused.value.where == where
    assert "passwd" not in str(refused.value)


def test_an_address_in_the_file_is_refused_without_repeating_it() -> None:
    with pytest.raises(OrchError) as refused:
        Notify(webhook_env="https://hooks.example/SECRET")
    assert "SECRET" not in str(refused.value)


def test_a_sweep_tells_of_its_failure_and_of_its_end(lab: Lab, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    from orchestrator.cli.display import PlainDisplay

    monkeypatch.setenv("FAKE_FAIL", "0@3")
    notify = Notify(webhook_env="HOOK")
    plan = lab.plan([None, 0])
    view = SweepView(lab.store, plan.entries, data_folder=None)
    with notifying(notify, channels(notify, {"HOOK": hook}), "test", PlainDisplay(), view) as display:
        display.show(view.rows())
        from orchestrator.trial.attempt import run_trial

        for planned in plan.entries:
            run_trial(planned, lab.store, context=lab.context())
            display.show(view.rows())
    assert [(one["event"], one["text"].partition(": ")[2]) for one in Hook.received] == [
        ("failed", f"failed: full · seed 0 ({lab.planned(0).trial.id}): RuntimeError: asked to fail at step 3"),
        ("finished", "2 trials: 1 done, 1 failed"),
    ]


def test_a_file_of_ones_own_goes_with_any_experiment(tmp_path: Path) -> None:
    (tmp_path / "notify").mkdir()
    (tmp_path / "notify" / "me.yaml").write_text("{command: [tell], events: [failed]}\n")
    file = tmp_path / "any.yaml"
    file.write_text(
        "defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny},"
        " {eval: arithmetic}, _self_]\n"
    )
    assert load_sweep(file).notify == Notify()
    assert load_sweep(file, ["notify=me"]).notify == Notify(command=("tell",), events=("failed",))


def test_the_sweep_command_refuses_a_hook_that_is_not_set_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "told.yaml"
    file.write_text(
        "defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny},"
        " {eval: arithmetic}, _self_]\nnotify: {webhook_env: NO_SUCH_HOOK}\n"
    )
    done = CliRunner().invoke(app, ["sweep", str(file), "--store", str(tmp_path / "runs")])
    assert isinstance(done.exception, OrchError)
    assert "NO_SUCH_HOOK" in str(done.exception)
    assert not (tmp_path / "runs").exists()
