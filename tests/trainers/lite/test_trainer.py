from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from eval.api import Sampler, SampleRequest, SamplingSettings
from eval.errors import ModelError, OrchError
from trainers.api import TrainJob, TrainResult
from trainers.diagnostics import METRICS
from trainers.lite import trainer as module
from trainers.lite.trainer import LiteTrainer
from trainers.recipe import Recipe
from trainers.registry import trainer

RecipeOf = Callable[..., Recipe]
JobOf = Callable[..., TrainJob]
NOT_NUMBERS = ("time/", "memory/", "sampling/tokens_per_s")
DAPO = {"name": "dapo", "clip_high": 0.28, "loss_mean": "token", "dynamic_sampling": True}


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return load_file(result.model_folder / "model.safetensors")


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def lines(job: TrainJob) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (job.attempt_folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(NOT_NUMBERS)} for row in rows]


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": {"kl_coef": 0.01}, "ppo_epochs": 2},
        {"algorithm": DAPO | {"overlong_buffer": 8}, "selection": {"method": "gmts", "ratio": 0.3}},
        {"selection": {"method": "ict", "ratio": 0.3, "scope": "response", "warmup_steps": 2}},
    ],
    ids=["grpo with KL and epochs", "dapo with gmts", "ict with a dense start"],
)
def test_a_stopped_and_resumed_run_gives_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf, changes: dict[str, Any]
) -> None:
    recipe = recipe_of(steps=5, prompts_per_step=4, mini_batch_prompts=2, **changes)
    whole_job = job_of(recipe, small_model, tmp_path / "whole")
    whole = LiteTrainer().train(whole_job)
    assert (whole.is_finished, whole.step) == (True, 5)

    done: list[int] = []
    first_job = job_of(
        recipe,
        small_model,
        tmp_path / "parts",
        on_step=lambda metrics: done.append(metrics["step"]),
        should_stop=lambda: len(done) == 3,
    )
    stopped = LiteTrainer().train(first_job)
    assert (stopped.is_finished, stopped.step) == (False, 3)
    assert not (tmp_path / "parts" / "checkpoints" / "final").exists()
    second_job = job_of(recipe, small_model, tmp_path / "parts", attempt=2)
    resumed = LiteTrainer().train(second_job)
    assert are_equal(weights(whole), weights(resumed))
    assert lines(first_job) + lines(second_job) == lines(whole_job)
    assert not are_equal(weights(whole), load_file(small_model / "model.safetensors"))


def test_a_stop_in_the_middle_of_a_step_loses_nothing_before_it(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    recipe = recipe_of(steps=3)
    whole = LiteTrainer().train(job_of(recipe, small_model, tmp_path / "whole"))
    phases: list[tuple[str, int]] = []
    job = job_of(
        recipe,
        small_model,
        tmp_path / "parts",
        on_phase=lambda phase, step: phases.append((phase, step)),
        should_stop=lambda: ("score", 1) in phases,
    )
    assert LiteTrainer().train(job).step == 1
    assert phases[-1] == ("checkpoint", 1)
    resumed = LiteTrainer().train(job_of(recipe, small_model, tmp_path / "parts", attempt=2))
    assert are_equal(weights(whole), weights(resumed))


def test_one_seed_gives_the_same_bytes_and_another_gives_others(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    recipe = recipe_of(steps=2)
    first, second, other = (
        weights(LiteTrainer().train(job_of(recipe, small_model, tmp_path / name, seed=seed)))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert are_equal(first, second)
    assert not are_equal(first, other)


def test_how_a_batch_is_cut_changes_rounding_alone(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    recipe = recipe_of(steps=2, prompts_per_step=4, mini_batch_prompts=2)
    found = [
        weights(LiteTrainer().train(job_of(recipe, small_model, tmp_path / str(cut), resources=resources)))
        for cut, resources in enumerate(
            ({}, {"micro_batch_sequences": 3}, {"sample_batch_sequences": 5}, {"micro_batch_sequences": 1})
        )
    ]
    start = load_file(small_model / "model.safetensors")
    for name, value in found[0].items():
        moved = float((value - start[name]).abs().max())
        for other in found[1:]:
            # Adam turns rounding of near-zero gradients into steps of full size, hence not tighter.
            assert float((value - other[name]).norm()) < 0.02 * float((value - start[name]).norm()) + 1e-7
        assert moved > 0


def test_every_step_is_a_line_of_declared_metrics(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    recipe = recipe_of(algorithm=DAPO | {"kl_coef": 0.01}, selection={"method": "ets", "ratio": 0.2}, steps=3)
    told: list[dict[str, Any]] = []
    job = job_of(recipe, small_model, tmp_path, on_step=told.append)
    result = LiteTrainer().train(job)
    rows = [json.loads(line) for line in (job.attempt_folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in told] == [1, 2, 3]
    for row in rows:
        assert set(row) <= set(METRICS)
        assert {"reward/mean", "loss", "gradient/norm", "time/step_s", "memory/peak_mb"} <= set(row)
        assert row["time/sample_s"] > 0
    assert result.metrics["step"] == 3
    assert {"prepare", "sample", "score", "update", "checkpoint"} <= set(result.phase_seconds)
    assert result.num_parameters == sum(
        parameter.numel() for parameter in AutoModelForCausalLM.from_pretrained(result.model_folder).parameters()
    )


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    recipe = recipe_of(steps=2)
    first = LiteTrainer().train(job_of(recipe, small_model, tmp_path))
    again = LiteTrainer().train(job_of(recipe, small_model, tmp_path, attempt=2, on_step=pytest.fail))
    assert (again.is_finished, again.step) == (True, 2)
    assert again.metrics["reward/mean"] == first.metrics["reward/mean"]
    assert are_equal(weights(first), weights(again))


def test_a_damaged_checkpoint_costs_steps_but_no_difference(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    recipe = recipe_of(steps=4)
    first = weights(LiteTrainer().train(job_of(recipe, small_model, tmp_path)))
    newest = tmp_path / "checkpoints" / "step-00000004" / "state.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    steps: list[int] = []
    job = job_of(recipe, small_model, tmp_path, attempt=2, on_step=lambda metrics: steps.append(metrics["step"]))
    assert are_equal(weights(LiteTrainer().train(job)), first)
    assert steps == [1, 2, 3, 4]


def test_a_checkpoint_of_another_recipe_is_refused(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    recipe = recipe_of(steps=2)
    LiteTrainer().train(job_of(recipe, small_model, tmp_path))
    with pytest.raises(OrchError, match="belongs to another recipe or seed"):
        LiteTrainer().train(job_of(replace(recipe, learning_rate=2e-3), small_model, tmp_path))
    with pytest.raises(OrchError, match="belongs to another recipe or seed"):
        LiteTrainer().train(job_of(recipe, small_model, tmp_path, seed=8))


def test_evaluation_sees_the_live_policy_and_repeats_after_a_kill(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    seen: list[tuple[int, str, str]] = []

    def evaluate(step: int, sampler: Sampler) -> None:
        prompt = sampler.encode([{"role": "user", "content": "47+85=?"}])
        request = SampleRequest(problem_id="p", index=0, prompt_tokens=prompt, seed=3)
        settings = SamplingSettings(num_samples=1, temperature=1.0, max_new_tokens=32, template="chat")
        (completion,) = sampler.sample([request], settings)
        seen.append((step, sampler.model_digest, completion.text))
        if len(seen) == 2:
            raise KeyboardInterrupt

    recipe = recipe_of(steps=5)
    resources = {"checkpoint_every": 100}
    callbacks = {"evaluate": evaluate, "evaluate_every": 2, "resources": resources}
    with pytest.raises(KeyboardInterrupt):
        LiteTrainer().train(job_of(recipe, small_model, tmp_path, **callbacks))
    LiteTrainer().train(job_of(recipe, small_model, tmp_path, attempt=2, **callbacks))
    assert [step for step, _, _ in seen] == [2, 4, 4]
    assert seen[1] == seen[2]
    assert seen[0][1] != seen[1][1]


def test_a_step_without_any_signal_learns_nothing_and_goes_on(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    # One token never holds an answer, so every group is all wrong.
    recipe = recipe_of(algorithm=DAPO, steps=2, data={"max_response_tokens": 1})
    job = job_of(recipe, small_model, tmp_path)
    result = LiteTrainer().train(job)
    assert are_equal(weights(result), load_file(small_model / "model.safetensors"))
    assert [row["sampling/groups_kept"] for row in lines(job)] == [0, 0]
    assert [row["sampling/rounds"] for row in lines(job)] == [3, 3]
    assert [row["data/position"] for row in lines(job)] == [6, 12]


def test_a_loss_that_is_not_finite_ends_the_run_with_what_to_do(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "update_policy", lambda *_, **__: {"loss": float("nan"), "gradient/norm": 1.0})
    with pytest.raises(OrchError, match="loss of step 1 is not finite") as caught:
        LiteTrainer().train(job_of(recipe_of(), small_model, tmp_path))
    assert "learning_rate" in caught.value.fix
    assert not (tmp_path / "checkpoints").exists()


def test_running_out_of_memory_says_which_knob_to_turn(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(module, "score_rollouts", no_memory)
    with pytest.raises(OrchError, match="out of memory") as caught:
        LiteTrainer().train(job_of(recipe_of(), small_model, tmp_path))
    assert "micro_batch_sequences" in caught.value.fix


def test_bfloat16_trains_in_float32_and_saves_bfloat16(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    # A step of 1e-5 is below what a bfloat16 weight can move by.
    recipe = recipe_of(dtype="bfloat16", steps=2, learning_rate=1e-5, algorithm={"kl_coef": 0.01})
    job = job_of(recipe, small_model, tmp_path)
    result = LiteTrainer().train(job)
    state = torch.load(tmp_path / "checkpoints" / "step-00000002" / "state.pt", weights_only=True)
    start = load_file(small_model / "model.safetensors")
    for name, value in weights(result).items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, state["model"][name].to(torch.bfloat16))
        assert 0 < float((state["model"][name] - start[name]).abs().max()) < 1e-4
    assert all(row["gradient/norm"] > 0 for row in lines(job))


@pytest.mark.parametrize(
    ("changes", "resources", "message"),
    [
        ({"dtype": "float16"}, {}, "does not train in float16"),
        ({}, {"num_gpus": 2}, "works on one device"),
    ],
)
def test_what_this_trainer_does_not_do_is_refused(
    tmp_path: Path,
    small_model: Path,
    recipe_of: RecipeOf,
    job_of: JobOf,
    changes: dict[str, Any],
    resources: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(OrchError, match=message):
        LiteTrainer().train(job_of(recipe_of(**changes), small_model, tmp_path, resources=resources))


def test_a_model_that_is_not_there_is_told_before_anything_is_written(
    tmp_path: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        LiteTrainer().train(job_of(recipe_of(), tmp_path / "nowhere", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_torch_is_left_as_it_was(tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf) -> None:
    torch.set_num_threads(2)
    LiteTrainer().train(job_of(recipe_of(steps=1), small_model, tmp_path))
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_registry_knows_it() -> None:
    assert isinstance(trainer("lite"), LiteTrainer)


KILLED = """
import sys, pickle, pathlib
from trainers.lite.trainer import LiteTrainer
root, model, recipe_file, slow = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
from trainers.api import Resources, TrainJob
import time
recipe = pickle.loads(pathlib.Path(recipe_file).read_bytes())
job = TrainJob(recipe=recipe, seed=7, resources=Resources(checkpoint_every=2), model_folder=model,
    checkpoint_folder=root / "checkpoints", attempt_folder=root / "attempts" / slow,
    on_step=lambda metrics: time.sleep(0.05))
LiteTrainer().train(job)
"""


def test_a_killed_process_is_continued_to_the_same_bytes(
    tmp_path: Path, small_model: Path, recipe_of: RecipeOf, job_of: JobOf
) -> None:
    import pickle

    recipe = recipe_of(steps=12, algorithm={"kl_coef": 0.01}, selection={"method": "ets", "ratio": 0.5})
    whole = LiteTrainer().train(job_of(recipe, small_model, tmp_path / "whole"))
    (tmp_path / "recipe").write_bytes(pickle.dumps(recipe))
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(small_model), str(tmp_path / "recipe")]
    process = subprocess.Popen([*arguments, "1"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    metrics = tmp_path / "killed" / "attempts" / "1" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") >= 5):
        assert process.poll() is None, "it must not end before it is killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = LiteTrainer().train(job_of(recipe, small_model, tmp_path / "killed", attempt=2))
    assert resumed.step == 12
    assert 1 < lines(job_of(recipe, small_model, tmp_path / "killed", attempt=2))[0]["step"] <= 7
    assert are_equal(weights(whole), weights(resumed))
