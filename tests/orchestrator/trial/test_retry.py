import re
from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab

from orchestrator.store.record import Attempt, Failure, Outcome, RunRecord, Status, new_record
from orchestrator.trial.provenance import collect
from orchestrator.trial.retry import (
    RETRY_RULES,
    FailureClass,
    SiblingHolds,
    classify,
    nodes_to_avoid,
    resources_that_fit,
    wait_before_retry_s,
)
from trainers.recipe import Resources, Selection

LOGS = sorted((Path(__file__).parents[1] / "logs").glob("*.txt"))
DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"
NOW = "2026-01-01T00:00:00Z"


def failure_of(log: Path) -> Failure:
    """A recorded failure: its origin, `kind:`, `message:`, then the last lines of the log."""
    _, kind, message, *tail = log.read_text().splitlines()
    return Failure(
        kind=kind.removeprefix("kind: "), message=message.removeprefix("message:").strip(), log_tail=tuple(tail)
    )


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_a_recorded_log_is_of_the_class_that_its_name_begins_with(log: Path) -> None:
    name = classify(failure_of(log))
    assert log.stem.replace("_", " ").startswith(name.value)


def test_every_class_has_a_recorded_log_and_a_policy() -> None:
    assert {classify(failure_of(log)) for log in LOGS} == set(FailureClass) == set(RETRY_RULES)


def test_what_is_said_counts_before_the_exception_that_wraps_it() -> None:
    wrapped = Failure(kind="OrchError", message="the checkpoint was not written: [Errno 28]", log_tail=())
    assert classify(wrapped) is FailureClass.DISK
    assert classify(replace(wrapped, message="anything else")) is FailureClass.BAD_CONFIG


def failed(lab: Lab, *messages: str) -> RunRecord:
    record = new_record(lab.planned(0).trial, at=NOW)
    for number, message in enumerate(messages, start=1):
        attempt = Attempt(
            number=number, started_at=NOW, seed=0, data_digest=None, provenance=collect(()), phase_seconds={},
            outcome=Outcome.FAILED, failure=Failure(kind="ProcessDied", message=message, log_tail=()),
        )  # fmt: skip
        record = record.with_attempt(attempt, status=Status.FAILED, at=NOW)
    return record


PREEMPTED = "the trial's process was killed by SIGTERM"


def test_the_wait_doubles_until_the_budget_is_used_up(lab: Lab) -> None:
    waits = [wait_before_retry_s(failed(lab, *[PREEMPTED] * n), since=0, first_wait_s=30) for n in range(1, 7)]
    assert waits == [30, 60, 120, 240, 480, None]


def test_a_process_that_vanished_counts_as_lost_with_its_machine(lab: Lab) -> None:
    record = failed(lab, "anything")
    for outcome in (Outcome.RUNNING, Outcome.INTERRUPTED):
        last = replace(record.attempts[0], outcome=outcome, failure=None)
        vanished = record.with_attempt(last, status=Status.RUNNING, at=NOW)
        assert wait_before_retry_s(vanished, since=0, first_wait_s=30) == 30
    stopped = record.with_attempt(replace(last, outcome=Outcome.STOPPED), status=Status.STOPPED, at=NOW)
    assert wait_before_retry_s(stopped, since=0, first_wait_s=30) is None


def test_of_the_nodes_of_failed_gangs_the_one_that_was_in_most_is_suspected_first(lab: Lab) -> None:
    lost = "NVRM: Xid (PCI:0000:b3:00): 79, GPU has fallen off the bus"
    record = failed(lab, lost, "anything", lost)
    for attempt, nodes in zip(record.attempts, (("a", "b"), ("d", "e"), ("c", "b")), strict=True):
        record = record.with_attempt(
            replace(attempt, node=nodes[0], other_nodes=nodes[1:]), status=Status.FAILED, at=NOW
        )
    assert nodes_to_avoid(record) == ("b", "a", "c")


def test_older_failures_and_other_classes_use_up_nothing(lab: Lab) -> None:
    record = failed(lab, *[PREEMPTED] * 7)
    assert wait_before_retry_s(record, since=6, first_wait_s=30) == 30
    mixed = failed(lab, PREEMPTED, "no training step for 900 s", PREEMPTED)
    assert wait_before_retry_s(mixed, since=0, first_wait_s=30) == 60


@pytest.mark.parametrize("message", ["asked to fail", "No space left on device"])
def test_what_would_fail_again_is_left_to_somebody(lab: Lab, message: str) -> None:
    assert wait_before_retry_s(failed(lab, message), since=0, first_wait_s=30) is None
    assert wait_before_retry_s(new_record(lab.planned(0).trial, at=NOW), since=0, first_wait_s=30) is None


OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


def out_of_memory(lab: Lab, *used: Resources) -> RunRecord:
    record = failed(lab, *[OUT_OF_MEMORY] * len(used))
    attempts = [replace(one, resources=resources) for one, resources in zip(record.attempts, used, strict=True)]
    return replace(record, attempts=tuple(attempts))


def test_what_ran_out_of_gpu_memory_is_tried_at_once_with_half_the_sequences(lab: Lab) -> None:
    planned = Resources(num_gpus=1, micro_batch_sequences=6, sample_batch_sequences=2)
    used, sizes = [planned], []
    while wait_before_retry_s(out_of_memory(lab, *used), since=0, first_wait_s=30) == 0:
        used.append(resources_that_fit(planned, out_of_memory(lab, *used)))
        sizes.append((used[-1].micro_batch_sequences, used[-1].sample_batch_sequences))
    assert sizes == [(3, 1), (1, 1)]
    assert wait_before_retry_s(out_of_memory(lab, *used), since=0, first_wait_s=30) is None


@pytest.mark.parametrize(
    ("last_words", "falls"),
    [
        ("in score 3 passes", {"tokens_per_pass": 2000}),
        ("in update 12 passes", {"tokens_per_pass": 2000}),
        ("in sample 5 of 16 responses", {"sample_batch_sequences": 64, "gpu_memory_share": 0.36}),
        ("in send weights", {"gpu_memory_share": 0.36}),
        ("in checkpoint", {"tokens_per_pass": 2000, "sample_batch_sequences": 64}),
    ],
)
def test_only_what_the_last_phase_needs_falls(lab: Lab, last_words: str, falls: dict[str, float]) -> None:
    used = Resources(num_gpus=1, tokens_per_pass=4000, sample_batch_sequences=128, gpu_memory_share=0.4)
    message = f"the training process ended with status 1 after 2 steps, {last_words}: OutOfMemoryError: {OUT_OF_MEMORY}"
    record = failed(lab, message)
    record = replace(record, attempts=tuple(replace(one, resources=used) for one in record.attempts))
    assert resources_that_fit(used, record) == replace(used, **falls)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["full", "ict"])
def test_a_pass_stays_as_long_as_one_longest_sequence(lab: Lab, method: str) -> None:
    recipe = lab.planned(0).trial.recipe
    assert recipe is not None
    longest = recipe.data.max_prompt_tokens + recipe.data.max_response_tokens
    used = Resources(num_gpus=1, tokens_per_pass=longest + 1)
    record = failed(lab, f"the training process ended with status 1 after 2 steps, in update 1 passes: {OUT_OF_MEMORY}")
    recipe = replace(recipe, selection=Selection(method=method, ratio=None if method == "full" else 0.2))
    record = replace(record, trial=replace(record.trial, recipe=recipe))
    record = replace(record, attempts=tuple(replace(one, resources=used) for one in record.attempts))
    assert resources_that_fit(used, record).tokens_per_pass == longest


def test_what_did_not_fit_is_not_tried_again_unless_there_are_more_gpus(lab: Lab) -> None:
    once = out_of_memory(lab, Resources(num_gpus=1, micro_batch_sequences=8))
    assert resources_that_fit(Resources(num_gpus=1, micro_batch_sequences=64), once).micro_batch_sequences == 4
    assert resources_that_fit(Resources(num_gpus=1, micro_batch_sequences=2), once).micro_batch_sequences == 2
    assert resources_that_fit(Resources(num_gpus=2, micro_batch_sequences=64), once).micro_batch_sequences == 64
    assert resources_that_fit(Resources(num_gpus=1), failed(lab, OUT_OF_MEMORY)) == Resources(num_gpus=1)


def test_a_sweep_halves_the_micro_batch_and_records_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    monkeypatch.setenv("FAKE_FAIL_MESSAGE", OUT_OF_MEMORY)
    monkeypatch.setenv("FAKE_FAIL_ONCE", str(lab.root / "failed-once"))
    assert lab.sweep(lab.plan([0])).exit_code == 0
    used = [attempt.resources for attempt in lab.store.read(lab.planned(0).trial.id).attempts]
    assert [one and (one.micro_batch_sequences, one.sample_batch_sequences) for one in used] == [(64, 1024), (32, 512)]


def test_a_bad_config_holds_those_that_differ_in_their_seed_only(lab: Lab) -> None:
    first, second, base = lab.planned(0), lab.planned(1), lab.planned(None)
    lab.store.prepare_trial(first.trial)
    lab.store.write(replace(failed(lab, "hydra.errors.X"), trial=first.trial))
    holds = SiblingHolds(lab.store)
    assert holds.culprit(second.trial) is None, "it failed before this sweep"
    holds.note(first.trial)
    assert holds.culprit(second.trial) == first.trial.id
    assert holds.culprit(base.trial) is None
    assert holds.culprit(first.trial) is None


def test_a_cause_that_passes_holds_nobody(lab: Lab) -> None:
    first, second = lab.planned(0), lab.planned(1)
    holds = SiblingHolds(lab.store)
    holds.note(first.trial)
    lab.store.prepare_trial(first.trial)
    lab.store.write(replace(failed(lab, PREEMPTED), trial=first.trial))
    assert holds.culprit(second.trial) is None


def test_a_sweep_holds_siblings_of_a_bad_config(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    monkeypatch.setenv("FAKE_FAIL_MESSAGE", "hydra.errors.ConfigCompositionException: Could not override 'b'")
    outcome = lab.sweep(lab.plan([0, 1, 2]))
    assert [row.state for row in outcome.rows] == ["failed", "waiting", "waiting"]
    assert outcome.exit_code == 1


def test_a_sweep_tries_again_what_failed_for_a_passing_reason(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    monkeypatch.setenv("FAKE_FAIL_MESSAGE", "slurmstepd: error: JOB CANCELLED DUE TO PREEMPTION")
    monkeypatch.setenv("FAKE_FAIL_ONCE", str(lab.root / "failed-once"))
    outcome = lab.sweep(lab.plan([0, 1]))
    assert [row.state for row in outcome.rows] == ["done", "done"]
    attempts = lab.store.read(lab.planned(0).trial.id).attempts
    assert [attempt.outcome for attempt in attempts] == [Outcome.FAILED, Outcome.DONE]


def test_the_guide_has_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| ([a-z -]+) \| (.*?) \| (\d+) \| (yes|) ?\|", DOCUMENT.read_text(), flags=re.MULTILINE)
    documented = {name: (int(retries), bool(holds)) for name, _, retries, holds in rows}
    assert documented == {name.value: (one.num_retries, one.holds_siblings) for name, one in RETRY_RULES.items()}
