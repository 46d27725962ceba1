import stat
from pathlib import Path

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.requests import NO_ORDER, Order, Orders

NOW = "2026-01-01T00:00:00Z"
TRIAL, OTHER = "0123456789ab", "ba9876543210"


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path, now=lambda: NOW)


def test_reading_orders_creates_nothing(orders: Orders, tmp_path: Path) -> None:
    assert (orders.of(TRIAL), orders.all(), orders.draining("gmts")) == (NO_ORDER, {}, None)
    assert list(tmp_path.iterdir()) == []


def test_the_last_word_counts_and_a_priority_outlives_a_pause(orders: Orders) -> None:
    orders.set_priority(TRIAL, 5)
    orders.pause(TRIAL)
    assert (orders.of(TRIAL).hold, orders.of(TRIAL).priority) == ("paused", 5)
    orders.cancel(TRIAL)
    orders.resume(TRIAL)
    assert orders.of(TRIAL).hold == "cancelled", "only requeue takes a cancelled trial back"
    orders.requeue(TRIAL, num_attempts=3)
    order = orders.of(TRIAL)
    assert (order.hold, order.priority, order.requeued_after, order.at) == (None, 5, 3, NOW)


def test_a_request_to_run_again_is_met_by_one_more_attempt() -> None:
    order = Order(requeued_after=2)
    assert [order.is_due(number) for number in (0, 2, 3)] == [True, True, False]
    assert not NO_ORDER.is_due(0)


def test_all_orders_are_found_and_changes_are_seen(orders: Orders, tmp_path: Path) -> None:
    writer = Orders(tmp_path, now=lambda: NOW)
    writer.pause(TRIAL)
    assert {name: one.hold for name, one in orders.all().items()} == {TRIAL: "paused"}
    writer.cancel(OTHER)
    writer.resume(TRIAL)
    assert {name: one.hold for name, one in orders.all().items()} == {TRIAL: None, OTHER: "cancelled"}


def test_a_drain_is_taken_back_once(orders: Orders) -> None:
    orders.drain("gmts")
    drain = orders.draining("gmts")
    assert drain is not None
    assert (drain.at, "@" in drain.by) == (NOW, True)
    assert [orders.undo_drain("gmts"), orders.undo_drain("gmts"), orders.draining("gmts")] == [True, False, None]


def test_orders_are_their_owners_alone(orders: Orders, tmp_path: Path) -> None:
    orders.pause(TRIAL)
    orders.drain("gmts")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {
        "orders": 0o700, "trials": 0o700, "sweeps": 0o700, ".lock": 0o600,
        f"{TRIAL}.json": 0o600, "gmts.json": 0o600,
    }  # fmt: skip


def test_an_order_that_does_not_read_names_its_file(orders: Orders, tmp_path: Path) -> None:
    orders.pause(TRIAL)
    path = tmp_path / "orders" / "trials" / f"{TRIAL}.json"
    for content in ('{"hold": "held"}', "{"):
        path.write_text(content)
        with pytest.raises(StoreError) as raised:
            orders.of(TRIAL)
        assert raised.value.where == str(path)
