"""Every YAML of `experiments/` means something: experiments plan, group files fit, grids are those promised."""

import re
from pathlib import Path

import pytest
import yaml

from orchestrator.config.fields import GROUPS, check_keys
from orchestrator.config.grid import KEYS
from orchestrator.config.spec import load_sweep
from orchestrator.plan.arm import family_of
from orchestrator.plan.make import make_plan
from trainers.methods import CONTROL, METHODS, PRESETS

FOLDER = Path(__file__).parents[3] / "experiments"
PAPERS = ("gmts_", "ict_", "ets_")
"""Beginnings of the experiments that `tests/dashboards/test_papers_experiments.py` plans."""
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith(PAPERS))
GROUP_FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_of_our_own_plans(name: str) -> None:
    spec = load_sweep(FOLDER / f"{name}.yaml")
    plan = make_plan(spec)
    assert plan.experiment == name
    assert plan.entries[0].trial.kind == "base"
    assert len({entry.trial.id for entry in plan.entries}) == len(plan.entries)
    labels = [(entry.label, *entry.axes.values()) for entry in plan.entries if entry.trial.kind == "train"]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", GROUP_FILES)
def test_every_group_file_fits_its_group_and_says_what_it_is(name: str) -> None:
    group, text = name.split("/")[0], (FOLDER / name).read_text()
    assert group in GROUPS
    check_keys(group, yaml.safe_load(text))


@pytest.mark.parametrize("choice", sorted(path.stem for path in (FOLDER / "selection").glob("*.yaml")))
def test_every_selection_is_valid_as_it_stands(choice: str) -> None:
    selection = load_sweep(FOLDER / "smoke.yaml", [f"selection={choice}", "algorithm=grpo"]).points[0].recipe.selection
    assert selection.preset in (None, choice)


def test_every_method_and_every_preset_has_a_file() -> None:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (FOLDER / "selection").glob("*.yaml")}
    assert set(METHODS) <= {values["method"] for values in files.values()}
    assert {values["preset"] for values in files.values() if "preset" in values} == set(PRESETS)
    for name, values in files.items():
        if "preset" in values:
            assert values["preset"] == name
            assert set(PRESETS[name]) <= set(values), f"{name} states all its switches"


def test_smoke_is_base_and_two_algorithms_by_five_selections() -> None:
    plan = make_plan(load_sweep(FOLDER / "smoke.yaml"))
    assert [entry.label for entry in plan.entries] == [
        "base",
        *(
            f"{algorithm} · {arm} · seed 0"
            for algorithm in ("grpo", "dapo")
            for arm in ("full", "ets · 0.2", "gmts · 0.2", "ict · 0.2", "random · 0.2")
        ),
    ]
    recipes = [entry.trial.recipe for entry in plan.entries if entry.trial.recipe is not None]
    assert {recipe.steps >= 40 for recipe in recipes} == {True}
    assert {entry.evaluation.num_samples for entry in plan.entries} == {16}


def test_the_ratio_ablation_has_the_arms_of_gmts_table_4() -> None:
    spec = load_sweep(FOLDER / "ratio_ablation.yaml")
    arms = {
        (point.axes["algorithm"], point.axes["selection"], point.axes.get("selection.ratio")) for point in spec.points
    }
    ratios = (0.9, 0.7, 0.5, 0.2, 0.1)
    expected = {
        (name, method, ratio) for name in ("dapo", "grpo") for method in ("ets", "gmts", "random") for ratio in ratios
    }
    assert arms == expected | {("dapo", "full", None), ("grpo", "full", None)}
    assert {point.recipe.model.path for point in spec.points} == {"Qwen/Qwen2.5-Math-1.5B"}
    assert {(point.recipe.prompts_per_step, point.recipe.group_size) for point in spec.points} == {(64, 16)}
    assert {point.recipe.learning_rate for point in spec.points} == {3e-5}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_random_arm_stands_beside_each_ratio_of_a_selector(name: str) -> None:
    """Wherever selectors are compared with anything: what chance would reach has to be known."""
    entries = make_plan(load_sweep(FOLDER / f"{name}.yaml")).entries
    trained = [(family_of(one), one.trial.recipe.selection) for one in entries if one.trial.recipe is not None]
    if len({repr(one) for one in trained}) == 1:
        return
    controls = {(family, chosen.ratio) for family, chosen in trained if chosen.method == CONTROL}
    for family, chosen in trained:
        assert not METHODS[chosen.method].has_ratio or (family, chosen.ratio) in controls, chosen


def test_the_command_line_of_the_readme_narrows_the_ablation() -> None:
    spec = load_sweep(FOLDER / "ratio_ablation.yaml", ["selection.ratio=[0.1,0.2]", "seeds=[0,1,2]"])
    assert len(spec.points) == 2 * (1 + 3 * 2) * 3


def test_the_examples_of_the_guide_have_the_points_they_say(tmp_path: Path) -> None:
    guide = (FOLDER.parent / "docs" / "experiments.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)# (\d+) points\n```", guide, flags=re.DOTALL)
    assert len(examples) == 3
    (first, _), *_ = examples
    defaults = first.partition("\nrecipe:")[0] + "\n"
    for text, num_points in examples:
        file = tmp_path / "example.yaml"
        file.write_text(text if "defaults:" in text else defaults + text)
        assert len(load_sweep(file).points) == int(num_points)


def test_the_guide_names_every_group_and_every_key_of_the_sweep_block() -> None:
    guide = (FOLDER.parent / "docs" / "experiments.md").read_text()
    assert [group for group in GROUPS if f"`{group}/`" not in guide] == []
    assert [key for key in KEYS if f"`{key}`" not in guide and f"{key}:" not in guide] == []
