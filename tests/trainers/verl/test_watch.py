from trainers.verl.launch.pulse import Pulse, PulseFile
from trainers.verl.launch.watch import MetricsTail, Watchdog

START_S, STEP_S = 1800.0, 600.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def a_watchdog(clock):
    return Watchdog(start_s=START_S, silence_s=STEP_S, clock=clock)


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


def test_a_silence_is_waited_for_six_times_as_long_as_the_longest_before():
    clock = Clock()
    watchdog = a_watchdog(clock)
    for silence in (100, 500, 1):
        clock.now += silence
        watchdog.progressed()
    clock.now += 3000
    assert not watchdog.is_late
    clock.now += 1
    assert watchdog.is_late


def test_signs_within_a_step_keep_a_long_one_alive():
    clock = Clock()
    watchdog = a_watchdog(clock)
    for _ in range(1000):
        clock.now += STEP_S
        assert not watchdog.is_late
        watchdog.progressed()


def test_a_sign_is_read_once_and_as_status_says_it(tmp_path):
    clock = Clock()
    written, read = PulseFile(tmp_path / "pulse", clock=clock), PulseFile(tmp_path / "pulse")
    assert read.read() is None
    written.beat(Pulse(doing="sample", done=0, total=8192, unit="responses"))
    assert str(read.read()) == "sample 0 of 8,192 responses"
    assert read.read() is None
    clock.now += 0.5
    written.beat(Pulse(doing="sample", done=10, total=8192, unit="responses"))
    assert read.read() is None, "at most one a second of one kind"
    written.beat(Pulse(doing="score", done=1, unit="passes"))
    assert str(read.read()) == "score 1 passes"
    clock.now += 1.0
    written.beat(Pulse(doing="score", done=5, unit="passes"))
    assert str(read.read()) == "score 5 passes"
    written.beat(Pulse(doing="send weights"))
    assert str(read.read()) == "send weights"


def test_looking_again_without_anything_new_is_no_sign_of_life(tmp_path):
    clock = Clock()
    written, read = PulseFile(tmp_path / "pulse", clock=clock), PulseFile(tmp_path / "pulse")
    watchdog = a_watchdog(clock)
    while not watchdog.is_late and clock.now < 10 * START_S:
        written.beat(Pulse(doing="sample", done=7, total=8, unit="responses"))  # as verl polls a sampler that hangs
        if read.read() is not None:
            watchdog.progressed()
        clock.now += 10.0
    assert watchdog.is_late
    assert clock.now < STEP_S + 20.0


def test_a_sign_that_cannot_be_written_or_read_ends_nothing(tmp_path):
    gone = PulseFile(tmp_path / "removed" / "pulse")
    gone.beat(Pulse(doing="checkpoint"))
    (tmp_path / "pulse").write_text("{")
    assert (gone.read(), PulseFile(tmp_path / "pulse").read()) == (None, None)
