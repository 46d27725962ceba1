from hypothesis import given
from hypothesis import strategies as st

from orchestrator.trial.transfer import Transfer, readable_bytes


def test_a_line_has_bar_bytes_rate_and_time_left() -> None:
    transfer = Transfer(name="owner/name@main")
    assert transfer.line(600_000_000, 3_000_000_000, at_s=10.0) == (
        "owner/name@main  ████░░░░░░░░░░░░░░░░  20%, 600 MB of 3.0 GB"
    )
    assert transfer.line(1_100_000_000, 3_000_000_000, at_s=20.0) == (
        "owner/name@main  ███████░░░░░░░░░░░░░  37%, 1.1 GB of 3.0 GB, 50 MB/s, 0 min 38 s left"
    )
    assert transfer.line(3_000_000_000, 3_000_000_000, at_s=60.0).endswith("100%, 3.0 GB of 3.0 GB")
    assert Transfer(name="empty").line(0, 0, at_s=0.0) == f"empty  {'█' * 20} 100%, 0 B of 0 B"


@given(done=st.integers(0, 10**13), total=st.integers(0, 10**13), later_s=st.floats(0, 1e6))
def test_any_bytes_at_any_moment_give_a_line_of_one_width_of_bar(done: int, total: int, later_s: float) -> None:
    transfer = Transfer(name="x")
    transfer.line(0, total, at_s=5.0)
    line = transfer.line(done, total, at_s=5.0 + later_s)
    assert line.count("█") + line.count("░") == 20


def test_bytes_read_in_powers_of_1000() -> None:
    shown = [readable_bytes(number) for number in (0, 999, 1000, 9_940, 999_400, 999_600, 3_090_000_000, 5e15)]
    assert shown == ["0 B", "999 B", "1.0 kB", "9.9 kB", "999 kB", "1.0 MB", "3.1 GB", "5000 TB"]
