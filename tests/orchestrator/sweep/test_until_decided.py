"""Sweeps whose seeds are decided by looks at their results: what they train, when they end, what a kill changes."""

import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab

from dashboards.drift import drift
from orchestrator.config.spec import load_sweep
from orchestrator.errors import OrchError
from orchestrator.plan.arm import arm_of
from orchestrator.plan.contrasts import arms_of
from orchestrator.plan.growth import with_num_seeds
from orchestrator.plan.make import make_plan
from orchestrator.plan.trial import Plan
from orchestrator.status.looks import SeedLooks
from orchestrator.sweep.queue import QueueSettings, TrialQueue
from orchestrator.trial.stop import StopSignal, stop_file

GRID = "{grid: {selection: [gmts, ets, random], selection.ratio: [0.2]}, seeds: %s}"
UNTIL = "{until: decided, at_least: 2, at_most: 6, alpha: 0.1, effect: 0.3}"


def plan_of(lab: Lab, seeds: str = UNTIL) -> Plan:
    file = lab.experiment(GRID % seeds)
    file.write_text(file.read_text().replace("fake_trainer:FakeTrainer", "fake_trainer:SelectorTrainer"))
    return make_plan(load_sweep(file, ["recipe.steps=2", "recipe.lr_warmup_steps=0", "eval.num_samples=16"]))


def seeds_of(plan: Plan) -> Counter[str]:
    return Counter(one.arm_label for one in plan.entries if one.trial.kind == "train")


def verdicts(lab: Lab, plan: Plan) -> dict[str, tuple[str, int]]:
    return {one.contrast.label: (one.judgement.verdict, one.num_seeds) for one in SeedLooks(lab.store).of(plan)}


def check_decided(lab: Lab, kept: Plan) -> None:
    """What must hold of any finished design."""
    looks = SeedLooks(lab.store).of(kept)
    assert {one.judgement.verdict for one in looks} <= {"benefit", "harm", "futile", "undecided"}
    needed = {arm: 0 for arm in arms_of(kept)}
    for one in looks:
        for arm in (one.contrast.first, one.contrast.second):
            needed[arm] = max(needed[arm], one.num_seeds)
    trained = Counter(arm_of(one) for one in kept.entries if one.trial.kind == "train")
    assert trained == needed  # no arm got a seed that no contrast asked for
    assert len(set(trained.values())) > 1  # and one was decided before the others
    assert verdicts(lab, kept)["gmts · 0.2 − ets · 0.2"][0] == "benefit"
    assert SeedLooks(lab.store).grown(kept) is kept


def test_grown_seeds_are_the_trials_that_a_list_would_name(lab: Lab) -> None:
    plan, listed = plan_of(lab), plan_of(lab, "[0, 1, 2, 3]")
    grown = with_num_seeds(plan, dict.fromkeys(arms_of(plan), 4))
    assert [one.trial.id for one in grown.entries] == [one.trial.id for one in listed.entries]
    assert grown.digest != plan.digest
    assert with_num_seeds(grown, dict.fromkeys(arms_of(plan), 3)) is grown
    only = with_num_seeds(plan, {next(iter(arms_of(plan))): 3})
    assert seeds_of(only) == {"gmts · 0.2": 3, "ets · 0.2": 2, "random · 0.2": 2}


def test_a_queue_grows_before_anybody_finds_it_over(lab: Lab) -> None:
    plan = plan_of(lab)
    largest = with_num_seeds(plan, dict.fromkeys(arms_of(plan), 3))
    settings = QueueSettings(grow=lambda now: largest, give_up=lambda planned, why: None)
    queue = TrialQueue(plan, lab.store, settings)
    while (planned := queue.next()) is not None:
        lab.store.prepare_trial(planned.trial)
        queue.finish(planned.trial.id)
    queue.refresh()
    assert not queue.is_over
    assert queue.plan is largest
    listed = TrialQueue(replace(plan, until=None), lab.store, settings)
    listed.refresh()
    assert listed.plan is not largest


def test_results_that_do_not_read_are_looked_at_again(lab: Lab) -> None:
    """A file server may be back: nothing is raised into a scheduler, and the next refresh asks anew."""
    plan = plan_of(lab)
    largest = with_num_seeds(plan, dict.fromkeys(arms_of(plan), 3))
    answers: list[Plan | OrchError] = [OrchError("a score does not read"), largest, largest]

    def grow(now: Plan) -> Plan:
        answer = answers.pop(0)
        if isinstance(answer, OrchError):
            raise answer
        return answer

    queue = TrialQueue(plan, lab.store, QueueSettings(grow=grow))
    queue.refresh()
    assert queue.plan is plan
    queue.refresh()
    assert queue.plan is largest


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_sweep_trains_until_every_contrast_is_decided(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_interrupted: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", lab.environment()["PYTHONPATH"])
    plan = plan_of(lab)
    if is_interrupted:
        stop_after_every_trial(lab, plan, monkeypatch)
    outcome = lab.sweep(plan)
    assert outcome.exit_code == 0
    kept = lab.store.plans.read(plan.experiment)
    assert {row.state for row in outcome.rows} == {"done"}
    assert len(outcome.rows) == len(kept.entries)
    check_decided(lab, kept)
    assert drift(kept) == ""  # what the looks added is no change of the file
    again = lab.sweep(plan)
    assert (again.num_started, again.exit_code) == (0, 0)
    assert lab.store.plans.read(plan.experiment) == kept
    alone = Lab(tmp_path / "alone")
    alone.sweep(plan_of(alone))
    assert {one.trial.id for one in kept.entries} == {one.trial.id for one in alone.store.plans.read("tiny").entries}


def stop_after_every_trial(lab: Lab, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep ten times, and end the driver after each trial: nothing but the store is kept."""
    finish = TrialQueue.finish
    for _ in range(10):
        stop = StopSignal(stop_file(lab.store.root, plan.experiment))

        def finish_and_stop(queue: TrialQueue, trial_id: str, stop: StopSignal = stop, **more: str | None) -> None:
            stop.request()
            finish(queue, trial_id, **more)

        with monkeypatch.context() as patched:
            patched.setattr(TrialQueue, "finish", finish_and_stop)
            lab.sweep(plan, stop=stop)
        stop.close()


@pytest.mark.slow
def test_ray_tune_trains_what_the_looks_ask_for_whoever_is_killed(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first driver is killed without warning once the plan has grown; the second goes on with the same design."""
    monkeypatch.setenv("PYTHONPATH", lab.environment()["PYTHONPATH"])
    plan = plan_of(lab)
    with subprocess.Popen(lab.driver_command(plan, "ray_tune"), start_new_session=True) as driver:
        deadline = time.monotonic() + 240
        while len(lab.store.plans.read(plan.experiment).entries) == len(plan.entries):
            assert driver.poll() is None, "it ended before the plan had grown"
            assert time.monotonic() < deadline, "the plan does not grow"
            time.sleep(0.1)
        os.killpg(driver.pid, signal.SIGKILL)
    outcome = lab.sweep(plan, scheduler="ray_tune")
    assert outcome.exit_code == 0
    kept = lab.store.plans.read(plan.experiment)
    check_decided(lab, kept)
    alone = Lab(tmp_path / "alone")
    alone.sweep(plan_of(alone))
    assert verdicts(lab, kept) == verdicts(alone, alone.store.plans.read("tiny"))
