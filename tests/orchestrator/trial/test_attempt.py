import json
from dataclasses import replace

import pytest
from lab import Lab

from orchestrator.store.record import Outcome, Status
from orchestrator.store.store import TrialLocked
from orchestrator.trial.attempt import run_trial
from trainers.api import TrainJob


def test_a_trial_is_trained_evaluated_and_recorded(lab: Lab) -> None:
    planned = lab.planned(0)
    record = run_trial(planned, lab.store, context=lab.context())
    assert lab.store.read(planned.trial.id) == record
    assert record.status is Status.DONE
    assert record.train is not None
    assert (record.train.step, record.train.model_folder) == (6, "checkpoints/policy")
    assert [(entry.step, entry.num_samples, entry.num_problems) for entry in record.scores] == [(6, 2, 5)]
    assert 0.0 <= record.scores[0].avg <= 1.0
    assert [row["step"] for row in lab.store.metrics(planned.trial.id)] == [1, 2, 3, 4, 5, 6]
    attempt = record.attempts[0]
    assert (attempt.number, attempt.outcome, attempt.seed, attempt.failure) == (1, Outcome.DONE, 0, None)
    assert attempt.phase_seconds["sample"] == 0.5
    assert attempt.peak_memory_mb > 1.0
    recipe = json.loads((lab.store.trial_folder(planned.trial.id) / "recipe.json").read_text())
    assert recipe["trial"]["recipe"]["learning_rate"] == 1e-3


def test_the_base_model_is_evaluated_without_training(lab: Lab) -> None:
    record = run_trial(lab.planned(None), lab.store, context=lab.context())
    assert record.status is Status.DONE
    assert record.train is None
    assert [entry.step for entry in record.scores] == [0]


def test_a_finished_trial_is_left_alone(lab: Lab) -> None:
    planned = lab.planned(0)
    first = run_trial(planned, lab.store, context=lab.context())
    assert run_trial(planned, lab.store, context=lab.context()) == first
    assert len(first.attempts) == 1


def test_adding_a_benchmark_only_evaluates(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_trial(lab.planned(0), lab.store, context=lab.context())
    lab.num_benchmarks = 2

    def refuse(self: object, job: TrainJob) -> None:
        raise AssertionError("a finished training was repeated")

    monkeypatch.setattr("fake_trainer.FakeTrainer.train", refuse)
    second = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert second.status is Status.DONE
    assert second.train == first.train
    assert second.scores[0] == first.scores[0]
    assert len(second.scores) == 2


def test_a_score_whose_record_was_lost_is_taken_from_its_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_trial(lab.planned(0), lab.store, context=lab.context())
    lab.store.write(replace(first, scores=(), status=Status.TRAINED))
    monkeypatch.setattr("orchestrator.trial.attempt.open_sampler", None)
    second = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert [(entry.key, entry.avg) for entry in second.scores] == [(entry.key, entry.avg) for entry in first.scores]


def test_a_record_that_was_moved_aside_is_made_anew(lab: Lab) -> None:
    planned = lab.planned(0)
    first = run_trial(planned, lab.store, context=lab.context())
    before = lab.results()
    (lab.store.trial_folder(planned.trial.id) / "record.json").unlink()
    second = run_trial(planned, lab.store, context=lab.context())
    assert (second.attempts[-1].number, first.attempts[-1].number) == (2, 1)
    after = lab.results()[planned.trial.id]
    assert after["scores"] == before[planned.trial.id]["scores"]
    assert after["metrics"] == before[planned.trial.id]["metrics"]


def test_a_failure_is_recorded_with_its_log_and_the_next_call_resumes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Lab(lab.root / "undisturbed")
    undisturbed.model = lab.model
    run_trial(undisturbed.planned(0), undisturbed.store, context=undisturbed.context())
    monkeypatch.setenv("FAKE_FAIL", "0@5")
    failed = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert failed.status is Status.FAILED
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.message) == ("RuntimeError", "asked to fail at step 5")
    assert failed.failure.log_tail[-1] == "RuntimeError: asked to fail at step 5"
    monkeypatch.delenv("FAKE_FAIL")
    done = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert done.status is Status.DONE
    assert [attempt.outcome for attempt in done.attempts] == [Outcome.FAILED, Outcome.DONE]
    (mine,), (other,) = lab.results().values(), undisturbed.results().values()
    assert mine["metrics"] == other["metrics"]
    assert mine["train"] == other["train"]
    second_file = lab.store.attempt_folder(done.trial.id, 2) / "metrics.jsonl"
    assert [json.loads(line)["step"] for line in second_file.read_text().splitlines()] == [5, 6]


def test_a_stop_request_leaves_a_checkpoint_and_the_status_stopped(lab: Lab) -> None:
    calls = iter(range(100))
    record = run_trial(lab.planned(0), lab.store, context=lab.context(should_stop=lambda: next(calls) >= 4))
    assert record.status is Status.STOPPED
    assert record.train is None
    assert [row["step"] for row in lab.store.metrics(record.trial.id)] == [1, 2, 3]
    done = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert [attempt.outcome for attempt in done.attempts] == [Outcome.STOPPED, Outcome.DONE]
    assert [row["step"] for row in lab.store.metrics(record.trial.id)] == [1, 2, 3, 4, 5, 6]


def test_a_stop_during_evaluation_keeps_the_training(lab: Lab) -> None:
    record = run_trial(lab.planned(None), lab.store, context=lab.context(should_stop=lambda: True))
    assert record.status is Status.STOPPED
    assert run_trial(lab.planned(None), lab.store, context=lab.context()).status is Status.DONE


def test_a_stop_that_comes_when_the_last_score_is_kept_finds_the_trial_done(lab: Lab) -> None:
    trial_id, asked = lab.planned(0).trial.id, []

    def should_stop() -> bool:
        asked.append(bool(lab.store.read(trial_id).scores))
        return asked[-1]

    record = run_trial(lab.planned(0), lab.store, context=lab.context(should_stop=should_stop))
    assert asked[-1], "the request must have been seen"
    assert (record.status, record.attempts[-1].outcome) == (Status.DONE, Outcome.DONE)


def test_evaluation_during_training_is_recorded_once_a_step(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.every_steps = 2
    monkeypatch.setenv("FAKE_FAIL", "0@5")
    run_trial(lab.planned(0), lab.store, context=lab.context())
    monkeypatch.delenv("FAKE_FAIL")
    record = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert [entry.step for entry in record.scores] == [2, 4, 6]
    assert len({entry.key for entry in record.scores}) == 3


def test_a_stop_during_such_an_evaluation_still_checkpoints_and_the_score_is_made_up(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.progress.THROTTLE_S", 0.0)
    lab.every_steps, lab.checkpoint_every = 3, 100
    stopping: list[bool] = []

    def should_stop() -> bool:
        progress = lab.store.progress(lab.planned(0).trial.id)
        stopping.extend([True] * bool(progress and progress.phase.startswith("evaluate")))
        return bool(stopping)

    record = run_trial(lab.planned(0), lab.store, context=lab.context(should_stop=should_stop))
    assert (record.status, record.scores) == (Status.STOPPED, ())
    assert json.loads((lab.store.checkpoint_folder(record.trial.id) / "latest.json").read_text())["step"] == 3
    done = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert [entry.step for entry in done.scores] == [3, 6]


def test_an_attempt_that_vanished_is_closed_as_interrupted(lab: Lab) -> None:
    record = run_trial(lab.planned(0), lab.store, context=lab.context())
    ghost = replace(record.attempts[0], outcome=Outcome.RUNNING, ended_at=None)
    lab.store.write(replace(record, attempts=(ghost,), status=Status.RUNNING, scores=()))
    again = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert [attempt.outcome for attempt in again.attempts] == [Outcome.INTERRUPTED, Outcome.DONE]


def test_a_trial_that_another_process_holds_is_refused(lab: Lab) -> None:
    with lab.store.lock(lab.planned(0).trial.id), pytest.raises(TrialLocked, match="is being worked on"):
        run_trial(lab.planned(0), lab.store, context=lab.context())


def test_a_trainer_that_gives_up_is_a_failure(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(self: object, job: TrainJob) -> object:
        from fake_trainer import FakeTrainer

        return FakeTrainer()._result(job, 3, {}, is_finished=False)

    monkeypatch.setattr("fake_trainer.FakeTrainer.train", give_up)
    record = run_trial(lab.planned(0), lab.store, context=lab.context())
    assert record.failure is not None
    assert record.failure.kind == "TrialFailed"
    assert "returned at step 3 of 6 without being asked to stop" in record.failure.message
