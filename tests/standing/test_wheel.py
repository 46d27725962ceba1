"""The wheel is a whole program: installed elsewhere, it lists, copies and runs experiments with no repository near."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from trainers.models.tiny import build
from trainers.models.tiny_spec import ARITHMETIC_TINY

ROOT = Path(__file__).parents[2]
SOURCES = ("orchestrator", "trainers", "eval", "dashboards", "experiments", "pyproject.toml", "setup.py", "README.md")
SHORT = [
    "selection=[full,gmts]",
    "recipe.steps=2",
    "recipe.lr_warmup_steps=0",
    "recipe.prompts_per_step=4",
    "recipe.mini_batch_prompts=4",
    "recipe.group_size=4",
    "eval.limit=4",
    "eval.num_samples=2",
]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment `venv` that has the wheel, and the libraries of this one without its orch."""
    folder = tmp_path_factory.mktemp("elsewhere")
    source = folder / "source"
    source.mkdir()
    for name in (*SOURCES, "LICENSE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    said([*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "-w", str(folder / "wheel")])
    shutil.rmtree(source)
    (wheel,) = (folder / "wheel").glob("orch-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    said([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)])
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(
        f"{Path(numpy.__file__).parents[1]}\n"
    )  # a path: its own .pth files stay unread
    return folder


@pytest.fixture(scope="module")
def untaught_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "untaught"
    easy = {"stop_at": 0.0, "band": (0.0, 1.0), "first_check": 20, "check_problems": 1, "check_samples": 1}
    build(replace(ARITHMETIC_TINY, **easy), folder)
    return folder


def said(command: Sequence[str], cwd: Path | None = None, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ORCH_"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**kept, **environment}, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_installed_program_copies_an_experiment_and_sweeps_it(
    elsewhere: Path, tmp_path: Path, untaught_model: Path
) -> None:
    orch = str(elsewhere / "venv" / "bin" / "orch")
    home = {"HOME": str(tmp_path / "home")}
    (packaged,) = json.loads(said([orch, "experiments", "--json"], tmp_path, **home))
    assert Path(packaged["folder"]).is_relative_to(elsewhere / "venv")
    assert {one["name"] for one in packaged["experiments"]} == {file.stem for file in ROOT.glob("experiments/*.yaml")}
    plan = ["plan", "experiments/smoke.yaml", "--json"]
    by_name = json.loads(said([orch, *plan], tmp_path, **home))
    here = json.loads(said([str(Path(sys.executable).parent / "orch"), *plan], ROOT, **home))
    assert [trial["id"] for trial in by_name["trials"]] == [trial["id"] for trial in here["trials"]] != []
    said([orch, "init", "mine", "first"], tmp_path, **home)
    command = [orch, "sweep", "mine/first.yaml", *SHORT, f"model.path={untaught_model}", "--no-mlflow", "--json"]
    outcome = json.loads(said([*command, "--scheduler", "inline"], tmp_path, **home))
    assert outcome["counts"] == {"done": 3}
    assert [set(trial["scores"]) for trial in outcome["trials"]] == [{"arithmetic"}] * 3
    assert "nothing to do" in said([orch, "sweep", *command[2:-1]], tmp_path, **home)
