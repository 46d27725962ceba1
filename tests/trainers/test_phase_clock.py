import pytest

from trainers.phase_clock import PhaseClock


def test_phases_add_up_and_steps_are_told_apart() -> None:
    clock = PhaseClock()
    with clock.phase("sample"):
        pass
    with clock.phase("sample"):
        pass
    with clock.phase("update"):
        pass
    step = clock.take_step()
    assert set(step) == {"sample", "update"}
    assert clock.take_step() == {}
    assert clock.total == step


def test_entering_a_phase_ends_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 2.0, 5.0, 9.0])
    monkeypatch.setattr("trainers.phase_clock.time.perf_counter", lambda: next(moments))
    clock = PhaseClock()
    for phase in ("prepare", "sample", "prepare", None):
        clock.enter(phase)
    assert clock.total == {"prepare": 6.0, "sample": 3.0}


def test_what_a_trainer_does_not_tell_of_is_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr("trainers.phase_clock.time.perf_counter", lambda: next(moments))
    clock = PhaseClock()
    clock.enter("prepare")
    clock.replace({"sample": 3.0, "prepare": 1.0})
    assert clock.total == {"sample": 3.0, "prepare": 7.0}
