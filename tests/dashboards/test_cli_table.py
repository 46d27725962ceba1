"""`orch table`, `orch sync` and `orch ui` as a user types them, over an invented sweep."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from made_up import MadeUp

from orchestrator.cli import main
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.server import experiment_page, serve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # mlflow's own


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sweep = MadeUp(tmp_path)
    for number, planned in enumerate((sweep.base, *sweep.trials)):
        sweep.finish(planned, rate=0.3 + 0.2 * number)
    return sweep


def orch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of the command line."""
    monkeypatch.setattr("sys.argv", ["orch", *arguments])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_table_prints_the_experiment(made: MadeUp, monkeypatch, capsys) -> None:
    assert orch(monkeypatch, "table", "made_up", "--format", "md") == 0
    assert capsys.readouterr().out.startswith("### made_up\n\n| algorithm | selection |")


def test_table_writes_a_file_and_prints_its_path(made: MadeUp, monkeypatch, capsys) -> None:
    assert orch(monkeypatch, "table", "made_up", "--format", "json", "--output", "out/table.json") == 0
    assert capsys.readouterr().out == "out/table.json\n"
    assert json.loads(Path("out/table.json").read_text())["experiment"] == "made_up"


def test_an_unknown_experiment_names_those_there_are(made: MadeUp, monkeypatch, capsys) -> None:
    assert orch(monkeypatch, "table", "nothing") == 2
    assert "made_up" in capsys.readouterr().err


def test_sync_fills_the_default_database_once(made: MadeUp, monkeypatch, capsys) -> None:
    assert orch(monkeypatch, "sync", "made_up", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_runs_created"] == 4
    assert Path("mlflow.db").exists()
    assert {path.name for path in Path().iterdir()} == {"runs", "mlflow.db", "mlartifacts"}
    assert orch(monkeypatch, "sync", "made_up") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_nothing_to_sync_is_found_without_mlflow(made: MadeUp, monkeypatch, capsys) -> None:
    assert orch(monkeypatch, "sync", "made_up") == 0
    code = "import sys; sys.argv = ['orch', 'sync', 'made_up']; from orchestrator.cli import main\n"
    code += "try: main()\nfinally: print([m for m in ('mlflow', 'pandas', 'torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "nothing to do" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_ui_without_a_database_says_how_to_make_one(made: MadeUp, monkeypatch, capsys) -> None:
    assert orch(monkeypatch, "ui", "made_up") == 1
    assert "orch sync EXPERIMENT" in capsys.readouterr().err


@pytest.mark.slow
def test_ui_serves_the_experiment_on_loopback_until_it_is_stopped(made: MadeUp, monkeypatch, capsys) -> None:
    assert orch(monkeypatch, "sync", "made_up") == 0
    code = "import sys; sys.argv = ['orch', 'ui', 'made_up', '--no-open']; from orchestrator.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        page = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#/experiments/\d+/runs\?.*viewStateShareKey=orch", page)
        assert httpx.get(page.partition("#")[0]).is_success
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.partition("#")[0])


@pytest.mark.slow
def test_a_team_server_gets_runs_and_artifacts_once(made: MadeUp, tmp_path: Path) -> None:
    with serve(f"sqlite:///{tmp_path / 'team' / 'mlflow.db'}", host="127.0.0.1", port=None) as url:
        mirror = Mirror(made.store, "made_up", url, tables=lambda: {"table.md": "| a |"})
        assert mirror.sync().num_runs_created == 4
        made.store.mirror_file("made_up").unlink()
        again = Mirror(made.store, "made_up", url, tables=lambda: {"table.md": "| a |"})
        assert again.sync().num_runs_created == 0
        search = {"experiment_ids": [page_id(experiment_page(url, "made_up"))]}
        runs = httpx.post(f"{url}/api/2.0/mlflow/runs/search", json=search).json()["runs"]
        assert len(runs) == 4
        arm = next(run for run in runs if run["info"]["run_name"] == "grpo · full · seed 0")
        query = {"run_id": arm["info"]["run_id"], "metric_key": "reward/mean"}
        history = httpx.get(f"{url}/api/2.0/mlflow/metrics/get-history", params=query).json()["metrics"]
        assert [point["step"] for point in history] == list(range(1, 9))
        listing = httpx.get(f"{url}/api/2.0/mlflow/artifacts/list", params={"run_id": arm["info"]["run_id"]}).json()
        assert {file["path"] for file in listing["files"]} == {"config.yaml", "recipe.json", "record.json", "eval"}


def page_id(page: str) -> str:
    return page.partition("experiments/")[2].partition("/")[0]
