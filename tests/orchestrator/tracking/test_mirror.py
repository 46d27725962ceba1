"""The mirror against a real MLflow database: nothing missing, nothing twice, whatever is killed in between."""

import logging
import math
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_trainer import open_fake_sampler
from lab import Lab
from mlflow import MlflowClient
from mlflow.entities import ViewType

from orchestrator.errors import TrackingError
from orchestrator.store.store import Store
from orchestrator.tracking.client import Tracker
from orchestrator.tracking.mirror import Mirror

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # mlflow's own


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.trial.attempt.open_sampler", open_fake_sampler)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, made once: tests copy it, as making one takes over a second."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracker(f"sqlite:///{path}", "seed")
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def swept(lab: Lab, seeds: tuple[int | None, ...] = (None, 0)) -> Store:
    lab.sweep(lab.plan(seeds))
    return lab.store


def counts(uri: str) -> dict[str, int]:
    """Rows of the tables that a doubled run, point, tag, param or input would show in."""
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        names = ("runs", "metrics", "params", "tags", "datasets", "inputs", "input_tags")
        return {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in names}


def runs_by_role(uri: str, role: str):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("test")
    return client.search_runs([experiment.experiment_id], f"tags.`orch.role` = '{role}'", ViewType.ALL)


def test_a_sweep_becomes_a_parent_run_with_a_child_for_each_trial(lab: Lab, uri: str) -> None:
    Mirror(
        swept(lab), "test", uri, tables=lambda: {"table.md": "| a |", "table.json": '{"columns": [], "data": []}'}
    ).sync()

    (parent,) = runs_by_role(uri, "sweep")
    children = {run.info.run_name: run for run in runs_by_role(uri, "trial")}
    assert set(children) == {"base", "full · seed 0"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.data.tags["mlflow.note.content"] == "| a |"
    assert parent.data.tags["orch.finished"] == "2 of 2"
    assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
    assert {run.data.tags["orch.status"] for run in children.values()} == {"done"}
    arm = children["full · seed 0"]
    assert arm.data.params["algorithm.name"] == "grpo"
    assert arm.data.params["learning_rate"] == "0.001"
    assert arm.data.tags["selection"] == "full"
    assert arm.data.tags["orch.attempts"] == "1"
    assert [(one.dataset.name, one.tags[0].value) for one in arm.inputs.dataset_inputs] == [
        ("arithmetic_train", "training"),
        ("bench0", "evaluation"),
    ]


def test_every_step_and_score_arrives_at_its_step_with_its_value(lab: Lab, uri: str) -> None:
    store = swept(lab)
    Mirror(store, "test", uri).sync()

    record = next(record for record in store.list() if record.trial.kind == "train")
    (run,) = [run for run in runs_by_role(uri, "trial") if run.data.tags["orch.trial_id"] == record.trial.id]
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "reward/mean")
    assert [(point.step, point.value) for point in history] == [
        (row["step"], row["reward/mean"]) for row in store.metrics(record.trial.id)
    ]
    (score,) = record.scores
    (point,) = MlflowClient(uri).get_metric_history(run.info.run_id, "eval/bench0/avg_at_2")
    assert (point.step, point.value) == (6, score.avg)
    assert run.data.metrics["eval/bench0/avg_at_2_se"] == score.standard_error


def test_artifacts_hold_config_recipe_record_scores_and_tables(lab: Lab, uri: str) -> None:
    Mirror(swept(lab), "test", uri, tables=lambda: {"table.md": "x"}).sync()

    client = MlflowClient(uri)
    (parent,) = runs_by_role(uri, "sweep")
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"config.yaml", "table.md"}
    child = runs_by_role(uri, "trial")[0]
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {
        "config.yaml",
        "recipe.json",
        "record.json",
        "eval",
    }
    assert child.info.artifact_uri.startswith((lab.root / "mlartifacts" / "test").as_uri())


def test_syncing_again_adds_nothing(lab: Lab, uri: str) -> None:
    store = swept(lab)
    first = Mirror(store, "test", uri)
    assert not first.is_synced()
    first.sync()
    before = counts(uri)

    again = Mirror(store, "test", uri)
    assert again.is_synced()
    report = again.sync()

    assert (report.num_runs_created, report.num_points, report.num_artifacts) == (0, 0, 0)
    assert counts(uri) == before


def test_losing_the_cursor_doubles_nothing(lab: Lab, uri: str) -> None:
    store = swept(lab)
    Mirror(store, "test", uri).sync()
    before = counts(uri)
    store.mirror_file("test").unlink()

    report = Mirror(store, "test", uri).sync()

    assert report.num_runs_created == 0
    assert counts(uri) == before


@pytest.mark.parametrize("method", ["create_run", "log", "log_datasets", "upload", "set_status"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_around_any_call_doubles_nothing(
    lab: Lab, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, moment: str
) -> None:
    store = swept(lab)
    Mirror(store, "test", uri).sync()
    undisturbed = counts(uri)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    Path(other.removeprefix("sqlite:///")).write_bytes((tmp_path / "mlflow.db").read_bytes())
    with sqlite3.connect(other.removeprefix("sqlite:///")) as connection:
        for table in counts(other):
            connection.execute(f"delete from {table}")

    class Crash(BaseException):
        pass

    original = getattr(Tracker, method)
    calls = 0

    def crashing(self: Tracker, *arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if moment == "before":
            raise Crash
        original(self, *arguments, **options)
        raise Crash

    monkeypatch.setattr(Tracker, method, crashing)
    with pytest.raises(Crash):
        Mirror(store, "test", other).sync()
    monkeypatch.setattr(Tracker, method, original)
    Mirror(store, "test", other).sync()

    assert calls == 1
    assert counts(other) == undisturbed


def test_a_server_that_takes_one_upload_a_pass_has_everything_in_the_end(
    lab: Lab, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = swept(lab)
    original, was_used = Tracker.upload, False

    def upload_once(self: Tracker, run_id: str, artifacts: dict[str, str]) -> None:
        nonlocal was_used
        if was_used:
            raise TrackingError("MLflow refuses: 500", where=uri, fix="wait")
        was_used = True
        original(self, run_id, artifacts)

    monkeypatch.setattr(Tracker, "upload", upload_once)
    for _ in range(15):
        was_used = False
        try:
            Mirror(store, "test", uri).sync()
            break
        except TrackingError:
            pass
    assert Mirror(store, "test", uri).is_synced()


def test_steps_that_a_resumed_attempt_repeats_are_sent_once(lab: Lab, uri: str) -> None:
    store = swept(lab)
    Mirror(store, "test", uri).sync()
    before = counts(uri)
    record = next(record for record in store.list() if record.trial.kind == "train")
    folder = store.attempt_folder(record.trial.id, 2)
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 5, "time": 1e9, "reward/mean": 0.5}\n')

    assert Mirror(store, "test", uri).sync().num_points == 0
    assert counts(uri) == before


def test_a_growing_trial_is_sent_step_by_step(lab: Lab, uri: str) -> None:
    plan = lab.plan([0])
    lab.sweep(plan)
    trial_id = plan.entries[0].trial.id
    path = lab.store.attempt_folder(trial_id, 1) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:5])
    mirror = Mirror(lab.store, "test", uri)
    mirror.sync()
    path.write_text("".join(lines))

    report = mirror.sync()

    (run,) = runs_by_role(uri, "trial")
    steps = [point.step for point in MlflowClient(uri).get_metric_history(run.info.run_id, "reward/mean")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert report.num_points == 2 * 4


def test_a_table_that_takes_long_waits_while_live_but_not_at_the_end(
    lab: Lab, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = lab.plan([None, 0])
    lab.store.plans.save(plan)
    rendered, moment_s = 0, 0.0
    monkeypatch.setattr("orchestrator.tracking.sync.time", SimpleNamespace(monotonic=lambda: moment_s))

    def tables() -> dict[str, str]:
        nonlocal rendered, moment_s
        rendered += 1
        moment_s += 60.0
        return {"table.md": str(rendered)}

    mirror = Mirror(lab.store, "test", uri, tables=tables)
    mirror.sync(is_live=True)
    lab.sweep(plan)
    mirror.sync(is_live=True)
    assert (rendered, mirror.is_synced()) == (1, False)
    mirror.sync()
    assert (rendered, mirror.is_synced()) == (2, True)


def test_nan_stays_nan(lab: Lab, uri: str) -> None:
    plan = lab.plan([0])
    lab.sweep(plan)
    path = lab.store.attempt_folder(plan.entries[0].trial.id, 1) / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 7, "reward/mean": NaN, "loss": "NaN"}\n')
    Mirror(lab.store, "test", uri).sync()

    (run,) = runs_by_role(uri, "trial")
    assert math.isnan(run.data.metrics["reward/mean"])
    assert math.isnan(run.data.metrics["loss"])


def test_a_failed_trial_says_why_and_fails_the_sweep(lab: Lab, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    Mirror(swept(lab), "test", uri).sync()

    (parent,) = runs_by_role(uri, "sweep")
    failed = next(run for run in runs_by_role(uri, "trial") if run.info.status == "FAILED")
    assert failed.data.tags["orch.status"] == "failed"
    assert failed.data.tags["orch.failure"] == "RuntimeError: asked to fail at step 3"
    assert parent.info.status == "FAILED"
    assert parent.data.tags["orch.finished"] == "1 of 2"


def test_another_database_is_made_and_filled(lab: Lab, uri: str) -> None:
    store = swept(lab)
    Mirror(store, "test", uri).sync()
    before = counts(uri)
    fresh = f"sqlite:///{lab.root / 'fresh' / 'mlflow.db'}"

    mirror = Mirror(store, "test", fresh)
    assert not mirror.is_synced()
    mirror.sync()

    assert counts(fresh) == before
    assert not Mirror(store, "test", uri).is_synced()
    Path(fresh.removeprefix("sqlite:///")).unlink()
    assert not mirror.is_synced()


@pytest.mark.timeout(60)  # mlflow itself would wait for two minutes
def test_a_dead_server_neither_raises_nor_holds_up_a_sweep(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = swept(lab, (None,))
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mirror = Mirror(store, "test", f"http://127.0.0.1:{silent.getsockname()[1]}", poll_s=0.05)
        with caplog.at_level(logging.WARNING):
            mirror.start()
            assert mirror.stop(timeout_s=0.5) is False
        assert "orch sync test" in caplog.text
    assert mirror.stop(timeout_s=30) is False  # the socket is closed: its last attempt ends


def test_a_refusing_server_is_named_once_with_the_mend(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = swept(lab, (None,))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://user:hunter2@127.0.0.1:{closed.getsockname()[1]}"
        mirror = Mirror(store, "test", address, poll_s=0.01)
        with caplog.at_level(logging.WARNING, logger="orchestrator"):
            mirror.start()
            time.sleep(0.5)
            assert mirror.stop(timeout_s=20) is False
    assert caplog.text.count("MLflow does not answer: Connection refused") == 1
    assert caplog.text.count("the sweep goes on") == 1
    assert "hunter2" not in caplog.text
    with pytest.raises(TrackingError, match="orch sync test"):
        Mirror(store, "test", address).sync()


def test_of_a_server_that_answers_500_a_run_is_asked_once_and_the_rest_thrice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, b'{"experiment": {"experiment_id": "1", "name": "test", "lifecycle_stage": "active"}}')

        def do_POST(self) -> None:
            asked.append(self.path.rpartition("/")[2])
            self.answer(500, b"{}")

        def answer(self, status: int, body: bytes) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        tracker = Tracker(f"http://127.0.0.1:{server.server_address[1]}", "test")
        with pytest.raises(TrackingError):
            tracker.create_run(name="full", tags={}, started_ms=None)
        with pytest.raises(TrackingError, match="MLflow answers with error 500"):
            tracker.log("1", tags={"orch.role": "trial"})
        server.shutdown()
    assert asked == ["create", *3 * ["log-batch"]]


def test_a_live_mirror_follows_the_sweep_and_is_complete_when_stopped(lab: Lab, uri: str) -> None:
    plan = lab.plan([None, 0])
    lab.store.plans.save(plan)
    mirror = Mirror(lab.store, "test", uri, poll_s=0.05)
    mirror.start()
    lab.sweep(plan)

    assert mirror.stop(timeout_s=30) is True
    assert mirror.is_synced()
    assert {run.info.status for run in runs_by_role(uri, "trial")} == {"FINISHED"}
    assert not any(thread.name == "mlflow-mirror" for thread in threading.enumerate())


def test_two_mirrors_of_one_experiment_create_each_run_once(lab: Lab, uri: str) -> None:
    store = swept(lab)
    mirrors = [Mirror(store, "test", uri) for _ in range(2)]
    threads = [threading.Thread(target=mirror.sync) for mirror in mirrors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(runs_by_role(uri, "trial")) == 2
    assert len(runs_by_role(uri, "sweep")) == 1


def test_a_deleted_experiment_is_explained(lab: Lab, uri: str) -> None:
    store = swept(lab, (None,))
    Mirror(store, "test", uri).sync()
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("test").experiment_id)

    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        Mirror(store, "test", uri).sync()
