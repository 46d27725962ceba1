"""What a verl trial does when something dies: real sweeps of the tiny model, killed and hurt from outside.

Each takes minutes: `.venv-verl/bin/python -m pytest -m slow tests/trainers/verl/test_faults.py`.
"""

import contextlib
import os
import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from rig import Rig

from orchestrator.store.record import Outcome, Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(find_spec("verl") is None, reason="needs .venv-verl: make verl"),
]
NUMBERS = ("reward/mean", "response/length_mean", "tokens/entropy", "loss", "gradient/norm")
"""Metrics that depend on every sample and every weight."""
LEADER = "trainers.verl.inside.main"
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
        rig.end()


def only(processes):
    (process,) = processes
    return process


def check_steps_done_again(rig: Rig, first: int, second: int) -> None:
    """Steps that two attempts both did gave the same numbers, to the rounding of float32 sums in another order."""
    before, after = rig.lines(first), rig.lines(second)
    both = sorted(before.keys() & after.keys())
    assert both
    for step in both:
        for name in NUMBERS:
            print(f"step {step} {name}: {before[step][name]} and again {after[step][name]}")
            assert after[step][name] == pytest.approx(before[step][name], rel=1e-4, abs=1e-7)


def test_a_killed_run_goes_on_from_its_checkpoint_and_a_stopped_one_saves_its_step(make_rig):
    rig = make_rig("recipe.steps=12", "cluster.checkpoint_every=2", "cluster.keep_checkpoints=3")
    driver = rig.start()
    rig.wait_for_step(3, driver)
    os.killpg(only(rig.named(driver, LEADER)).pid, signal.SIGKILL)
    assert rig.finish(driver) == 1
    assert rig.leftovers() == []
    assert "was killed by SIGKILL" in rig.record.failure.message
    done, kept = max(rig.lines(1)), rig.checkpoints()[-1]

    driver = rig.start()
    rig.wait_for_step(done + 1, driver)
    driver.terminate()
    assert rig.finish(driver) == 130
    assert rig.leftovers() == []
    assert rig.record.status is Status.STOPPED
    assert min(rig.lines(2)) == kept + 1
    assert rig.checkpoints()[-1] == max(rig.lines(2)), "a stop saves the present step"
    check_steps_done_again(rig, 1, 2)


def test_a_damaged_checkpoint_is_passed_over_after_the_driver_was_killed(make_rig):
    rig = make_rig("recipe.steps=8", "cluster.checkpoint_every=1", "cluster.keep_checkpoints=3")
    driver = rig.start()
    rig.wait_for_step(3, driver)
    driver.kill()
    rig.finish(driver)
    assert rig.leftovers() == []
    newest, older = rig.checkpoints()[-1], rig.checkpoints()[-2]
    weights = next((rig.store.checkpoint_folder(rig.trial_id) / f"global_step_{newest}" / "actor").glob("model*.pt"))
    os.truncate(weights, weights.stat().st_size // 2)

    assert rig.finish(rig.start()) == 0
    assert rig.leftovers() == []
    assert f"checkpoint of step {newest} is passed over" in rig.store.log_file(rig.trial_id, 2).read_text()
    assert min(rig.lines(2)) == older + 1
    assert [row["step"] for row in rig.store.metrics(rig.trial_id)] == list(range(1, 9))
    check_steps_done_again(rig, 1, 2)


def test_a_dead_engine_and_one_that_stands_still_are_tried_again_from_the_last_checkpoint(make_rig):
    rig = make_rig("recipe.steps=6", "cluster.checkpoint_every=1", "cluster.step_timeout_s=30")
    driver = rig.start(scheduler="inline")
    rig.wait_for_step(2, driver)
    time.sleep(1.5)  # past checkpoint and weight sync, where a dead engine is a hang: into the next sampling
    only(rig.named(driver, ENGINE)).kill()
    rig.wait_for_attempt(2, driver)
    rig.wait_for_step(4, driver)
    only(rig.named(driver, ENGINE)).suspend()
    assert rig.finish(driver) == 0
    assert rig.leftovers() == []
    assert [attempt.outcome for attempt in rig.attempts] == [Outcome.FAILED, Outcome.FAILED, Outcome.DONE]
    print([attempt.failure and attempt.failure.message for attempt in rig.attempts])
    assert rig.failure_class(1) in ("node lost", "hang")
    assert rig.failure_class(2) == "hang"
    assert [row["step"] for row in rig.store.metrics(rig.trial_id)] == list(range(1, 7))


@pytest.fixture
def taken_ports():
    """The default ports of Ray, vLLM and torch belong to somebody else: to this test, or to who has them already."""
    with contextlib.ExitStack() as stack:
        for port in (6379, 8000, 8265, 10001, 29500):
            taken = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                taken.bind(("", port))
                taken.listen()
        yield


@pytest.mark.usefixtures("taken_ports")
def test_two_trials_share_a_machine_and_the_death_of_one_leaves_the_other(make_rig):
    hurt, well = (
        make_rig("recipe.steps=4", "cluster.checkpoint_every=1", f"seeds=[{seed}]", name=f"sweep{seed}")
        for seed in (0, 1)
    )
    drivers = [rig.start(scheduler="inline") for rig in (hurt, well)]
    hurt.wait_for_step(2, drivers[0])
    only(hurt.named(drivers[0], "ray::TaskRunner")).kill()
    assert [rig.finish(driver) for rig, driver in zip((hurt, well), drivers, strict=True)] == [0, 0]
    assert [hurt.leftovers(), well.leftovers()] == [[], []]
    assert [attempt.outcome for attempt in hurt.attempts] == [Outcome.FAILED, Outcome.DONE]
    assert [attempt.outcome for attempt in well.attempts] == [Outcome.DONE]
    assert hurt.failure_class(1) == "node lost"
    assert [row["step"] for row in hurt.store.metrics(hurt.trial_id)] == [1, 2, 3, 4]
    first = [[rig.lines(1)[1][name] for name in NUMBERS] for rig in (hurt, well)]
    assert first[0] != first[1], "neither trained on what the other sampled"


def test_what_would_fail_again_is_named_and_not_tried_again(make_rig):
    diverging = make_rig("recipe.steps=3", "recipe.learning_rate=1e30", "recipe.max_grad_norm=null", name="diverging")
    raising = make_rig("recipe.steps=3", name="raising")
    drivers = [
        diverging.start(scheduler="inline"),
        raising.start(scheduler="inline", ORCH_TEST_REWARD_RAISES="1"),
    ]
    assert [rig.finish(driver) for rig, driver in zip((diverging, raising), drivers, strict=True)] == [1, 1]
    assert [diverging.leftovers(), raising.leftovers()] == [[], []]
    assert diverging.failure_class(1) == "diverged"
    assert "is not finite" in diverging.record.failure.message
    assert "ZeroDivisionError: the reward function divides by zero" in raising.record.failure.message
    assert [len(diverging.attempts), len(raising.attempts)] == [1, 1]
