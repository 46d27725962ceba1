"""The experiments that come with orch: found by name, listed, copied to be changed."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.config.compose import Composer
from orchestrator.config.fields import GROUPS
from orchestrator.config.packaged import PACKAGED, choices, copy_experiments, described, find_experiment
from orchestrator.config.spec import load_sweep
from orchestrator.errors import SpecError
from orchestrator.plan.make import make_plan

REPOSITORY = Path(__file__).parents[3] / "experiments"


def listed(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_file_is_described_by_its_first_line() -> None:
    assert PACKAGED == REPOSITORY
    found = described(PACKAGED)
    assert [one.file for one in found] == sorted(REPOSITORY.glob("*.yaml"))
    assert [one.name for one in found if not one.title] == []
    assert set(choices(PACKAGED)) <= set(GROUPS)


@pytest.mark.parametrize("name", ["smoke", "smoke.yaml", "experiments/smoke.yaml"])
def test_a_name_leads_to_what_comes_with_orch_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_experiment(Path(name)) == PACKAGED / "smoke.yaml"
    assert load_sweep(Path(name)).points == load_sweep(PACKAGED / "smoke.yaml").points


def test_a_file_or_folder_of_the_users_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    assert find_experiment(Path("experiments/smoke.yaml")) == Path("experiments/smoke.yaml")
    (tmp_path / "smoke.yaml").write_text("name: mine\n")
    assert find_experiment(Path("smoke.yaml")) == Path("smoke.yaml")
    assert find_experiment(Path("other/smoke.yaml")) == Path("other/smoke.yaml")


def test_the_list_names_experiments_and_groups_and_puts_the_users_folder_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = listed("experiments").splitlines()
    assert lines[0] == f"{PACKAGED}:"
    assert any(line.split()[:1] == ["ratio_ablation"] for line in lines)
    assert any(line.split()[:1] == ["selection/"] for line in lines)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text("# My own.\ndefaults: [{model: tiny}]\n")
    own, packaged = json.loads(listed("experiments", "--json"))
    assert own["experiments"] == [
        {
            "name": "mine",
            "file": os.path.join("experiments", "mine.yaml"),
            "title": "My own.",
            "groups": {"model": "tiny"},
            "tables": [],
        }
    ]
    assert packaged["folder"] == str(PACKAGED)
    assert "gpu" in packaged["groups"]["cluster"]


def test_a_copy_plans_the_same_trials_and_its_groups_win(tmp_path: Path) -> None:
    printed = listed("init", str(tmp_path / "mine")).splitlines()
    assert printed[1:] == [f"  orch plan {tmp_path}/mine/first.yaml", f"  orch sweep {tmp_path}/mine/first.yaml"]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == sorted(
        path.name for path in REPOSITORY.iterdir()
    )
    file = tmp_path / "mine" / "first.yaml"
    copied, packaged = (make_plan(load_sweep(one)) for one in (file, PACKAGED / "first.yaml"))
    assert [one.trial.id for one in copied.entries] == [one.trial.id for one in packaged.entries]
    assert Composer(file).file_of("model", "tiny") == tmp_path / "mine" / "model" / "tiny.yaml"


def test_a_copy_of_one_experiment_brings_what_it_builds_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "packaged"
    (packaged / "model").mkdir(parents=True)
    (packaged / "model" / "tiny.yaml").write_text("path: x\n")
    (packaged / "base.yaml").write_text("defaults: [{model: tiny}]\n")
    (packaged / "child.yaml").write_text("defaults: [base, {override model: tiny}, _self_]\n")
    (packaged / "other.yaml").write_text("name: other\n")
    monkeypatch.setattr("orchestrator.config.packaged.PACKAGED", packaged)
    files = copy_experiments(tmp_path / "mine", ["child.yaml"])
    assert [file.name for file in files] == ["child.yaml", "base.yaml"]
    assert (tmp_path / "mine" / "model" / "tiny.yaml").is_file()
    with pytest.raises(SpecError, match="did you mean child"):
        copy_experiments(tmp_path / "again", ["chil"])
    assert not (tmp_path / "again").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(SpecError, match="not empty"):
        copy_experiments(tmp_path, [])
    with pytest.raises(SpecError, match="not empty"):
        copy_experiments(tmp_path / "note.txt", [])
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("name", ["mine", "mine.yaml"])
def test_a_name_leads_to_the_users_own_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text("")
    (tmp_path / "mine").mkdir()  # a folder is no experiment
    assert find_experiment(Path(name)) == Path("experiments/mine.yaml")
    assert find_experiment(Path("smoke")) == PACKAGED / "smoke.yaml"
