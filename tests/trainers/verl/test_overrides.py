from dataclasses import fields
from pathlib import Path

import pytest

from eval.errors import OrchError
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection
from trainers.verl.launch.overrides import AGENT_LOOPS, BY_OUR_CODE, micro_batch, overrides

GOLDEN = Path(__file__).parent / "golden"
CHANGES = {
    "algorithm.kl_coef": {"algorithm": {"kl_coef": 0.05}},
    "algorithm.entropy_coef": {"algorithm": {"entropy_coef": 0.01}},
    "algorithm.dynamic_sampling": {"algorithm": {"dynamic_sampling": True}},
    "algorithm.max_sampling_rounds": {"algorithm": {"dynamic_sampling": True, "max_sampling_rounds": 7}},
    "algorithm.rollout_is": {"algorithm": {"rollout_is": "token", "rollout_is_threshold": 2.0}},
    "algorithm.rollout_rs": {"algorithm": {"rollout_rs": "seq_mean_k3", "rollout_rs_threshold": 0.1}},
    "model.dtype": {"model": {"dtype": "bfloat16"}, "resources": {"num_gpus": 1}},
    "model.trust_remote_code": {"model": {"trust_remote_code": True}},
    "data.max_prompt_tokens": {"data": {"max_prompt_tokens": 64}},
    "data.max_response_tokens": {"data": {"max_response_tokens": 96}},
    "recipe.steps": {"steps": 9},
    "recipe.prompts_per_step": {"prompts_per_step": 16},
    "recipe.group_size": {"group_size": 4},
    "recipe.mini_batch_prompts": {"mini_batch_prompts": 4},
    "recipe.ppo_epochs": {"ppo_epochs": 2},
    "recipe.learning_rate": {"learning_rate": 1e-6},
    "recipe.weight_decay": {"weight_decay": 0.1},
    "recipe.adam_beta1": {"adam_beta1": 0.8},
    "recipe.adam_beta2": {"adam_beta2": 0.95},
    "recipe.max_grad_norm": {"max_grad_norm": None},
    "recipe.temperature": {"temperature": 0.6},
    "recipe.top_p": {"top_p": 0.9},
    "cluster.num_gpus": {"resources": {"num_gpus": 2}},
    "cluster.num_cpus": {"resources": {"num_cpus": 32}},
    "cluster.num_nodes": {"resources": {"num_nodes": 2}},
    "cluster.micro_batch_sequences": {"resources": {"micro_batch_sequences": 16}},
    "cluster.tokens_per_pass": {"resources": {"tokens_per_pass": 640}},
    "cluster.sample_batch_sequences": {"resources": {"sample_batch_sequences": 16}},
    "cluster.checkpoint_every": {"resources": {"checkpoint_every": 3}},
    "cluster.tensor_parallel": {"resources": {"num_gpus": 2, "tensor_parallel": 2}},
    "cluster.gpu_memory_share": {"resources": {"num_gpus": 2, "gpu_memory_share": 0.7}},
    "cluster.offload": {"resources": {"num_gpus": 2, "offload": "sampling"}},
    "cluster.verl": {"resources": {"num_gpus": 2, "verl": (("actor_rollout_ref.nccl_timeout", 900),)}},
    "model.gradient_checkpointing": {"model": {"gradient_checkpointing": False}, "resources": {"num_gpus": 2}},
}
"""Field → a change of it that must change verl's overrides, with what it needs beside it."""
REFUSED = {
    "recipe.update": {"update": "sparse"},
    "model.dtype": {"model": {"dtype": "bfloat16"}},
    "selection.order": {
        "algorithm": {"dynamic_sampling": True},
        "selection": {"method": "ets", "ratio": 0.2, "order": "before_filter"},
    },
    "recipe.mini_batch_prompts": {"resources": {"num_gpus": 3}},
    "cluster.tokens_per_pass": {
        "selection": {"method": "ict", "ratio": 0.2},
        "resources": {"tokens_per_pass": 79},
    },
}
ELSEWHERE = {
    "recipe.trainer": "chooses verl",
    "model.path": "resolved to the job's folder",
    "cluster.memory_gb": "booked by the scheduler",
    "cluster.keep_checkpoints": "trainers.verl.launch.checkpoint.prune",
    "cluster.keep_every": "trainers.verl.launch.checkpoint.prune",
    "cluster.keep_best": "trainers.verl.launch.checkpoint.prune",
    "cluster.start_timeout_s": "trainers.verl.launch.watch",
    "cluster.step_timeout_s": "trainers.verl.launch.watch",
}
SECTIONS = {"algorithm": Algorithm, "model": Model, "data": Data, "recipe": Recipe, "cluster": Resources}


def test_every_field_of_a_recipe_lands_is_ours_or_is_refused_by_name():
    keys = {f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in fields(kind)}
    keys -= {f"recipe.{section}" for section in ("algorithm", "selection", "model", "data")}
    assert keys == keys & (set(CHANGES) | BY_OUR_CODE | set(ELSEWHERE) | set(REFUSED))
    assert set(CHANGES) & BY_OUR_CODE == set()


@pytest.mark.parametrize("key", CHANGES)
def test_a_field_that_lands_changes_the_overrides(make_job, key):
    plain = dict(CHANGES[key])
    if key == "algorithm.max_sampling_rounds":
        plain["algorithm"] = {"dynamic_sampling": True}
    else:
        num_gpus = CHANGES[key].get("resources", {}).get("num_gpus", 0) if key != "cluster.num_gpus" else 0
        plain = {"resources": {"num_gpus": num_gpus}}
    assert overrides(make_job(**CHANGES[key])) != overrides(make_job(**plain))


@pytest.mark.parametrize("key", REFUSED)
def test_what_verl_cannot_honour_is_refused_by_its_name(make_job, key):
    with pytest.raises(OrchError) as refusal:
        overrides(make_job(**REFUSED[key]))
    assert refusal.value.where == key
    assert refusal.value.fix


def test_selection_is_ours_alone(make_job):
    dense = overrides(make_job())
    for option in ({"method": "gmts", "ratio": 0.2}, {"method": "random", "ratio": 0.5, "warmup_steps": 3}):
        assert overrides(make_job(selection=option)) == dense
    assert {field.name for field in fields(Selection)} >= {"method", "ratio"}


@pytest.mark.parametrize(
    ("name", "job"),
    {
        "grpo_cpu": {},
        "dapo_gpus": {
            "algorithm": {"name": "dapo", "clip_high": 0.28, "kl_coef": 0.0, "loss_mean": "token"},
            "model": {"path": "Qwen/Qwen2.5-Math-7B", "dtype": "bfloat16"},
            "resources": {"num_gpus": 8, "num_cpus": 32, "micro_batch_sequences": 8},
            "prompts_per_step": 64,
            "group_size": 16,
            "mini_batch_prompts": 64,
            "resume_from": Path("/runs/x/checkpoints/global_step_2"),
        },
    }.items(),
)
def test_the_overrides_are_the_golden_ones(make_job, name, job):
    found = [line.replace(str(AGENT_LOOPS), "AGENT_LOOPS") for line in overrides(make_job(**job))]
    assert found == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("offload", "flags"),
    [("none", (False, False, False)), ("sampling", (True, True, False)), ("always", (False, False, True))],
)
def test_what_leaves_the_gpu_is_told_by_verls_three_switches(make_job, offload, flags):
    lines = overrides(make_job(resources={"num_gpus": 1, "offload": offload}))
    fsdp = "actor_rollout_ref.actor.fsdp_config"
    for name, is_on in zip(("param_offload", "optimizer_offload", "offload_policy"), flags, strict=True):
        assert f"{fsdp}.{name}={str(is_on).lower()}" in lines


def test_settings_of_verl_come_last_so_that_they_win(make_job):
    pairs = (("actor_rollout_ref.rollout.enforce_eager", True), ("actor_rollout_ref.rollout.trace.backend", None))
    lines = overrides(make_job(resources={"verl": pairs}))
    assert lines[-2:] == (
        "++actor_rollout_ref.rollout.enforce_eager=true",
        "++actor_rollout_ref.rollout.trace.backend=null",
    )


def test_passes_divide_a_mini_batch_and_may_cut_groups(make_job):
    job = make_job(prompts_per_step=6, mini_batch_prompts=6, group_size=4, resources={"micro_batch_sequences": 10})
    assert micro_batch(job) == 8
    job = make_job(
        prompts_per_step=6,
        mini_batch_prompts=6,
        group_size=4,
        resources={"micro_batch_sequences": 3},
        selection={"method": "ict", "ratio": 0.2},
    )
    assert micro_batch(job) == 3
    assert "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=3" in overrides(job)
