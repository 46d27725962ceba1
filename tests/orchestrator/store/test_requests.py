import stat
from pathlib import Path

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.requests import NO_REQUEST, Requests, TrialRequest

NOW = "2026-01-01T00:00:00Z"
TRIAL, OTHER = "0123456789ab", "ba9876543210"


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    return Requests(tmp_path, now=lambda: NOW)


def test_reading_orders_creates_nothing(requests: Requests, tmp_path: Path) -> None:
    assert (requests.of(TRIAL), requests.all(), requests.draining("gmts")) == (NO_REQUEST, {}, None)
    assert list(tmp_path.iterdir()) == []


def test_the_last_word_counts_and_a_priority_outlives_a_pause(requests: Requests) -> None:
    requests.set_priority(TRIAL, 5)
    requests.pause(TRIAL)
    assert (requests.of(TRIAL).hold, requests.of(TRIAL).priority) == ("paused", 5)
    requests.cancel(TRIAL)
    requests.resume(TRIAL)
    assert requests.of(TRIAL).hold == "cancelled", "only requeue takes a cancelled trial back"
    requests.requeue(TRIAL, num_attempts=3)
    order = requests.of(TRIAL)
    assert (order.hold, order.priority, order.requeued_after, order.at) == (None, 5, 3, NOW)


def test_a_request_to_run_again_is_met_by_one_more_attempt() -> None:
    order = TrialRequest(requeued_after=2)
    assert [order.is_due(number) for number in (0, 2, 3)] == [True, True, False]
    assert not NO_REQUEST.is_due(0)


def test_all_orders_are_found_and_changes_are_seen(requests: Requests, tmp_path: Path) -> None:
    writer = Requests(tmp_path, now=lambda: NOW)
    writer.pause(TRIAL)
    assert {name: one.hold for name, one in requests.all().items()} == {TRIAL: "paused"}
    writer.cancel(OTHER)
    writer.resume(TRIAL)
    assert {name: one.hold for name, one in requests.all().items()} == {TRIAL: None, OTHER: "cancelled"}


def test_a_drain_is_taken_back_once(requests: Requests) -> None:
    requests.drain("gmts")
    drain = requests.draining("gmts")
    assert drain is not None
    assert (drain.at, "@" in drain.by) == (NOW, True)
    assert [requests.undo_drain("gmts"), requests.undo_drain("gmts"), requests.draining("gmts")] == [True, False, None]


def test_orders_are_their_owners_alone(requests: Requests, tmp_path: Path) -> None:
    requests.pause(TRIAL)
    requests.drain("gmts")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {
        "orders": 0o700, "trials": 0o700, "sweeps": 0o700, ".lock": 0o600,
        f"{TRIAL}.json": 0o600, "gmts.json": 0o600,
    }  # fmt: skip


def test_an_order_that_does_not_read_names_its_file(requests: Requests, tmp_path: Path) -> None:
    requests.pause(TRIAL)
    path = tmp_path / "orders" / "trials" / f"{TRIAL}.json"
    for content in ('{"hold": "held"}', "{"):
        path.write_text(content)
        with pytest.raises(StoreError) as raised:
            requests.of(TRIAL)
        assert raised.value.where == str(path)
