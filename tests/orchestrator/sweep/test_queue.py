from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from lab import Lab

from orchestrator.config.blocks import Schedule
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.record import Attempt, Failure, Outcome, Status, new_record
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.sweep.controller import Controller
from orchestrator.sweep.nodes import Node
from orchestrator.sweep.queue import QueueSettings, TrialQueue
from orchestrator.trial.attempt import run_trial
from orchestrator.trial.provenance import collect
from trainers.recipe import Resources

NODE = Node(num_gpus=8, num_cpus=64, memory_gb=100)
PREEMPTED = Failure(kind="ProcessDied", message="the trial's process was killed by SIGTERM", log_tail=())
BAD = Failure(kind="SpecError", message="unknown key", log_tail=())


@dataclass
class Desk:
    """An queue with a clock that a test moves."""

    lab: Lab
    moment_s: float = 1000.0
    given_up: list[tuple[str, str]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    is_stopping: bool = False

    def __post_init__(self) -> None:
        self.requests = Requests(self.lab.store.root, now=now)

    def queue(self, seeds: list[int | None], *, schedule: Schedule | None = None) -> TrialQueue:
        settings = QueueSettings(
            give_up=lambda planned, why: self.given_up.append((planned.trial.id, why)),
            on_event=self.events.append,
            is_stopping=lambda: self.is_stopping,
            clock=lambda: self.moment_s,
        )
        plan = self.lab.plan(seeds)
        return TrialQueue(replace(plan, schedule=schedule or plan.schedule), self.lab.store, settings)

    def id(self, seed: int | None) -> str:
        return self.lab.planned(seed).trial.id

    def end(
        self, planned: PlannedTrial, outcome: Outcome, failure: Failure | None = None, *, node: str | None = None
    ) -> None:
        """Leave the record of an attempt that ended so."""
        store = self.lab.store
        store.prepare_trial(planned.trial)
        record = store.find(planned.trial.id) or new_record(planned.trial, at=now())
        attempt = Attempt(
            number=len(record.attempts) + 1, started_at=now(), seed=0, data_digest=None, provenance=collect(()),
            phase_seconds={}, outcome=outcome, failure=failure, node=node,
        )  # fmt: skip
        status = {Outcome.FAILED: Status.FAILED, Outcome.STOPPED: Status.STOPPED}.get(outcome, Status.RUNNING)
        store.write(record.with_attempt(attempt, status=status, at=now()))


@pytest.fixture
def desk(lab: Lab) -> Desk:
    return Desk(lab)


def started(queue: TrialQueue) -> PlannedTrial:
    planned = queue.next()
    assert planned is not None
    return planned


def reasons(queue: TrialQueue) -> dict[str, int]:
    return {one.wait.reason: len(one.trials) for one in queue.waiting()}


def test_an_agenda_is_over_when_all_is_done(desk: Desk) -> None:
    queue = desk.queue([0, 1])
    assert reasons(queue) == {"its turn": 2}
    for _ in range(2):
        planned = started(queue)
        run_trial(planned, desk.lab.store, context=desk.lab.context())
        assert not queue.is_over
        queue.finish(planned.trial.id)
    assert (queue.is_over, queue.next(), queue.waiting()) == (True, None, ())
    assert desk.queue([0, 1]).is_over, "what is done is not handed out again"


def test_what_failed_for_a_passing_reason_is_due_again_while_others_run(desk: Desk) -> None:
    queue = desk.queue([0, 1])
    first, second = started(queue), started(queue)
    desk.end(first, Outcome.FAILED, PREEMPTED)
    queue.finish(first.trial.id)
    assert queue.next() is None
    (waiting,) = queue.waiting()
    assert (waiting.wait.reason, waiting.trials) == ("preempted: again", (first.trial.id,))
    assert waiting.wait.due_at is not None
    desk.moment_s += 30
    queue.refresh()
    assert queue.next() == first
    assert second.trial.id not in [one for waiting in queue.waiting() for one in waiting.trials]


def test_what_failed_for_good_is_over_until_somebody_asks_for_it(desk: Desk) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    desk.end(planned, Outcome.FAILED, Failure(kind="RuntimeError", message="asked to", log_tail=()))
    queue.finish(planned.trial.id)
    assert queue.is_over
    desk.requests.requeue(planned.trial.id, num_attempts=1)
    queue.refresh()
    assert (queue.is_over, queue.next()) == (False, planned)


def test_asking_again_forgets_the_retries_that_are_used_up(desk: Desk) -> None:
    queue = desk.queue([0])
    for number in range(1, 7):
        planned = started(queue)
        desk.end(planned, Outcome.FAILED, PREEMPTED)
        queue.finish(planned.trial.id)
        assert queue.is_over == (number == 6)
        desk.moment_s += 10_000
        queue.refresh()
    desk.requests.requeue(desk.id(0), num_attempts=6)
    queue.refresh()
    desk.end(started(queue), Outcome.FAILED, PREEMPTED)
    queue.finish(desk.id(0))
    assert reasons(queue) == {"preempted: again": 1}


def test_a_paused_trial_waits_and_a_resumed_one_goes_on(desk: Desk) -> None:
    queue = desk.queue([0, 1])
    desk.requests.pause(desk.id(0))
    queue.refresh()
    planned = started(queue)
    assert (planned.trial.id, queue.next()) == (desk.id(1), None)
    desk.requests.pause(desk.id(1))
    queue.refresh()
    assert queue.is_asked_to_stop(desk.id(1))
    desk.end(planned, Outcome.STOPPED)
    queue.finish(desk.id(1))
    assert queue.is_over, "only what somebody holds is left"
    (waiting,) = queue.waiting()
    assert (waiting.wait.reason.partition(" by ")[0], len(waiting.trials)) == ("paused", 2)
    desk.requests.resume(desk.id(1))
    queue.refresh()
    assert queue.next() == planned


def test_a_pause_taken_back_before_the_trial_has_stopped_starts_it_again(desk: Desk) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    desk.requests.pause(desk.id(0))
    desk.requests.resume(desk.id(0))
    desk.end(planned, Outcome.STOPPED)
    queue.finish(desk.id(0))
    assert queue.next() == planned


def test_a_cancelled_trial_is_started_by_requeue_alone(desk: Desk) -> None:
    desk.requests.cancel(desk.id(0))
    queue = desk.queue([0])
    assert queue.is_over
    desk.requests.resume(desk.id(0))
    queue.refresh()
    assert queue.is_over
    desk.requests.requeue(desk.id(0), num_attempts=0)
    queue.refresh()
    assert started(queue).trial.id == desk.id(0)


def test_priorities_given_while_it_runs_count(desk: Desk) -> None:
    queue = desk.queue([0, 1, 2])
    desk.requests.set_priority(desk.id(2), 5)
    queue.refresh()
    assert [started(queue).trial.seed for _ in range(3)] == [2, 0, 1]


def test_a_draining_agenda_starts_nothing_and_ends_with_what_runs(desk: Desk) -> None:
    queue = desk.queue([0, 1])
    planned = started(queue)
    desk.requests.drain("test")
    queue.refresh()
    assert (queue.next(), queue.is_over, queue.is_draining) == (None, False, True)
    assert reasons(queue) == {"draining, see orch ctl drain --undo": 1}
    run_trial(planned, desk.lab.store, context=desk.lab.context())
    queue.finish(planned.trial.id)
    assert queue.is_over
    desk.requests.undo_drain("test")
    queue.refresh()
    assert started(queue).trial.seed == 1


def test_a_sibling_of_a_bad_config_is_blocked_until_that_one_runs_again(desk: Desk) -> None:
    queue = desk.queue([0, 1, None])
    queue.see_nodes([replace(NODE, num_cpus=1)])
    first = started(queue)
    desk.end(first, Outcome.FAILED, BAD)
    queue.finish(first.trial.id)
    base = started(queue)
    assert base.trial.seed is None
    assert reasons(queue) == {f"held: {first.trial.id}, of another seed, failed": 1}
    desk.requests.requeue(first.trial.id, num_attempts=1)
    queue.refresh()
    queue.finish(base.trial.id)
    assert started(queue) == first


def test_a_new_plan_adds_trials_and_drops_those_that_have_not_started(desk: Desk) -> None:
    queue = desk.queue([0, 1])
    queue.see_nodes([replace(NODE, num_cpus=1)])
    running = started(queue)
    assert queue.adopt(desk.lab.plan([2, 3])) == (2, 2)
    assert queue.next() is None, "what runs still occupies its place"
    queue.finish(running.trial.id)
    assert started(queue).trial.seed == 2
    assert queue.plan.entries[1].trial.seed == 3


def test_what_no_node_can_hold_any_more_is_given_up_after_the_deadline(desk: Desk, lab: Lab) -> None:
    queue = desk.queue([0])
    wide = replace(lab.planned(0), resources=Resources(num_gpus=8))
    plan = replace(lab.plan([0]), entries=(wide,), schedule=Schedule(deadline_s=60))
    queue.adopt(plan)
    queue.see_nodes([NODE])
    assert queue.next() == wide
    queue.see_nodes([replace(NODE, num_gpus=4)])
    assert queue.is_unplaceable(wide.trial.id, waited_s=1)
    queue.finish(wide.trial.id)
    desk.moment_s += 3
    queue.refresh()
    (waiting,) = queue.waiting()
    assert waiting.wait.text.startswith("no node has 8 GPU 1 CPU; given up in ")
    desk.moment_s += 59
    queue.refresh()
    assert (queue.is_over, desk.given_up) == (False, [])
    desk.moment_s += 1
    queue.refresh()
    assert queue.is_over
    assert desk.given_up == [(wide.trial.id, "no node has 8 GPU 1 CPU for 60 s")]


def test_what_the_cluster_has_and_does_not_place_is_given_up_too(desk: Desk) -> None:
    queue = desk.queue([0])
    queue.see_nodes([NODE])
    trial_id = started(queue).trial.id
    assert not queue.is_unplaceable(trial_id, waited_s=3599)
    assert queue.is_unplaceable(trial_id, waited_s=3600)
    assert desk.given_up == [(trial_id, "the cluster has what it asks for, and did not place it for 3600 s")]


def test_a_trial_whose_process_vanished_with_its_machine_is_tried_again(desk: Desk) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    desk.end(planned, Outcome.RUNNING)
    queue.finish(planned.trial.id)
    assert reasons(queue) == {"node lost: again": 1}


def test_a_trial_killed_by_a_stop_is_left_for_the_next_call_without_a_word_of_failure(desk: Desk) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    desk.is_stopping = True
    desk.end(planned, Outcome.RUNNING)
    store = desk.lab.store
    store.write(store.read(planned.trial.id).with_death(outcome=Outcome.INTERRUPTED, failure=None, at=now()))
    queue.finish(planned.trial.id)
    assert queue.to_start == (planned,)
    assert desk.events == []


def test_what_failed_for_its_node_avoids_it_and_what_failed_otherwise_does_not(desk: Desk) -> None:
    queue = desk.queue([0, 1])
    queue.see_nodes([replace(NODE, name="a"), replace(NODE, name="b")])
    first, second = started(queue), started(queue)
    desk.end(first, Outcome.FAILED, replace(PREEMPTED, message="Xid (PCI:0000:b3:00): 79, GPU fell"), node="a")
    desk.end(second, Outcome.FAILED, PREEMPTED, node="b")
    queue.finish(first.trial.id)
    queue.finish(second.trial.id)
    assert (queue.avoids(first.trial.id), queue.avoids(second.trial.id)) == (frozenset({"a"}), frozenset())
    queue.see_nodes([replace(NODE, name="a")])
    assert queue.avoids(first.trial.id) == frozenset(), "no other node is left"


def test_a_trial_that_cannot_begin_says_why_avoids_that_node_and_is_given_up_at_its_deadline(desk: Desk) -> None:
    queue = desk.queue([0], schedule=Schedule(deadline_s=5))
    queue.see_nodes([replace(NODE, name="a"), replace(NODE, name="b")])
    for wait_s in (2, 4):
        planned = started(queue)
        queue.finish(planned.trial.id, problem="no experiment named test (node a)", node="a")
        assert (
            desk.events[-1]
            == f"{planned.trial.id} could not begin: no experiment named test (node a); again in {wait_s} s"
        )
        assert reasons(queue) == {"could not begin (no experiment named test (node a)): again": 1}
        assert queue.avoids(planned.trial.id) == {"a"}
        queue.refresh()
        assert queue.next() is None
        desk.moment_s += wait_s
        queue.refresh()
    queue.finish(started(queue).trial.id, problem="no experiment named test", node="b")
    assert desk.given_up == [(planned.trial.id, "it could not begin for 6 s: no experiment named test")]
    assert queue.is_over


def test_a_trial_that_begins_at_last_has_its_whole_deadline_again(desk: Desk) -> None:
    queue = desk.queue([0], schedule=Schedule(deadline_s=5))
    planned = started(queue)
    queue.finish(planned.trial.id, problem="no folder")
    desk.moment_s += 4
    queue.refresh()
    desk.end(started(queue), Outcome.FAILED, PREEMPTED)
    queue.finish(planned.trial.id, problem="the actor died")
    assert reasons(queue) == {"preempted: again": 1}
    desk.moment_s += 60
    queue.refresh()
    queue.finish(started(queue).trial.id, problem="no folder")
    assert (desk.given_up, reasons(queue)) == ([], {"could not begin (no folder): again": 1})


def hidden(record: Path) -> Path:
    """Make a record unreadable, as a file server that is away does; where it lies now."""
    aside = record.rename(record.with_suffix(".aside"))
    record.mkdir()
    return aside


def found_again(aside: Path) -> None:
    record = aside.with_suffix(".json")
    record.rmdir()
    aside.rename(record)


def test_a_trial_whose_record_does_not_read_when_it_ends_waits_until_it_does(desk: Desk) -> None:
    queue = desk.queue([0, 1])
    first, second = started(queue), started(queue)
    for planned in (first, second):
        run_trial(planned, desk.lab.store, context=desk.lab.context())
    aside = hidden(desk.lab.store.trial_folder(first.trial.id) / "record.json")
    queue.finish(first.trial.id)
    queue.finish(second.trial.id)
    queue.refresh()
    assert (reasons(queue), queue.is_over) == ({"its record does not read": 1}, False)
    (told,) = desk.events
    assert told.startswith(f"{first.trial.id} is set aside: ")
    assert "record.json" in told
    found_again(aside)
    queue.refresh()
    assert (reasons(queue), queue.is_over, queue.next()) == ({}, True, None)


def test_a_record_that_never_reads_again_does_not_keep_a_sweep_alive(desk: Desk) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    run_trial(planned, desk.lab.store, context=desk.lab.context())
    hidden(desk.lab.store.trial_folder(planned.trial.id) / "record.json")
    queue.finish(planned.trial.id)
    assert not queue.is_over
    desk.moment_s += 60
    queue.refresh()
    assert queue.is_over


def test_records_that_do_not_read_hold_up_nobody_else(desk: Desk) -> None:
    queue = desk.queue([0, 1, 2])
    retried = started(queue)
    desk.end(retried, Outcome.FAILED, PREEMPTED)
    queue.finish(retried.trial.id)
    (folder, other) = (desk.lab.store.trial_folder(desk.id(seed)) for seed in (0, 1))
    asides = [hidden(folder / "record.json")]
    assert reasons(queue) == {"preempted: again": 1, "its turn": 2}
    (other / "record.json").mkdir(parents=True)
    assert started(queue).trial.id == desk.id(2)
    desk.moment_s += 30
    queue.refresh()
    assert queue.next() is None
    assert reasons(queue) == {"its record does not read": 2}
    found_again(asides[0])
    (other / "record.json").rmdir()
    queue.refresh()
    desk.moment_s += 30
    queue.refresh()
    assert {started(queue).trial.id, started(queue).trial.id} == {desk.id(0), desk.id(1)}


def test_a_plan_that_does_not_read_is_said_once_and_holds_up_no_retry(desk: Desk) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    desk.end(planned, Outcome.FAILED, PREEMPTED)
    queue.finish(planned.trial.id)
    desk.lab.store.plans.file("test").mkdir(parents=True)
    controller = Controller(
        queue,
        desk.lab.store,
        prepare=lambda trials: None,
        check=lambda trials: None,
        on_event=desk.events.append,
    )
    controller.look()
    desk.moment_s += 30
    controller.look()
    assert started(queue) == planned
    assert [event.splitlines()[0] for event in desk.events[1:]] == [
        "the driver goes on as before: the runs folder does not work: [Errno 21] Is a directory: "
        f"'{desk.lab.store.plans.file('test')}'"
    ]


def test_what_another_process_has_is_waited_for(desk: Desk, lab: Lab) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    with lab.store.lock(planned.trial.id):
        queue.finish(planned.trial.id)
        queue.refresh()
        assert (reasons(queue), queue.is_over) == ({"another process works on it": 1}, False)
    queue.refresh()
    desk.moment_s += 10
    queue.refresh()
    assert queue.next() == planned


def test_what_another_process_left_unfinished_is_tried_again_within_its_budget(desk: Desk, lab: Lab) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    with lab.store.lock(planned.trial.id):
        queue.finish(planned.trial.id)
    desk.end(planned, Outcome.RUNNING)
    queue.refresh()
    assert reasons(queue) == {"node lost: again": 1}


def test_a_trial_that_never_began_is_handed_out_again(desk: Desk) -> None:
    queue = desk.queue([0])
    planned = started(queue)
    queue.finish_all()
    assert (queue.next(), queue.is_over) == (None, False)
    desk.moment_s += 2
    queue.refresh()
    assert queue.next() == planned
