import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lab import Lab
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.status.accounting import Rows, TrialAccount, account_of, accounts_by_arm, add_up, trial_seconds
from orchestrator.store.record import Attempt, Outcome, RunRecord, Status, new_record
from orchestrator.trial.attempt import run_trial
from orchestrator.trial.provenance import collect

START = datetime(2026, 1, 1, tzinfo=UTC)


def attempt(number: int, outcome: Outcome, *, at_s: float, phases: dict[str, float] | None = None) -> Attempt:
    return Attempt(
        number=number,
        started_at=(START + timedelta(seconds=at_s)).isoformat(),
        outcome=outcome,
        seed=0,
        data_digest=None,
        provenance=collect(("orch",)),
        phase_seconds=phases or {},
    )


def steps(first: int, last: int) -> Rows:
    """Each step samples for 2 s, scores for 1 s, updates for 3 s."""
    return [
        {"step": n, "time/sample_s": 2.0, "time/score_s": 1.0, "time/update_s": 3.0} for n in range(first, last + 1)
    ]


def seconds(lab: Lab, attempts: list[Attempt], ends: list[float], rows: list[Rows]) -> dict[str, float]:
    record = new_record(lab.planned(0).trial, at=START.isoformat())
    return trial_seconds(
        replace(record, attempts=tuple(attempts), status=Status.STOPPED),
        ends={n: START + timedelta(seconds=end) for n, end in enumerate(ends, start=1)},
        rows=dict(enumerate(rows, start=1)),
        checkpoint_every=2,
    )


def test_an_attempt_that_ended_well_is_its_phases_and_what_they_leave_idle(lab: Lab) -> None:
    done = attempt(1, Outcome.DONE, at_s=0, phases={"prepare": 5.0, "sample": 4.0, "update": 6.0})
    assert seconds(lab, [done], [20.0], [steps(1, 2)]) == {"prepare": 5.0, "sample": 4.0, "update": 6.0, "idle": 5.0}


def test_of_an_attempt_that_died_only_what_a_checkpoint_kept_is_not_lost(lab: Lab) -> None:
    died = attempt(1, Outcome.FAILED, at_s=0)
    # Steps 1 to 5, checkpoints after 2 and 4: step 5, the start-up and the rest of 40 s are lost.
    lost = 40.0 - 4 * 6.0
    expected = {"sample": 8.0, "score": 4.0, "update": 12.0, "lost": lost}
    assert seconds(lab, [died], [40.0], [steps(1, 5)]) == expected


def test_the_next_attempt_tells_which_steps_were_done_again(lab: Lab) -> None:
    died = attempt(1, Outcome.INTERRUPTED, at_s=0)
    done = attempt(2, Outcome.DONE, at_s=100, phases={"sample": 8.0, "score": 4.0, "update": 12.0})
    found = seconds(lab, [died, done], [40.0, 124.0], [steps(1, 5), steps(3, 6)])
    assert found == {"sample": 12.0, "score": 6.0, "update": 18.0, "lost": 40.0 - 2 * 6.0}
    assert sum(found.values()) == 40.0 + 24.0


def test_steps_that_a_clean_stop_did_not_keep_are_lost_too(lab: Lab) -> None:
    stopped = attempt(1, Outcome.STOPPED, at_s=0, phases={"sample": 4.0, "score": 2.0, "update": 6.0})
    done = attempt(2, Outcome.DONE, at_s=50, phases={"sample": 2.0, "score": 1.0, "update": 3.0})
    found = seconds(lab, [stopped, done], [12.0, 56.0], [steps(1, 2), steps(2, 2)])
    assert found == {"sample": 4.0, "score": 2.0, "update": 6.0, "lost": 6.0}


def test_a_clean_stop_that_nobody_went_on_from_has_lost_nothing(lab: Lab) -> None:
    stopped = attempt(1, Outcome.STOPPED, at_s=0, phases={"sample": 6.0})
    assert seconds(lab, [stopped], [6.0], [steps(1, 3)]) == {"sample": 6.0}


def account(accuracy: float | None, **seconds: float) -> TrialAccount:
    return TrialAccount(
        id="0", label="x", device="gpu", num_devices=8, num_attempts=1, seconds=seconds, accuracy=accuracy
    )


def test_hours_are_counted_by_device_and_a_point_costs_what_a_trial_does() -> None:
    arm = add_up("arm", [account(60.0, sample=3600.0), account(50.0, sample=3600.0, lost=1800.0), None], base=45.0)
    assert arm.hours == {"gpu": {"sample": 16.0, "lost": 4.0}}
    assert (arm.num_trials, arm.num_scored, arm.gain, arm.total) == (2, 2, 10.0, {"gpu": 20.0})
    assert arm.hours_per_point == 1.0


@pytest.mark.parametrize(("accuracy", "base"), [(40.0, 45.0), (None, 45.0), (50.0, None)])
def test_nothing_gained_has_no_price(accuracy: float | None, base: float | None) -> None:
    assert add_up("arm", [account(accuracy, sample=3600.0)], base=base).hours_per_point is None


def swept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    """Base and seed 0 done; seed 1 failed at step 4 and was finished by a second attempt."""
    monkeypatch.setenv("FAKE_FAIL", "1@4")
    lab.store.plans.save(lab.plan([None, 0, 1, 2]))
    for seed in (None, 0, 1):
        run_trial(lab.planned(seed), lab.store, context=lab.context())
    monkeypatch.delenv("FAKE_FAIL")
    return run_trial(lab.planned(1), lab.store, context=lab.context())


def test_the_account_of_a_real_trial_books_its_attempts_whole(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    record = swept(lab, monkeypatch)
    found = account_of(lab.planned(1), lab.store)
    assert found is not None
    assert (found.device, found.num_devices, found.num_attempts) == ("core", 1, 2)
    first, second = record.attempts
    assert first.ended_at is not None
    assert second.ended_at is not None
    died_s = (datetime.fromisoformat(first.ended_at) - datetime.fromisoformat(first.started_at)).total_seconds()
    assert found.seconds["lost"] == pytest.approx(died_s)
    assert found.seconds["sample"] == second.phase_seconds["sample"]
    assert account_of(lab.planned(2), lab.store) is None


def test_a_trial_whose_process_vanished_is_lost_up_to_its_last_sign_of_life(lab: Lab) -> None:
    planned = lab.planned(0)
    record = run_trial(planned, lab.store, context=lab.context())
    ghost = replace(
        record.attempts[0],
        outcome=Outcome.RUNNING,
        started_at="2019-12-31T23:59:00+00:00",
        ended_at=None,
        phase_seconds={},
    )
    lab.store.write(replace(record, attempts=(ghost,), status=Status.RUNNING, train=None, scores=()))
    file = lab.store.progress_file(planned.trial.id)
    last_words = {"host": "elsewhere", "updated_at": "2020-01-01T00:00:00+00:00"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **last_words}))
    found = account_of(planned, lab.store)
    assert found is not None
    assert found.seconds == {"lost": 60.0}


def test_the_command_prints_arms_trials_and_json(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    swept(lab, monkeypatch)
    run = CliRunner()
    where = ["--store", str(lab.store.root)]
    text = run.invoke(app, ["cost", "test", *where]).output.splitlines()
    assert text[0] == "test: CPU core-hours"
    assert text[1].split()[:3] == ["arm", "trials", "attempts"]
    assert [line.split()[:3] for line in text[2:]] == [["base", "1", "1"], ["full", "2", "3"], ["all", "3", "4"]]
    by_trial = run.invoke(app, ["cost", "test", "--by", "trial", *where]).output.splitlines()
    assert [line.split()[0] for line in by_trial[2:]] == [
        *(lab.planned(seed).trial.id for seed in (None, 0, 1)),
        "all",
    ]
    payload = json.loads(run.invoke(app, ["cost", "test", "--json", *where]).output)
    whole = payload["accounts"][-1]
    assert whole["total"]["core"] == pytest.approx(sum(whole["hours"]["core"].values()))
    arms = accounts_by_arm(lab.store.plans.read("test").entries, lab.store)
    assert whole["total"]["core"] == pytest.approx(sum(arm.total["core"] for arm in arms[:-1]))
