"""What a verl trial does when something dies: real sweeps of the tiny model, killed and hurt from outside.

Each takes minutes: `.venv-verl/bin/python -m pytest -m slow tests/trainers/verl/test_faults.py`.
"""

import json
import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from rig import Rig

from orchestrator.record import Outcome, Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(find_spec("verl") is None, reason="needs .venv-verl: make verl"),
]
NUMBERS = ("reward/mean", "loss", "gradient/norm", "entropy/mean", "response/length_mean")
"""Metrics that depend on every sample and every weight."""
LEADER = "trainers.verl.main"
ENGINE = "VLLM::EngineCore"


@pytest.fixture
def make_rig(tmp_path, tmp_path_factory):
    shared = os.environ.get("ORCH_CACHE_DIR")
    cache = Path(shared) if shared else tmp_path_factory.getbasetemp() / "models"
    rigs = []

    def make(*overrides: str, name: str = "sweep") -> Rig:
        (tmp_path / name).mkdir()
        rigs.append(Rig(tmp_path / name, cache, *overrides))
        return rigs[-1]

    yield make
    for rig in rigs:
        for process in rig.alive():
            process.kill()


def only(processes):
    (process,) = processes
    return process


def again(rig: Rig, first: int, second: int) -> dict[int, dict[str, float]]:
    """Largest relative difference by metric of the steps that two attempts both did."""
    before, after = rig.lines(first), rig.lines(second)
    return {
        step: {name: abs(before[step][name] - after[step][name]) / (abs(before[step][name]) or 1.0) for name in NUMBERS}
        for step in sorted(before.keys() & after.keys())
    }


def test_a_run_that_is_killed_stopped_and_damaged_loses_and_doubles_no_step(make_rig):
    rig = make_rig("recipe.steps=12", "cluster.checkpoint_every=2", "cluster.keep_checkpoints=3")
    driver = rig.start()
    rig.wait_for_step(3, driver)
    os.killpg(only(rig.named(driver, LEADER)).pid, signal.SIGKILL)
    assert rig.finish(driver) == 1
    assert rig.leftovers() == []
    assert "was killed by SIGKILL" in rig.record.failure.message
    done = max(rig.lines(1))
    kept = rig.checkpoints()[-1]

    driver = rig.start()
    rig.wait_for_step(done + 1, driver)
    driver.terminate()
    assert rig.finish(driver) == 3
    assert rig.leftovers() == []
    assert rig.record.status is Status.STOPPED
    assert min(rig.lines(2)) == kept + 1
    assert rig.checkpoints()[-1] == max(rig.lines(2)), "a stop saves the present step"

    newest, older = rig.checkpoints()[-1], rig.checkpoints()[-2]
    weights = next((rig.store.checkpoint_folder(rig.trial_id) / f"global_step_{newest}" / "actor").glob("model*.pt"))
    os.truncate(weights, weights.stat().st_size // 2)
    driver = rig.start()
    rig.wait_for_step(newest + 1, driver)
    driver.kill()
    rig.finish(driver)
    assert rig.leftovers() == []
    assert f"checkpoint of step {newest} is passed over" in rig.store.log_file(rig.trial_id, 3).read_text()
    assert min(rig.lines(3)) == older + 1

    assert rig.finish(rig.start()) == 0
    assert rig.leftovers() == []
    assert rig.record.status is Status.DONE
    assert [row["step"] for row in rig.store.metrics(rig.trial_id)] == list(range(1, 13))
    differences = again(rig, 1, 2) | again(rig, 2, 3)
    print(json.dumps(differences, indent=1))
    assert differences, "steps were done again"
    assert max(value for step in differences.values() for value in step.values()) < 1e-4


def test_a_dead_trainer_and_a_dead_engine_are_tried_again_from_the_last_checkpoint(make_rig):
    rig = make_rig("recipe.steps=6", "cluster.checkpoint_every=1")
    driver = rig.start(scheduler="inline")
    rig.wait_for_step(1, driver)
    only(rig.named(driver, "ray::TaskRunner")).kill()
    rig.wait_for_step(2, driver)
    only(rig.named(driver, ENGINE)).kill()
    assert rig.finish(driver) == 0
    assert rig.leftovers() == []
    assert [attempt.outcome for attempt in rig.attempts] == [Outcome.FAILED, Outcome.FAILED, Outcome.DONE]
    print([attempt.failure and attempt.failure.message for attempt in rig.attempts])
    assert [rig.failure_class(number) for number in (1, 2)] == ["node lost", "node lost"]
    assert [row["step"] for row in rig.store.metrics(rig.trial_id)] == list(range(1, 7))


def test_an_engine_that_stands_still_is_a_hang_and_tried_again(make_rig):
    rig = make_rig("recipe.steps=6", "cluster.checkpoint_every=1", "cluster.step_timeout_s=20")
    driver = rig.start(scheduler="inline")
    rig.wait_for_step(2, driver)
    only(rig.named(driver, ENGINE)).suspend()
    assert rig.finish(driver) == 0
    assert rig.leftovers() == []
    assert [attempt.outcome for attempt in rig.attempts] == [Outcome.FAILED, Outcome.DONE]
    assert rig.failure_class(1) == "hang"
    assert [row["step"] for row in rig.store.metrics(rig.trial_id)] == list(range(1, 7))


def test_weights_that_become_infinite_are_a_divergence(make_rig):
    rig = make_rig("recipe.steps=3", "recipe.learning_rate=1e30", "recipe.max_grad_norm=null")
    assert rig.finish(rig.start(scheduler="inline")) == 1
    assert rig.leftovers() == []
    assert rig.failure_class(1) == "diverged"
    assert "is not finite" in rig.record.failure.message


def test_a_reward_function_that_raises_is_named_with_its_error(make_rig):
    rig = make_rig("recipe.steps=3", "cluster.step_timeout_s=20")
    assert rig.finish(rig.start(scheduler="inline", ORCH_TEST_REWARD_RAISES="1")) == 1
    assert rig.leftovers() == []
    assert "ZeroDivisionError: the reward function divides by zero" in rig.record.failure.message
    assert len(rig.attempts) == 1


def test_two_trials_share_a_machine_and_both_finish(make_rig):
    rigs = [make_rig("recipe.steps=3", f"seeds=[{seed}]", name=f"sweep{seed}") for seed in (0, 1)]
    drivers = [rig.start(scheduler="inline") for rig in rigs]
    codes = [rig.finish(driver) for rig, driver in zip(rigs, drivers, strict=True)]
    assert codes == [0, 0]
    assert [rig.leftovers() for rig in rigs] == [[], []]
    assert [len(rig.store.metrics(rig.trial_id)) for rig in rigs] == [3, 3]
    assert rigs[0].lines(1)[1]["reward/mean"] != rigs[1].lines(1)[1]["reward/mean"]


def test_a_model_without_a_tokenizer_and_too_long_prompts_are_refused_before_anything_starts(make_rig):
    rig = make_rig("recipe.steps=2", "data.max_prompt_tokens=3")
    assert rig.finish(rig.start(scheduler="inline")) == 1
    assert rig.failure_class(1) == "data"
    assert not (rig.store.attempt_folder(rig.trial_id, 1) / "verl.log").exists()
    shutil.rmtree(rig.root / "runs")
