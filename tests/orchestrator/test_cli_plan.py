import json
from pathlib import Path

import pytest
from lab import Lab
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import SpecError
from orchestrator.plan import make_plan
from orchestrator.spec import load_sweep

EXPERIMENT = """
defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny}, {eval: arithmetic}]
sweep: {grid: {selection: [full, ets]}, seeds: [0, 1]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "exp.yaml"
    path.write_text(EXPERIMENT)
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["plan", *(str(one) for one in arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_table_lists_trials_states_reasons_and_the_next_command(file: Path, tmp_path: Path) -> None:
    lines = run(file, "--store", tmp_path / "runs", "seeds=[0]").splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["trial", "selection", "seed", "state", "reason"],
        [lines[1].split()[0], "base", "new", "never", "run"],
        [lines[2].split()[0], "full", "0", "new", "never", "run"],
    ]
    assert lines[-2:] == ["exp: 3 trials: 3 new", f"  orch sweep {file} seeds=[0]"]


def test_planning_writes_nothing(file: Path, tmp_path: Path) -> None:
    run(file, "--store", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_json_holds_every_trial(file: Path, tmp_path: Path) -> None:
    printed = json.loads(run(file, "--json", "--limit-rows", 1, "--store", tmp_path / "runs"))
    plan = make_plan(load_sweep(file), data_folder=None)
    assert (printed["experiment"], printed["digest"], printed["num_trials"]) == ("exp", plan.digest, 5)
    assert [row["id"] for row in printed["trials"]] == [entry.trial.id for entry in plan.entries]
    assert printed["trials"][1] == {
        "id": plan.entries[1].trial.id,
        "kind": "train",
        "label": "full · seed 0",
        "axes": {"selection": "full"},
        "seed": 0,
        "state": "new",
        "reason": "never run",
        "shared_with": [],
    }


def test_long_plans_are_cut_and_say_so(file: Path, tmp_path: Path) -> None:
    printed = run(file, "--limit-rows", 2, "--store", tmp_path / "runs")
    assert "… and 3 more: --limit-rows 5 shows all, --json too" in printed


def test_a_trial_that_another_experiment_plans_is_shared(file: Path, lab: Lab) -> None:
    other = make_plan(load_sweep(file, ["name=other", "seeds=[1]", "selection=full"]), data_folder=None)
    lab.store.save_sweep(other)
    printed = json.loads(run(file, "--json", "--store", lab.store.root))
    shared = {row["label"]: row["shared_with"] for row in printed["trials"]}
    assert shared == {
        "base": ["other"],
        "full · seed 0": [],
        "ets · seed 0": [],
        "full · seed 1": ["other"],
        "ets · seed 1": [],
    }
    assert "exp: 5 trials: 5 new, 2 shared with other experiments" in run(file, "--store", lab.store.root)


def test_what_was_run_is_done(lab: Lab, tmp_path: Path) -> None:
    groups = {
        "model/own": f"path: {lab.model}\n",
        "eval/own": f"benchmarks: ['{lab.benchmark(0)}']\nnum_samples: 2\nmax_new_tokens: 16\ntemplate: plain\n",
        "recipe/own": "steps: 2\nprompts_per_step: 4\ngroup_size: 4\nmini_batch_prompts: 4\nlearning_rate: 0.001\n",
    }
    for name, text in groups.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "defaults: [{algorithm: grpo}, {selection: full}, {model: own}, {data: arithmetic}, {recipe: own}, "
        "{eval: own}]\ntrainer: fake_trainer:FakeTrainer\nsweep: {seeds: [0]}\n"
    )
    assert "mine: 2 trials: 2 new" in run(file, "--store", lab.store.root)
    lab.sweep(make_plan(load_sweep(file), data_folder=None))
    assert "mine: 2 trials: 2 done" in run(file, "--store", lab.store.root)
    longer = json.loads(run(file, "eval.num_samples=3", "recipe.steps=[2,3]", "--json", "--store", lab.store.root))
    assert [(row["state"], row["reason"]) for row in longer["trials"]] == [
        ("partial", "some scores are missing"),
        ("partial", "some scores are missing"),
        ("new", "never run"),
    ]


def test_a_set_that_is_not_here_is_named_with_the_command_that_fetches_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    printed = run(file, "data=math12k", "--store", tmp_path / "runs")
    assert "not on this machine yet: math12k; trial ids may change when fetched\n  orch data fetch math12k" in printed


def test_a_refused_experiment_raises_for_the_command_line_to_print(file: Path) -> None:
    with pytest.raises(SpecError, match="unknown selection 'etss'"):
        run(file, "selection=etss")


def test_the_ids_of_a_kept_plan_are_read_without_building_it(lab: Lab) -> None:
    plan = lab.plan([None, 0, 1])
    lab.store.save_sweep(plan)
    assert lab.store.planned_ids("test") == tuple(entry.trial.id for entry in plan.entries)
