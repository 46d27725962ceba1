from trainers.verl.launch.watch import MetricsTail, Watchdog

START_S, STEP_S = 1800.0, 600.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def a_watchdog(clock):
    return Watchdog(start_s=START_S, step_s=STEP_S, clock=clock)


def test_only_whole_lines_are_read_and_each_once(tmp_path):
    file = tmp_path / "metrics.jsonl"
    tail = MetricsTail(file)
    assert list(tail.read()) == []
    file.write_text('{"step": 1}\n{"step"')
    assert list(tail.read()) == [{"step": 1}]
    with file.open("a") as more:
        more.write(': 2}\n{"step": 3}\n')
    assert list(tail.read()) == [{"step": 2}, {"step": 3}]
    assert list(tail.read()) == []


def test_the_first_step_may_take_long():
    clock = Clock()
    watchdog = a_watchdog(clock)
    clock.now = START_S
    assert not watchdog.is_late
    clock.now += 1
    assert watchdog.is_late


def test_short_steps_are_waited_for_until_the_floor():
    clock = Clock()
    watchdog = a_watchdog(clock)
    for _ in range(5):
        clock.now += 2
        watchdog.progressed()
    clock.now += STEP_S
    assert not watchdog.is_late
    clock.now += 1
    assert (watchdog.is_late, watchdog.waited_s) == (True, STEP_S + 1)


def test_long_steps_are_waited_for_twenty_times_as_long():
    clock = Clock()
    watchdog = a_watchdog(clock)
    for _ in range(4):
        clock.now += 100
        watchdog.progressed()
    clock.now += 1999
    assert not watchdog.is_late
    clock.now += 2
    assert watchdog.is_late


def test_the_second_step_may_take_as_long_as_the_first():
    clock = Clock()
    watchdog = a_watchdog(clock)
    clock.now = 900
    watchdog.progressed()
    clock.now += 900
    assert not watchdog.is_late
    clock.now += 1
    assert watchdog.is_late
