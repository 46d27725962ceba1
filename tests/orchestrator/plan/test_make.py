import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from orchestrator.codec import decode, encode
from orchestrator.config.packaged import PACKAGED
from orchestrator.config.spec import SweepSpec, load_sweep
from orchestrator.errors import OrchError, PlanError
from orchestrator.plan.identity import base_trial_id, trial_id
from orchestrator.plan.make import make_plan
from orchestrator.plan.trial import Plan

DEFAULTS = (
    "defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny}, "
    "{eval: arithmetic}, _self_]\n"
)
NOW = "2026-01-01T00:00:00Z"


def spec_of(folder: Path, sweep: str, *overrides: str) -> SweepSpec:
    file = folder / "exp.yaml"
    file.write_text(f"{DEFAULTS}sweep: {sweep}\n")
    return load_sweep(file, overrides)


def plan_of(folder: Path, sweep: str, *overrides: str) -> Plan:
    return make_plan(
        spec_of(folder, sweep, *overrides),
        model_digest=lambda model: f"model {model.path}",
        data_identity=lambda name: f"data {name}",
    )


def test_base_models_come_first_and_trials_carry_their_identity(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{grid: {selection: [full, ets]}, seeds: [0, 1]}")
    assert [entry.label for entry in plan.entries] == [
        "base", "full · seed 0", "ets · seed 0", "full · seed 1", "ets · seed 1",
    ]  # fmt: skip
    base, first = plan.entries[0].trial, plan.entries[1].trial
    assert (base.kind, base.recipe, base.seed, base.data_digest) == ("base", None, None, None)
    assert base.id == base_trial_id(base.model, model_digest="model builtin:arithmetic-tiny")
    assert first.recipe is not None
    assert (first.data_digest, first.model_digest) == ("data arithmetic_train", "model builtin:arithmetic-tiny")
    assert first.id == trial_id(
        first.recipe, seed=0, data_digest="data arithmetic_train", model_digest="model builtin:arithmetic-tiny"
    )
    assert (plan.experiment, plan.axes) == ("exp", ("selection",))


def test_each_model_has_one_base_which_knows_the_axis_that_chose_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{grid: {selection: [full, ets], model.path: [a/b, c/d]}}")
    assert [entry.axes for entry in plan.entries[:2]] == [{"model.path": "a/b"}, {"model.path": "c/d"}]
    assert [entry.trial.kind for entry in plan.entries] == ["base"] * 2 + ["train"] * 4


def test_two_spellings_of_one_trial_are_one_trial(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "{grid: {selection: [ets, ets_paper]}}")
    assert [entry.label for entry in plan.entries] == ["base", "ets · seed 0"]


def test_the_digest_changes_with_trials_evaluation_and_resources_only(tmp_path: Path) -> None:
    sweep = "{grid: {selection: [full, ets]}}"
    plain = plan_of(tmp_path, sweep).digest
    assert plan_of(tmp_path, sweep).digest == plain
    changes = ("seeds=[1]", "recipe.steps=30", "eval.num_samples=2", "cluster.num_cpus=3", "selection=[full]", "name=x")
    others = [plan_of(tmp_path, sweep, change).digest for change in changes]
    assert len({plain, *others}) == len(changes) + 1
    assert plan_of(tmp_path, sweep, "cluster.max_concurrent=3").digest == plain


def test_a_kept_plan_reads_back_equal(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "{grid: {selection: [full, ets], selection.order: [after_filter]}, when: {selection.order: {selection: ets}}}",
    )
    assert decode(Plan, encode(plan)) == plan


@pytest.mark.parametrize("axis", ["eval.num_samples: [1, 2]", "cluster.num_cpus: [1, 2]"])
def test_one_trial_wanted_in_two_ways_is_refused(tmp_path: Path, axis: str) -> None:
    with pytest.raises(PlanError, match=r"would be (evaluated with two|given two)"):
        plan_of(tmp_path, f"{{grid: {{{axis}}}}}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trainer=lit", "unknown trainer 'lit'\n  at: command line: trainer=lit\n  fix: did you mean lite?"),
        ("trainer=no_such:Trainer", "trainer 'no_such:Trainer' cannot be loaded: No module named 'no_such'\n  at:"),
        ("trainer=trainers.api:Nope", "trainer 'trainers.api:Nope' cannot be loaded: module 'trainers.api' has no"),
        ("trainer=':Trainer'", "unknown trainer ':Trainer'\n  at: command line: trainer=':Trainer'\n"),
        ("data.template=caht", "unknown prompt template 'caht'\n  at: command line: data.template=caht\n"),
        ("eval.template=caht", "unknown prompt template 'caht'\n  at: command line: eval.template=caht\n"),
        ("eval.benchmarks=[amc]", "unknown benchmark or training set 'amc'\n  at: command line: eval.benchmarks="),
        ("data.name=nope", "unknown benchmark or training set 'nope'\n  at: command line: data.name=nope\n"),
        ("model.path=./nope", "'./nope' is neither a folder nor"),
        ("model.path=builtin:x", "unknown built-in model 'builtin:x'\n  at: command line: model.path=builtin:x\n"),
    ],
)  # fmt: skip
def test_a_name_that_nothing_answers_to_is_refused_at_plan_time(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(OrchError) as refused:
        make_plan(spec_of(tmp_path, "{}", change))
    assert str(refused.value).startswith(message)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["recipe.steps=4"],
            "recipe.lr_warmup_steps (5) lies beyond recipe.steps (4)\n  at: {}/recipe/tiny.yaml:7: recipe.lr_",
        ),
        (
            ["recipe.lr_warmup_steps=41"],
            "recipe.lr_warmup_steps (41) lies beyond recipe.steps (40)\n  at: command line: recipe.lr_warmup_steps=41\n"
            "  fix: set recipe.lr_warmup_steps=40 or less, or raise recipe.steps",
        ),
        (
            ["eval.every_steps=41"],
            "eval.every_steps (41) lies beyond recipe.steps (40)\n  at: command line: eval.every_steps=41\n",
        ),
        (
            ["data.max_response_tokens=481"],
            "data.max_prompt_tokens (32) and data.max_response_tokens (481) exceed the context of "
            "builtin:arithmetic-tiny, 512 tokens\n  at: command line: data.max_response_tokens=481\n  fix: let the two",
        ),
    ],
)
def test_what_lies_beyond_the_last_step_or_the_context_is_refused(
    tmp_path: Path, changes: list[str], message: str
) -> None:
    with pytest.raises(OrchError) as refused:
        plan_of(tmp_path, "{}", *changes)
    assert str(refused.value).startswith(message.format(PACKAGED))


def test_what_reaches_the_last_step_and_fills_the_context_is_planned(tmp_path: Path) -> None:
    plan_of(tmp_path, "{}", "recipe.lr_warmup_steps=40", "eval.every_steps=40", "data.max_response_tokens=480")


@pytest.mark.parametrize(("scaling", "is_refused"), [(None, True), ({"rope_type": "yarn", "factor": 4.0}, False)])
def test_a_folder_tells_its_context_unless_rotary_scaling_stretches_it(
    tmp_path: Path, scaling: dict[str, Any] | None, is_refused: bool
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 79, "rope_scaling": scaling}))
    refuse = pytest.raises(OrchError, match=r"exceed the context of .*model, 79 tokens")
    with refuse if is_refused else nullcontext():  # arithmetic has 32 and 48
        plan_of(tmp_path, "{}", f"model.path={folder}")


def test_a_relative_model_folder_that_is_not_there_is_no_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_plan(spec_of(tmp_path, "{}", "model.path=models/mine"))  # as owner/name
    (tmp_path / "models").mkdir()
    with pytest.raises(OrchError) as refused:
        make_plan(spec_of(tmp_path, "{}", "model.path=models/mine"))
    assert str(refused.value).startswith(
        "there is no folder models/mine, though there is models\n  at: command line: model.path=models/mine\n"
    )
    make_plan(spec_of(tmp_path, "{}", "model.path=models/mine", "model.revision=main"))


def test_a_refused_name_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match=r"at: .*exp\.yaml:3: data\.template"):
        make_plan(spec_of(tmp_path, "{}\ndata: {template: nope}"))


def test_the_real_digests_are_those_of_model_and_data(tmp_path: Path) -> None:
    from eval.benchmarks.registry import digest
    from trainers.models.resolve import model_digest

    trial = make_plan(spec_of(tmp_path, "{}")).entries[1].trial
    assert trial.data_digest == digest("arithmetic_train", None)
    assert trial.model_digest == model_digest(trial.model)


def test_ids_are_the_same_before_and_after_a_set_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = spec_of(tmp_path, "{}", "data.name=math12k", "eval.benchmarks=[gpqa_diamond]")
    before = make_plan(spec)
    assert before.entries[1].trial.data_digest == "hiyouga/math12k@main train"
    for name in ("math12k", "gpqa_diamond"):
        file = tmp_path / ".cache" / "orch" / "data" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"question": "1+1?", "answer": "2"}\n')
    assert make_plan(spec) == before
