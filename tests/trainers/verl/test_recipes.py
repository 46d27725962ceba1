"""The columns of the papers' hyper-parameter table, as the groups of `experiments/` state them and verl is told them.

On H100 GPUs: how a column is cut to fit them is part of what verl is told.

Source: docs/papers.md#hyper-parameters; what a paper does not state is an assumption of the group files.
"""

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from orchestrator.config.shape import ModelShape
from orchestrator.sizing.devices import GPUS
from orchestrator.sizing.fit import fit
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection
from trainers.verl.launch.job import VerlJob
from trainers.verl.launch.overrides import overrides

GOLDEN = Path(__file__).parent / "golden"
EXPERIMENTS = Path(__file__).parents[3] / "experiments"
COLUMNS = {
    "80/20 Qwen3-8B": ("dapo_overlong", "qwen3-8b-base", "dapo_math_17k", "ets", "node8"),
    "80/20 Qwen3-14B": ("dapo_overlong", "qwen3-14b-base", "dapo_math_17k", "ets", "node8"),
    "80/20 Qwen3-32B": ("dapo_overlong", "qwen3-32b-base", "dapo_math_17k", "ets", "node8"),
    "GMTS 1.5B": ("dapo", "qwen2.5-math-1.5b", "math12k", "gmts_1.5b", "gpu"),
    "GMTS 1.5B GRPO": ("grpo", "qwen2.5-math-1.5b", "math12k", "gmts_1.5b", "gpu"),
    "GMTS 7B": ("dapo", "qwen2.5-math-7b", "math12k", "gmts_1.5b", "node8"),
    "GMTS Qwen3-8B": ("dapo", "qwen3-8b", "dapo_math_17k_4k", "gmts_8b", "node8"),
    "ICT 7B": ("grpo_ict", "qwen2.5-7b", "gsm8k_ict_7b", "ict_gsm8k", "node8"),
    "ICT 0.5B GSM8K": ("grpo_ict", "qwen2.5-0.5b", "gsm8k_train", "ict_gsm8k", "gpu"),
    "ICT 1.5B MATH": ("grpo_ict", "qwen2.5-1.5b", "math_ict", "ict_math", "gpu"),
}
"""Column → its choice of algorithm, model, data, recipe, cluster."""
STATED = {
    "80/20 Qwen3-8B": ((512, 32, 16), (2048, 20480), 1e-6, (0.2, 0.28), (0, 0), 1.0, 1),
    "80/20 Qwen3-14B": ((512, 32, 16), (2048, 20480), 1e-6, (0.2, 0.28), (0, 0), 1.0, 1),
    "80/20 Qwen3-32B": ((512, 32, 16), (2048, 20480), 1e-6, (0.2, 0.28), (0, 0), 1.0, 1),
    "GMTS 1.5B": ((64, 64, 16), (1024, 2048), 3e-5, (0.2, 0.28), (0, 0), 1.0, 1),
    "GMTS 1.5B GRPO": ((64, 64, 16), (1024, 2048), 3e-5, (0.2, 0.2), (0.001, 0), 1.0, 1),
    "GMTS 7B": ((64, 64, 16), (1024, 2048), 3e-5, (0.2, 0.28), (0, 0), 1.0, 1),
    "GMTS Qwen3-8B": ((512, 32, 16), (1024, 4096), 1e-6, (0.2, 0.28), (0, 0), 1.0, 1),
    "ICT 7B": ((16, 16, 8), (2048, 2048), None, (0.2, 0.2), (0.001, 0.001), 0.6, 2),
    "ICT 0.5B GSM8K": ((16, 16, 8), (512, 512), None, (0.2, 0.2), (0.001, 0.001), 0.6, 2),
    "ICT 1.5B MATH": ((16, 16, 8), (512, 2048), None, (0.2, 0.2), (0.001, 0.001), 0.6, 2),
}
"""Column → prompts, mini-batch, G · lengths · learning rate · clips · KL, entropy · temperature · epochs."""


def group(kind, name):
    return yaml.safe_load((EXPERIMENTS / kind / f"{name}.yaml").read_text())


def job_of(column):
    algorithm, model, data, named, cluster = COLUMNS[column]
    shape_and_model = group("model", model)
    stated = {field.name: shape_and_model[field.name] for field in fields(Model) if field.name in shape_and_model}
    half = {"dtype": "float16"} if column.startswith("ICT") else {}  # as its experiments say
    shape = ModelShape(**{name: value for name, value in shape_and_model.items() if name not in stated})
    recipe = Recipe(
        trainer="verl",
        algorithm=Algorithm(**group("algorithm", algorithm)),
        selection=Selection(method="full"),
        model=Model(**(stated | half)),
        data=Data(**group("data", data)),
        **group("recipe", named),
    )
    return VerlJob(
        recipe=recipe,
        resources=fit(recipe, Resources(**group("cluster", cluster)), shape, GPUS["h100"]).resources,
        seed=0,
        token="0123abcd",
        model_folder=Path("/models/tiny"),
        checkpoint_folder=Path("/runs/x/checkpoints"),
        attempt_folder=Path("/runs/x/attempts/1"),
        data_file=Path("/runs/x/attempts/1/prompts.parquet"),
        resume_from=None,
    )


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_says_what_its_paper_states(column):
    recipe = job_of(column).recipe
    algorithm = recipe.algorithm
    batch, lengths, rate, clips, coefficients, temperature, epochs = STATED[column]
    assert (recipe.prompts_per_step, recipe.mini_batch_prompts, recipe.group_size) == batch
    assert (recipe.data.max_prompt_tokens, recipe.data.max_response_tokens) == lengths
    assert rate is None or recipe.learning_rate == rate
    assert (algorithm.clip_low, algorithm.clip_high) == clips
    assert (algorithm.kl_coef, algorithm.entropy_coef) == coefficients
    assert (recipe.temperature, recipe.ppo_epochs, recipe.lr_warmup_steps) == (temperature, epochs, 0)
    assert recipe.model.dtype == ("float16" if column.startswith("ICT") else "bfloat16")
    assert algorithm.overlong_buffer == (4096 if column.startswith("80/20") else None)


def test_what_each_column_tells_verl_is_golden():
    """Beside the lines of `dapo_gpus.txt`, which they share."""
    shared = set((GOLDEN / "dapo_gpus.txt").read_text().splitlines())
    text = ""
    for column in COLUMNS:
        own = [line for line in overrides(job_of(column)) if line not in shared and "agent_loop_config" not in line]
        text += "\n".join([f"[{column}]", *own]) + "\n\n"
    assert text == (GOLDEN / "columns.txt").read_text()


@pytest.mark.skipif(find_spec("verl") is None, reason="needs the environment of `make verl`")
@pytest.mark.parametrize("column", COLUMNS)
def test_verls_own_configuration_takes_what_it_is_told(column):
    import hydra
    from verl.utils.config import omega_conf_to_dataclass

    with hydra.initialize_config_module("verl.trainer.config", version_base=None):
        config = hydra.compose("ppo_trainer", overrides=list(overrides(job_of(column))))
    resources = job_of(column).resources
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert rollout.tensor_model_parallel_size == resources.tensor_parallel
    assert rollout.gpu_memory_utilization == resources.gpu_memory_share
    assert rollout.max_num_seqs == resources.sample_batch_sequences
    assert actor.ppo_max_token_len_per_gpu == resources.tokens_per_pass
    assert actor.fsdp_config.offload_policy == (resources.offload == "always")
    assert actor.fsdp_config.param_offload == (resources.offload == "sampling")
