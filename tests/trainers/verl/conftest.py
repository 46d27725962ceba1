import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fakes"))

from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection
from trainers.verl.launch.job import VerlJob

ALGORITHM = {"name": "grpo", "clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.001, "loss_mean": "sequence"}
RECIPE = {
    "trainer": "verl",
    "steps": 4,
    "prompts_per_step": 8,
    "group_size": 8,
    "mini_batch_prompts": 8,
    "learning_rate": 3e-4,
    "update": "dense",
}


@pytest.fixture
def make_recipe():
    def make(algorithm=None, selection=None, model=None, data=None, **changes):
        lengths = {"max_prompt_tokens": 32, "max_response_tokens": 48}
        return Recipe(
            algorithm=Algorithm(**(ALGORITHM | (algorithm or {}))),
            selection=Selection(**({"method": "full"} | (selection or {}))),
            model=Model(**({"path": "builtin:arithmetic-tiny"} | (model or {}))),
            data=Data(**({"name": "arithmetic_train", "template": "chat"} | lengths | (data or {}))),
            **(RECIPE | changes),
        )

    return make


@pytest.fixture
def make_job(make_recipe):
    def make(resources=None, resume_from=None, seed=0, ray_address=None, **recipe):
        return VerlJob(
            recipe=make_recipe(**recipe),
            resources=Resources(**({"num_cpus": 2, "checkpoint_every": 2} | (resources or {}))),
            seed=seed,
            token="0123abcd",
            model_folder=Path("/models/tiny"),
            checkpoint_folder=Path("/runs/x/checkpoints"),
            attempt_folder=Path("/runs/x/attempts/1"),
            data_file=Path("/runs/x/attempts/1/prompts.parquet"),
            resume_from=resume_from,
            ray_address=ray_address,
        )

    return make
