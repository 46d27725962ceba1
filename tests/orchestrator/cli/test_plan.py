import json
from pathlib import Path

import pytest
from lab import Lab
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.config.spec import load_sweep
from orchestrator.errors import OrchError, PlanError, SpecError
from orchestrator.plan.make import make_plan

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
        [lines[1].split()[0], "base", "waiting", "never", "run"],
        [lines[2].split()[0], "full", "0", "waiting", "never", "run"],
    ]
    assert lines[-2:] == ["exp: 3 trials: 3 waiting", f"  orch sweep {file} seeds=[0]"]


MANY_AXES = """
defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny}, {eval: arithmetic}]
sweep:
  grid:
    algorithm: [grpo, dapo]
    selection: [ets, gmts]
    selection.ratio: [0.1, 0.2]
    recipe.learning_rate: [1.0e-3, 3.0e-4]
    recipe.group_size: [8, 16]
    recipe.temperature: [1.0]
    recipe.steps: [20, 40]
    recipe.lr_warmup_steps: [5]
"""


@pytest.mark.parametrize("width", [60, 80, 120, 160, 200])
def test_a_plan_of_eight_axes_loses_no_value_on_a_terminal(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "many.yaml"
    file.write_text(MANY_AXES)
    plan = make_plan(load_sweep(file))
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run(file, "--limit-rows", 65, "--store", tmp_path / "runs").partition("many: ")[0].splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("all trials: recipe.temperature 1.0")
    assert any("recipe.lr_warmup_steps 5" in line for line in lines[:2])
    for planned in plan.entries[1:]:
        words = [word for line in lines if line.startswith(planned.trial.id) for word in line.split()]
        varying = {axis: value for axis, value in planned.axes.items() if axis not in ALIKE}
        for word in [*(str(value) for value in varying.values()), str(planned.trial.seed), "waiting", "never", "run"]:
            assert word in words
    headings = [word for line in lines if line.startswith("trial ") for word in line.split()]
    for name in ("algorithm", "selection", "ratio", "learning_rate", "group_size", "steps", "seed", "state", "reason"):
        assert [word for word in headings if word == name or word.endswith(f".{name}")]


ALIKE = ("recipe.temperature", "recipe.lr_warmup_steps")


def test_planning_writes_nothing(file: Path, tmp_path: Path) -> None:
    run(file, "--store", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_json_holds_every_trial(file: Path, tmp_path: Path) -> None:
    printed = json.loads(run(file, "--json", "--limit-rows", 1, "--store", tmp_path / "runs"))
    plan = make_plan(load_sweep(file))
    assert (printed["experiment"], printed["digest"], printed["num_trials"]) == ("exp", plan.digest, 5)
    assert [row["id"] for row in printed["trials"]] == [entry.trial.id for entry in plan.entries]
    assert printed["trials"][1] == {
        "id": plan.entries[1].trial.id,
        "kind": "train",
        "label": "full · seed 0",
        "axes": {"selection": "full"},
        "seed": 0,
        "state": "waiting",
        "reason": "never run",
        "shared_with": [],
        "trust_remote_code": False,
    }


def test_long_plans_are_cut_and_say_so(file: Path, tmp_path: Path) -> None:
    printed = run(file, "--limit-rows", 2, "--store", tmp_path / "runs")
    assert "… and 3 more: --limit-rows 5 shows all, --json too" in printed


def test_a_trial_that_another_experiment_plans_is_shared(file: Path, lab: Lab) -> None:
    other = make_plan(load_sweep(file, ["name=other", "seeds=[1]", "selection=full"]))
    lab.store.plans.save(other)
    printed = json.loads(run(file, "--json", "--store", lab.store.root))
    shared = {row["label"]: row["shared_with"] for row in printed["trials"]}
    assert shared == {
        "base": ["other"],
        "full · seed 0": [],
        "ets · seed 0": [],
        "full · seed 1": ["other"],
        "ets · seed 1": [],
    }
    assert "exp: 5 trials: 5 waiting, 2 shared with other experiments" in run(file, "--store", lab.store.root)


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
    assert "mine: 2 trials: 2 waiting" in run(file, "--store", lab.store.root)
    lab.sweep(make_plan(load_sweep(file)))
    assert "mine: 2 trials: 2 done" in run(file, "--store", lab.store.root)
    longer = json.loads(run(file, "eval.num_samples=3", "recipe.steps=[2,3]", "--json", "--store", lab.store.root))
    assert [(row["state"], row["reason"]) for row in longer["trials"]] == [
        ("partial", "some scores are missing"),
        ("partial", "some scores are missing"),
        ("waiting", "never run"),
    ]


def test_what_a_sweep_would_fetch_is_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    printed = run(file, "data=math12k", "model=qwen2.5-0.5b", "--store", tmp_path / "runs")
    assert "not on this machine yet, and fetched by `orch sweep`: math12k, Qwen/Qwen2.5-0.5B@main" in printed
    fitting = ("data.max_prompt_tokens=64", "data.max_response_tokens=64")  # into the tiny model's context
    as_json = json.loads(run(file, "data=math12k", *fitting, "--json", "--store", tmp_path / "runs"))
    assert as_json["unfetched"] == ["math12k"]


def test_a_refused_experiment_raises_for_the_command_line_to_print(file: Path) -> None:
    with pytest.raises(SpecError, match="unknown selection 'etss'"):
        run(file, "selection=etss")


@pytest.mark.parametrize("command", [["plan"], ["sweep", "--dry-run"]])
def test_a_notify_command_that_is_not_there_is_refused_with_its_place(
    file: Path, tmp_path: Path, command: list[str]
) -> None:
    words = [*command, str(file), "notify.command=[no-such-program]", "--store", str(tmp_path / "runs")]
    with pytest.raises(OrchError) as refused:
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert str(refused.value) == (
        "notify.command is no-such-program, which is not there\n  at: command line: notify.command=[no-such-program]\n"
        "  fix: it must be a program on this machine"
    )


def test_the_ids_of_a_kept_plan_are_read_without_building_it(lab: Lab) -> None:
    plan = lab.plan([None, 0, 1])
    lab.store.plans.save(plan)
    assert lab.store.plans.trial_ids("test") == tuple(entry.trial.id for entry in plan.entries)


def test_a_cluster_adds_hours_money_disk_and_a_schedule_beside_its_bound(file: Path, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "runs", "--cluster", "2xcpux2"]
    lines = run(file, *store, "--price", 2, "cluster=local").splitlines()
    assert lines[0].split() == ["trial", "selection", "seed", "hours", "GPU-hours", "state", "reason"]
    start = lines.index("on 2 nodes of 2 CPUs, 8 GB:")
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == [
        "makespan",
        "GPU-hours",
        "money",
        "disk",
        "from",
    ]
    printed = json.loads(run(file, *store, "--json"))
    cost = printed["cost"]
    assert (cost["cluster"], cost["num_trials"], cost["num_measured"]) == ("2xcpux2", 5, 0)
    assert 1 - 1e-9 <= cost["makespan_s"]["expected"] / cost["lower_bound_s"] <= 1.1
    assert cost["makespan_s"]["high"] == pytest.approx(2 * cost["makespan_s"]["expected"])
    assert cost["gpu_hours"]["expected"] == 0
    assert printed["trials"][1]["cost"]["seconds"] > 0


def test_several_files_are_planned_together_and_share(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(EXPERIMENT.replace("[full, ets]", "[full, gmts]"))
    lines = run(file, other, "--store", tmp_path / "runs").splitlines()
    assert [line.split() for line in lines[1:3]] == [["exp", "5", "0"], ["other", "5", "3"]]
    assert lines[3] == "2 experiments: 10 trials, 7 with shared ones counted once"
    printed = json.loads(run(tmp_path, "--all", "--json", "--cluster", "2xcpu", "--store", tmp_path / "runs"))
    assert [row["experiment"] for row in printed["experiments"]] == ["exp", "other"]
    assert (printed["num_trials_before_sharing"], printed["num_trials"]) == (10, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "8xH10"], "unknown device 'h10'"),
        (["--price", "2"], "a price and assumptions say nothing without a cluster"),
        (["--cluster", "8xH100", "--assume", "x=1"], "unknown assumption 'x'"),
        (["--cluster", "2xcpu", "cluster.num_cpus=32"], "asks for 32 CPU, and no node has that"),
        (["--cluster", "8xH100", "model.path=some/model"], "nothing says what shape some/model has"),
    ],
)
def test_a_cost_that_cannot_be_told_is_refused(file: Path, arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(OrchError, match=message):
        run(file, "--store", tmp_path / "runs", *arguments)


def test_names_stand_where_paths_do(tmp_path: Path) -> None:
    printed = run("smoke", "ets_ratio_tiny", "--store", tmp_path / "runs", "--json")
    assert [one["experiment"] for one in json.loads(printed)["experiments"]] == ["smoke", "ets_ratio_tiny"]


def test_no_file_is_refused_with_what_to_name() -> None:
    with pytest.raises(PlanError, match=r"no experiment file is given[\s\S]*or use --all"):
        run()


def test_seeds_until_decided_are_shown_with_what_they_may_come_to(file: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "runs")
    file.write_text(
        EXPERIMENT.replace("[full, ets]", "[full, ets, random]").replace(
            "[0, 1]", "{until: decided, at_least: 2, at_most: 5, effect: 0.02}"
        )
    )
    text = run(file, *store, "selection.ratio=0.2", "selection=[ets,random]")
    assert "a look after each of 2 to 5 seeds an arm, alpha 0.05 over 1 contrast, effect 2 points" in text
    assert "contrasts  ets − random" in text
    assert "5 at least, 11 at most" in text
    seeds = json.loads(run(file, *store, "--json"))["seeds"]
    trials = seeds["trials"]
    assert seeds["gpu_hours"] is None
    assert trials["fewest"] == 7  # the base model, and two seeds of three arms
    assert trials["most"] == 13  # no contrast needs more of the dense arm
    assert trials["fewest"] < trials["if_different"] < trials["most"]
    assert trials["fewest"] < trials["if_equal"] < trials["most"]
    assert "seeds" not in json.loads(run(file, *store, "--json", "seeds=[0,1]"))
