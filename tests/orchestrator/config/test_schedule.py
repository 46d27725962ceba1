from dataclasses import replace
from typing import Any

import pytest
from lab import Lab

from orchestrator.codec import decode, encode
from orchestrator.config.blocks import Cap, Priority, Schedule
from orchestrator.config.schedule import read_schedule
from orchestrator.errors import OrchError
from orchestrator.plan.trial import plan_digest
from orchestrator.plan.where import caps_of, check_schedule, priority_of

BLOCK = {
    "priority": [{"where": {"selection": "ets"}, "value": 10}, {"where": {"selection": ["ets", "full"]}, "value": -1}],
    "at_most": [{"where": {"algorithm": "grpo", "seed": [0, 1]}, "running": 2}],
    "deadline_s": None,
}


def test_a_block_reads_and_survives_the_kept_plan() -> None:
    schedule = read_schedule(BLOCK)
    assert schedule.priority[0] == Priority(where={"selection": ("ets",)}, value=10)
    assert schedule.at_most == (Cap(where={"algorithm": ("grpo",), "seed": ("0", "1")}, running=2),)
    assert schedule.deadline_s is None
    assert decode(Schedule, encode(schedule)) == schedule
    assert read_schedule(None) == Schedule()


def test_the_first_priority_that_fits_counts_and_every_cap_that_fits(lab: Lab) -> None:
    schedule = read_schedule(BLOCK)
    full = lab.planned(0)
    assert (priority_of(full, schedule), caps_of(full, schedule)) == (-1, ("algorithm=grpo seed=0,1",))
    assert schedule.caps == {"algorithm=grpo seed=0,1": 2}
    ets = replace(full, axes={"selection": "ets"})
    assert (priority_of(ets, schedule), priority_of(lab.planned(None), schedule)) == (10, 0)
    assert caps_of(lab.planned(7), schedule) == ()


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ([], "schedule"),
        ({"priorities": []}, "schedule.priorities"),
        ({"deadline_s": 0}, "schedule.deadline_s"),
        ({"at_most": {"running": 2}}, "schedule.at_most"),
        ({"at_most": [{"where": {"seed": 0}, "running": 0}]}, "schedule.at_most[0].running"),
        ({"at_most": [{"where": {"seed": 0}}]}, "schedule.at_most[0].running"),
        ({"priority": [{"where": {}, "value": 1}]}, "schedule.priority[0].where"),
        ({"priority": [{"when": {}, "value": 1}]}, "schedule.priority[0].when"),
    ],
)
def test_what_does_not_make_sense_is_refused_with_its_key(block: Any, where: str) -> None:
    with pytest.raises(OrchError) as raised:
        read_schedule(block)
    assert raised.value.where == where


def test_a_rule_that_no_trial_fits_is_refused(lab: Lab) -> None:
    with pytest.raises(OrchError, match="no trial has selection=ets") as raised:
        check_schedule(read_schedule(BLOCK), [lab.planned(0)])
    assert raised.value.where == "schedule.priority[0].where"


def test_a_schedule_changes_the_digest_of_a_plan_and_the_default_does_not(lab: Lab) -> None:
    entries = (lab.planned(0),)
    plain = plan_digest("test", ("selection",), entries, schedule=read_schedule(None))
    assert plan_digest("test", ("selection",), entries, schedule=read_schedule({"deadline_s": 3600})) == plain
    assert plan_digest("test", ("selection",), entries, schedule=read_schedule(BLOCK)) != plain
