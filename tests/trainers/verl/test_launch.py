"""The orchestrator's side of a verl trial, with a training process that has no verl in it but dies as real ones do."""

import os
from pathlib import Path

import psutil
import pytest

from orchestrator.store.record import Failure
from orchestrator.trial.retry import classify
from trainers.api import TrainJob
from trainers.identity import fingerprint
from trainers.models.tiny import make_tokenizer
from trainers.models.tiny_spec import ARITHMETIC_TINY
from trainers.recipe import Resources
from trainers.verl.launch.job import VerlJob
from trainers.verl.launch.launch import TrainingDied, TrainingHung, VerlTrainer
from trainers.verl.processes.processes import descendants

FAKES = Path(__file__).parent / "fakes"
RECORDED = Path(__file__).parents[2] / "orchestrator" / "logs" / "node_lost_actor.txt"


@pytest.fixture
def train(make_recipe, tmp_path, monkeypatch):
    """Train as one attempt after another would; a fate is what `fakes/fake_main.py` makes of it."""
    model = tmp_path / "model"
    make_tokenizer(ARITHMETIC_TINY).save_pretrained(model)
    (model / "config.json").write_text("{}")
    monkeypatch.setattr("trainers.verl.launch.launch._check_installed", lambda: None)
    monkeypatch.setattr("trainers.verl.launch.launch._POLL_S", 0.1)
    monkeypatch.setenv("ORCH_TEST_MAIN", str(FAKES / "fake_main.py"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), str(Path.cwd())]))
    monkeypatch.setenv("ORCH_TEST_FINGERPRINT", fingerprint(make_recipe(), seed=0))
    attempts = []

    def run(fate, *, stop_at=None, **resources):
        monkeypatch.setenv("ORCH_TEST_FATE", fate)
        attempts.append(tmp_path / "attempts" / str(len(attempts) + 1))
        seen = []
        return VerlTrainer().train(
            TrainJob(
                recipe=make_recipe(),
                seed=0,
                resources=Resources(num_cpus=1, **({"step_timeout_s": 60.0} | resources)),
                model_folder=model,
                checkpoint_folder=tmp_path / "checkpoints",
                attempt_folder=attempts[-1],
                on_step=lambda metrics: seen.append(metrics["step"]),
                should_stop=lambda: stop_at is not None and len(seen) >= stop_at,
            )
        )

    yield run
    assert [child for child in descendants(os.getpid()) if "sleep" in psutil.Process(child).name()] == []
    for attempt in attempts:
        assert not VerlJob.read(attempt / "verl_job.pickle").temporary_folder.exists()


def class_of(error):
    return classify(Failure(kind=type(error).__name__, message=str(error), log_tail=())).value


def test_a_killed_process_is_told_by_its_signal_and_the_next_attempt_goes_on(train, tmp_path):
    with pytest.raises(TrainingDied) as died:
        train("killed")
    assert died.value.what == "the training process was killed by SIGKILL after 2 steps"
    assert class_of(died.value) == "host memory"
    result = train("well")
    assert (result.is_finished, result.step, result.phase_seconds["update"]) == (True, 4, 0.5)
    assert (tmp_path / "attempts" / "2" / "metrics.jsonl").read_text().startswith('{"step": 3,')


def test_a_process_that_stands_still_is_a_hang(train):
    with pytest.raises(
        TrainingHung, match=r"no sign of life for \d+ s, after 2 steps; the last was: send weights"
    ) as hung:
        train("stands still", step_timeout_s=0.5)
    assert class_of(hung.value) == "hang"


def test_a_start_that_takes_too_long_is_a_hang(train):
    with pytest.raises(TrainingHung, match="after 0 steps"):
        train("slow start", start_timeout_s=1.0)


def test_a_dead_actor_is_told_by_what_ray_says_and_counts_as_lost(train):
    with pytest.raises(TrainingDied) as died:
        train(str(RECORDED))
    assert died.value.what == (
        "the training process ended with status 1 after 2 steps: "
        "ActorDiedError: The actor died unexpectedly before finishing this task."
    )
    assert class_of(died.value) == "node lost"


def test_a_stop_is_passed_on_and_its_step_is_saved(train):
    result = train("stopped", stop_at=1)
    assert (result.is_finished, result.step) == (False, 1)


def test_a_stop_before_the_first_step_ends_at_once(train):
    result = train("slow start", stop_at=0)
    assert (result.is_finished, result.step) == (False, 0)
