from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.api import TrainJob
from trainers.models.tiny import build
from trainers.models.tiny_spec import ARITHMETIC_TINY
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the tiny family that has learned the form of an answer and little else: seconds to build."""
    folder = tmp_path_factory.mktemp("small-model")
    spec = replace(
        ARITHMETIC_TINY,
        hidden_size=48,
        intermediate_size=64,
        num_layers=2,
        num_heads=2,
        num_key_value_heads=1,
        batch_sequences=32,
        learning_rate=8e-3,
        num_threads=1,
        first_check=140,
        check_every=140,
        check_problems=1,
        check_samples=1,
        stop_at=0.0,
        band=(0.0, 1.0),
    )
    build(spec, folder)
    return folder


def _recipe_of(**changes: Any) -> Recipe:
    """GRPO on two prompts of four; `algorithm` and `selection` take dicts of changes."""
    algorithm = {"name": "grpo", "clip_low": 0.2, "clip_high": 0.2, "loss_mean": "sequence"}
    values: dict[str, Any] = {
        "algorithm": Algorithm(**algorithm | changes.pop("algorithm", {})),
        "selection": Selection(**{"method": "full"} | changes.pop("selection", {})),
        "model": Model(path="unused", dtype=changes.pop("dtype", "float32")),
        "data": Data(
            **{"name": "arithmetic_train", "template": "chat", "max_prompt_tokens": 32, "max_response_tokens": 32}
            | changes.pop("data", {})
        ),
        "steps": 4,
        "prompts_per_step": 2,
        "group_size": 4,
        "mini_batch_prompts": 1,
        "learning_rate": 1e-3,
    }
    return Recipe(**values | changes)


def _job_of(recipe: Recipe, model_folder: Path, root: Path, *, attempt: int = 1, **changes: Any) -> TrainJob:
    resources = Resources(**{"checkpoint_every": 2} | changes.pop("resources", {}))
    return TrainJob(
        **{
            "recipe": recipe,
            "seed": 7,
            "resources": resources,
            "model_folder": model_folder,
            "checkpoint_folder": root / "checkpoints",
            "attempt_folder": root / "attempts" / str(attempt),
        }
        | changes
    )


@pytest.fixture(scope="session")
def half_right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions to which about half of the guesses of an untaught model are right: every batch has a signal."""
    file = tmp_path_factory.mktemp("data") / "half_right.jsonl"
    rows = [{"question": f"{10 + row}+{80 - row}=?", "answer": "100", "error": 30} for row in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def recipe_of(half_right: Path) -> Callable[..., Recipe]:
    def make(**changes: Any) -> Recipe:
        data = {"name": str(half_right)} | changes.pop("data", {})
        return _recipe_of(data=data, **changes)

    return make


@pytest.fixture
def job_of() -> Callable[..., TrainJob]:
    return _job_of
