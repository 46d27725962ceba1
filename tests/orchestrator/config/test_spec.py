from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config.blocks import Scheduling
from orchestrator.config.spec import SweepSpec, load_sweep
from orchestrator.errors import SpecError
from trainers.recipe import Resources

DEFAULTS = "[{algorithm: grpo}, {selection: full}, {model: m}, {data: d}, {recipe: r}, {eval: e}, {cluster: one}]"
GROUPS = {
    "algorithm/grpo": "{name: grpo, clip_low: 0.2, clip_high: 0.2, loss_mean: sequence}",
    "algorithm/dapo": "{name: dapo, clip_low: 0.2, clip_high: 0.28, loss_mean: token}",
    "selection/full": "{method: full}",
    "selection/ets": "method: ets\nratio: 0.2\n",
    "selection/gmts": "{method: gmts, ratio: 0.2}",
    "model/m": "{path: builtin:arithmetic-tiny}",
    "model/large": "{path: some/large}",
    "data/d": "{name: arithmetic_train, template: chat, max_prompt_tokens: 64, max_response_tokens: 64}",
    "recipe/r": "steps: 4\nprompts_per_step: 8\ngroup_size: 2\nmini_batch_prompts: 8\nlearning_rate: 3e-4\n",
    "eval/e": "{benchmarks: [arithmetic], num_samples: 4, max_new_tokens: 64, template: chat}",
    "cluster/one": "{num_cpus: 1, scheduler: inline}",
    "cluster/eight": "{num_cpus: 8, num_gpus: 8, scheduler: inline}",
}
SWEEP = """
sweep:
  grid:
    algorithm: [grpo, dapo]
    selection: [full, ets]
    selection.ratio: [0.1, 0.2]
  when:
    selection.ratio: {selection: [ets, gmts]}
"""
Load = Callable[..., SweepSpec]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes an experiment with groups of its own and reads it."""
    for name, text in GROUPS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)

    def write_and_load(body: str = SWEEP, *overrides: str, defaults: str = DEFAULTS) -> SweepSpec:
        file = tmp_path / "exp.yaml"
        file.write_text(f"defaults: {defaults}\n{body}")
        return load_sweep(file, overrides)

    return write_and_load


def refusal(load: Load, folder: Path, body: str = SWEEP, *overrides: str, defaults: str = DEFAULTS) -> str:
    """The message, with the test's folder left out."""
    with pytest.raises(SpecError) as refused:
        load(body, *overrides, defaults=defaults)
    return str(refused.value).replace(f"{folder}/", "")


def axes(spec: SweepSpec) -> list[tuple[Any, ...]]:
    return [(*point.axes.values(), point.seed) for point in spec.points]


def test_a_file_becomes_typed_points_in_order(load: Load) -> None:
    spec = load()
    assert (spec.experiment, spec.axes) == ("exp", ("algorithm", "selection", "selection.ratio"))
    assert axes(spec) == [
        ("grpo", "full", 0),
        ("grpo", "ets", 0.1, 0),
        ("grpo", "ets", 0.2, 0),
        ("dapo", "full", 0),
        ("dapo", "ets", 0.1, 0),
        ("dapo", "ets", 0.2, 0),
    ]
    last = spec.points[-1]
    assert last.recipe.algorithm.clip_high == 0.28
    assert last.recipe.selection.ratio == 0.2
    assert last.recipe.learning_rate == 3e-4
    assert last.recipe.trainer == "lite"
    assert last.evaluation.benchmarks == ("arithmetic",)
    assert last.resources == Resources(num_cpus=1)
    assert spec.scheduling == Scheduling(scheduler="inline")


def test_the_file_wins_over_its_groups_and_an_axis_over_the_file(load: Load) -> None:
    spec = load("recipe: {steps: 7, group_size: 8}\nsweep: {grid: {recipe.group_size: [3]}}")
    assert (spec.points[0].recipe.steps, spec.points[0].recipe.group_size) == (7, 3)


def test_overrides_set_scalars_replace_groups_and_axes_and_seeds(load: Load) -> None:
    spec = load(
        SWEEP, "selection.ratio=[0.5]", "algorithm=dapo", "seeds=[3,4]", "recipe.steps=9", "name=other",
        "eval.benchmarks=[arithmetic,gsm8k]",
    )  # fmt: skip
    assert spec.experiment == "other"
    assert axes(spec) == [("dapo", "full", 3), ("dapo", "ets", 0.5, 3), ("dapo", "full", 4), ("dapo", "ets", 0.5, 4)]
    assert {point.recipe.steps for point in spec.points} == {9}
    assert spec.points[0].evaluation.benchmarks == ("arithmetic", "gsm8k")


@pytest.mark.parametrize("text", ["selection.ratio=0.3,0.4", "selection.ratio=[0.3,0.4]"])
def test_an_axis_is_changed_in_either_of_hydras_spellings(load: Load, text: str) -> None:
    ratios = [point.recipe.selection.ratio for point in load(SWEEP, text, "algorithm=grpo").points]
    assert ratios == [None, 0.3, 0.4]


def test_a_list_for_a_key_that_is_no_axis_makes_it_one(load: Load) -> None:
    spec = load(SWEEP, "recipe.steps=[1,2]", "algorithm=grpo", "selection=full")
    assert axes(spec) == [("grpo", "full", 1, 0), ("grpo", "full", 2, 0)]
    assert axes(load("", "model=[m,large]")) == [("m", 0), ("large", 0)]
    assert axes(load("", "recipe.steps=range(1,3)")) == [(1, 0), (2, 0)]


def test_without_a_sweep_there_is_one_point(load: Load) -> None:
    assert axes(load("")) == [(0,)]


def test_a_group_that_is_no_axis_is_chosen_on_the_command_line(load: Load) -> None:
    assert load("", "model=large").points[0].recipe.model.path == "some/large"
    assert load("", "trainer=mine:Trainer").points[0].recipe.trainer == "mine:Trainer"


def test_cluster_axes_place_trials_and_are_no_factor(load: Load) -> None:
    spec = load("sweep: {zip: {model: [m, large], cluster: [one, eight]}}")
    assert spec.axes == ("model",)
    assert [(*point.axes.values(), point.resources.num_gpus) for point in spec.points] == [("m", 0), ("large", 8)]


def test_interpolations_see_the_axes(load: Load) -> None:
    spec = load(
        "recipe: {mini_batch_prompts: '${recipe.prompts_per_step}'}\nsweep: {grid: {recipe.prompts_per_step: [2, 6]}}"
    )
    assert [point.recipe.mini_batch_prompts for point in spec.points] == [2, 6]


def test_an_experiment_may_inherit_another(load: Load, tmp_path: Path) -> None:
    load()
    child = tmp_path / "child.yaml"
    child.write_text("defaults: [exp, override model: large, _self_]\nsweep: {grid: {algorithm: [dapo]}, seeds: [8]}\n")
    spec = load_sweep(child)
    assert axes(spec) == [("dapo", "full", 8), ("dapo", "ets", 0.1, 8), ("dapo", "ets", 0.2, 8)]
    assert spec.points[0].recipe.model.path == "some/large"


def test_a_group_file_that_pulls_in_another_is_composed_as_hydra_does(load: Load, tmp_path: Path) -> None:
    (tmp_path / "selection" / "far.yaml").write_text(
        "# @package _global_\nselection: {method: full}\nrecipe: {ppo_epochs: 5}\n"
    )
    spec = load("sweep: {grid: {algorithm: [grpo, dapo], selection: [full, far]}}")
    assert [point.recipe.ppo_epochs for point in spec.points] == [1, 5, 1, 5]


def test_composing_each_choice_once_equals_composing_each_combination(load: Load, tmp_path: Path) -> None:
    body = SWEEP + "recipe: {steps: 6}\nselection: {warmup_steps: 0}\nalgorithm: {kl_coef: 0.5}\n"
    quick = load(body)
    for name in GROUPS:  # the words that make a file compose the slow way
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"# @package {name.split('/')[0]}\n{path.read_text()}")
    slow = load(body)
    assert quick.points == slow.points
    assert quick.points[0].recipe.algorithm.kl_coef == 0.5


def test_groups_that_are_not_beside_the_file_come_from_the_repository(tmp_path: Path) -> None:
    file = tmp_path / "my exp" / "mine.yaml"
    (file.parent / "recipe").mkdir(parents=True)
    (file.parent / "recipe" / "own.yaml").write_text(GROUPS["recipe/r"])
    file.write_text(
        "defaults: [{algorithm: dapo}, {selection: ets}, {model: tiny}, {data: arithmetic}, {recipe: own}, "
        "{eval: arithmetic}]"
    )
    spec = load_sweep(file)
    assert spec.points[0].recipe.steps == 4
    assert spec.points[0].recipe.model.path == "builtin:arithmetic-tiny"
    assert spec.points[0].resources == Resources()


REFUSED = yaml.safe_load((Path(__file__).parents[1] / "golden" / "refusals.yaml").read_text())


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_make_sense_is_told_with_its_place_and_mend(load: Load, tmp_path: Path, name: str) -> None:
    case = REFUSED[name]
    message = refusal(load, tmp_path, case.get("body", SWEEP), *case.get("overrides", ()))
    assert message[: len(case["message"].rstrip())] == case["message"].rstrip()


def test_a_value_out_of_range_in_a_groups_file_names_that_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "selection" / "ets.yaml").write_text("method: ets\nratio: 2\n")
    assert refusal(load, tmp_path, "", "selection=ets").startswith(
        "selection.ratio is 2.0\n  at: selection/ets.yaml:2: selection.ratio\n"
    )


def test_a_required_key_that_is_nowhere_is_named(load: Load, tmp_path: Path) -> None:
    (tmp_path / "recipe" / "r.yaml").write_text("steps: 4\nprompts_per_step: 8\ngroup_size: 2\nlearning_rate: 3e-4\n")
    assert refusal(load, tmp_path).startswith("recipe.mini_batch_prompts is not given\n  at: recipe/r.yaml")


def test_a_group_that_is_not_chosen_is_named_with_its_choices(load: Load, tmp_path: Path) -> None:
    message = refusal(load, tmp_path, "", defaults="[{algorithm: grpo}]")
    assert message.startswith(
        "no selection is chosen\n  at: exp.yaml: selection\n  fix: add `- selection: NAME` to `defaults:`"
    )
    assert "valid: ets" in message
