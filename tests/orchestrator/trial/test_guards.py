from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from orchestrator.config.blocks import Guards
from orchestrator.config.spec import load_sweep
from orchestrator.errors import OrchError
from orchestrator.status.rows import SweepView
from orchestrator.store.alarm import Alarm
from orchestrator.store.record import Outcome, Status
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.trial.attempt import run_trial
from orchestrator.trial.guards import GuardWatch, alarms
from trainers.diagnostics import METRICS

HEALTHY = {
    "reward/mean": 0.5,
    "reward/groups_all_right": 0.2,
    "reward/groups_all_wrong": 0.2,
    "tokens/entropy": 1.0,
    "response/length_mean": 100.0,
    "policy/clip_fraction": 0.01,
}
GUARDS = Guards(window=2)


def rows(*changes: dict[str, float]) -> list[dict[str, Any]]:
    return [{**HEALTHY, **change, "step": step} for step, change in enumerate(changes, start=1)]


def spoken(*changes: dict[str, float], guards: Guards = GUARDS) -> list[tuple[str, float]]:
    return [(alarm.guard, alarm.value) for alarm in alarms(guards, rows(*changes), already=(), at="now")]


def test_a_healthy_training_raises_no_alarm() -> None:
    assert spoken(*[{}] * 20) == []


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({"reward/groups_all_right": 0.3, "reward/groups_all_wrong": 0.625}, [("zero_advantage", 0.925)]),
        ({"tokens/entropy": 0.0625}, [("entropy", 0.0625)]),
        ({"response/length_mean": 300.0}, [("length", 3.0)]),
        ({"reward/mean": 0.0}, [("reward", 0.0)]),
        ({"policy/clip_fraction": 0.5}, [("clip_rate", 0.5)]),
    ],
)
def test_each_guard_speaks_when_the_mean_of_its_metric_crosses_its_limit(
    last: dict[str, float], expected: list[tuple[str, float]]
) -> None:
    assert spoken({}, {}, last, last) == expected
    assert spoken({}, {}, {}, last) == []


def test_a_guard_that_is_off_or_has_no_metric_says_nothing() -> None:
    assert spoken({}, {}, {"reward/mean": 0.0}, {"reward/mean": 0.0}, guards=replace(GUARDS, reward=None)) == []
    short = [{"step": 1}, {"step": 2, "reward/mean": None}, {"step": 3, "reward/mean": 0.0}]
    assert alarms(GUARDS, short, already=(), at="now") == ()
    assert spoken({"reward/mean": float("nan")}, {"reward/mean": float("nan")}) == []


def test_a_guard_speaks_once_and_a_step_done_again_replaces_the_first() -> None:
    watch = GuardWatch(GUARDS, rows({}, {}, {"reward/mean": 0.0}), already=())
    assert watch.see({**HEALTHY, "step": 3}, at="now") == ()
    assert watch.see({**HEALTHY, "step": 4, "reward/mean": 0.0}, at="now") == ()
    assert [alarm.step for alarm in watch.see({**HEALTHY, "step": 5, "reward/mean": 0.0}, at="now")] == [5]
    assert watch.see({**HEALTHY, "step": 6, "reward/mean": 0.0}, at="now") == ()


def test_an_alarm_reads_as_what_was_seen_and_done() -> None:
    alarm = Alarm(guard="entropy", action="pause", step=40, value=0.08123, limit=0.1, at="now")
    assert alarm.text == "entropy 0.0812 ≤ 0.1 × its start at step 40: pause"
    assert replace(alarm, guard="clip_rate", limit=0.3, value=0.5, action="warn").text == (
        "clip_rate 0.5 ≥ 0.3 at step 40: warn"
    )


def test_every_metric_of_a_guard_is_one_that_trainers_report() -> None:
    from orchestrator.store.alarm import GUARD_RULES

    assert [metric for rule in GUARD_RULES.values() for metric in rule.metrics if metric not in METRICS] == []


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"window": 0}, "guards.window"),
        ({"entropy": 1.5}, "guards.entropy"),
        ({"length": 1.0}, "guards.length"),
        ({"clip_rate": -0.1}, "guards.clip_rate"),
        ({"reward": float("nan")}, "guards.reward"),
        ({"reward": None, "stop": ("reward",)}, "guards.stop"),
        ({"pause": ("reward",), "stop": ("reward",)}, "guards.pause"),
    ],
)
def test_a_guard_that_means_nothing_is_refused(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(OrchError) as refused:
        Guards(**wrong)
    assert refused.value.where == key


def test_a_warning_is_recorded_shown_and_changes_nothing_else(lab: Lab) -> None:
    planned = replace(lab.planned(0), guards=Guards(window=2, reward=1.0))
    record = run_trial(planned, lab.store, context=lab.context())
    assert (record.status, [row["step"] for row in lab.store.metrics(planned.trial.id)]) == (
        Status.DONE,
        [*range(1, 7)],
    )
    (alarm,) = lab.store.read(planned.trial.id).alarms
    assert (alarm.guard, alarm.action, alarm.step, alarm.limit) == ("reward", "warn", 2, 1.0)
    assert SweepView(lab.store, [planned], data_folder=None).rows()[0].alarms == (alarm.text,)


def test_a_guard_that_stops_leaves_a_checkpoint_and_a_reason_and_the_next_call_goes_on(lab: Lab) -> None:
    planned = replace(lab.planned(0), guards=Guards(window=3, reward=1.0, stop=("reward",)))
    record = run_trial(planned, lab.store, context=lab.context())
    assert (record.status, record.attempts[0].outcome) == (Status.STOPPED, Outcome.STOPPED)
    assert [(alarm.action, alarm.step) for alarm in record.alarms] == [("stop", 3)]
    row = SweepView(lab.store, [planned], data_folder=None).rows()[0]
    assert (row.state, row.alarms) == ("cancelled", (record.alarms[0].text,))
    again = run_trial(planned, lab.store, context=lab.context())
    assert again.status is Status.DONE
    assert len(again.alarms) == 1
    other = Lab(lab.root / "undisturbed")
    run_trial(other.planned(0), other.store, context=other.context())
    assert lab.store.metrics(planned.trial.id) == other.store.metrics(other.planned(0).trial.id)


def test_a_sweep_leaves_a_trial_that_a_guard_paused_until_it_is_resumed(lab: Lab) -> None:
    plan = lab.plan([0, 1])
    guarded = replace(plan.entries[0], guards=Guards(window=3, reward=1.0, pause=("reward",)))
    plan = replace(plan, entries=(guarded, plan.entries[1]))
    outcome = lab.sweep(plan)
    assert ([row.state for row in outcome.rows], outcome.exit_code) == (["paused", "done"], 3)
    assert lab.store.read(guarded.trial.id).alarms[0].text == outcome.rows[0].alarms[0]
    assert [row.state for row in lab.sweep(plan).rows] == ["paused", "done"]
    Requests(lab.store.root, now=now).resume(guarded.trial.id)
    assert [row.state for row in lab.sweep(plan).rows] == ["done", "done"]
    assert [attempt.outcome for attempt in lab.store.read(guarded.trial.id).attempts] == [Outcome.STOPPED, Outcome.DONE]


def test_an_experiment_sets_guards_and_the_command_line_changes_them(tmp_path: Path) -> None:
    file = tmp_path / "guarded.yaml"
    file.write_text(
        "defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny},"
        " {eval: arithmetic}, _self_]\nguards: {entropy: 0.2, clip_rate: null, pause: [entropy]}\n"
    )
    assert load_sweep(file).points[0].guards == Guards(entropy=0.2, clip_rate=None, pause=("entropy",))
    assert load_sweep(file, ["guards.stop=[length]"]).points[0].guards.stop == ("length",)
    with pytest.raises(OrchError, match=r"unknown key 'guards.entrpy'") as refused:
        load_sweep(file, ["guards.entrpy=0.1"])
    assert "did you mean guards.entropy" in refused.value.fix
