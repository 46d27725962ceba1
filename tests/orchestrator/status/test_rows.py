import io
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import Lab
from rich.console import Console
from rich.live import Live

from dashboards.columns import lay_out
from orchestrator.cli.display import LiveDisplay, PlainDisplay, duration, steps, table_columns
from orchestrator.status.rows import SweepView, TrialRow, count_states
from orchestrator.store import scores as wanted
from orchestrator.store.progress import ProgressWriter
from orchestrator.store.record import Outcome, Status
from orchestrator.store.redact import now
from orchestrator.store.store import Store
from orchestrator.sweep.driver import summary_line
from orchestrator.trial.attempt import run_trial


def view(lab: Lab, seeds: list[int | None]) -> SweepView:
    return SweepView(lab.store, [lab.planned(seed) for seed in seeds], data_folder=None)


def test_rows_tell_done_waiting_failed_and_partial_apart(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "1@3")
    for seed in (None, 0, 1):
        run_trial(lab.planned(seed), lab.store, context=lab.context())
    rows = view(lab, [None, 0, 1, 2]).rows()
    assert [row.state for row in rows] == ["done", "done", "failed", "waiting"]
    assert (rows[2].failure, rows[2].step) == ("RuntimeError: asked to fail at step 3", 2)
    assert list(rows[1].scores) == ["bench0"]
    assert count_states(rows) == {"done": 2, "waiting": 1, "failed": 1}
    lab.num_benchmarks = 2
    assert [row.state for row in view(lab, [None, 2]).rows()] == ["partial", "waiting"]


def test_a_row_changes_when_its_benchmark_comes_though_the_record_does_not(lab: Lab) -> None:
    run_trial(lab.planned(0), lab.store, context=lab.context())
    bench = Path(lab.benchmark(0))
    aside = bench.rename(bench.with_suffix(".aside"))
    planned = lab.planned(0)
    aside.with_suffix(".jsonl").unlink()
    wanted._digest.cache_clear()
    rows = SweepView(lab.store, [planned], data_folder=None)
    assert [row.state for row in rows.rows()] == ["partial"]
    aside.rename(bench)
    assert [row.state for row in rows.rows()] == ["done"]


def test_a_benchmark_that_only_another_plan_wants_does_not_undo_this_one(lab: Lab) -> None:
    planned = lab.planned(0)
    record = run_trial(planned, lab.store, context=lab.context())
    lab.store.write(replace(record, status=Status.FAILED))
    assert view(lab, [0]).rows()[0].state == "done"
    assert run_trial(planned, lab.store, context=lab.context()).status is Status.FAILED
    lab.num_benchmarks = 2
    assert view(lab, [0]).rows()[0].state == "failed"


def test_a_running_trial_shows_its_progress_and_a_dead_one_that_it_was_interrupted(lab: Lab) -> None:
    planned = lab.planned(0)
    record = run_trial(planned, lab.store, context=lab.context())
    ghost = replace(record.attempts[0], outcome=Outcome.RUNNING, ended_at=None)
    lab.store.write(replace(record, attempts=(ghost,), status=Status.RUNNING))
    writer = ProgressWriter(lab.store.progress_file(planned.trial.id), attempt=1, now=now)
    with writer.heartbeat():
        writer.enter("update", step=2, total=6)
    reader = view(lab, [0])
    with lab.store.lock(planned.trial.id):
        row = reader.rows()[0]
        assert (row.state, row.phase, row.step, row.total) == ("running", "update", 2, 6)
        path = lab.store.progress_file(planned.trial.id)
        path.write_text(path.read_text().replace(f'"host": "{socket.gethostname()}"', '"host": "far away"'))
        assert reader.rows()[0].state == "running", "a process of another machine that beats"
        last = json.loads(path.read_text())
        path.write_text(json.dumps({**last, "updated_at": "2020-01-01T00:00:00.000Z"}))
        assert reader.rows()[0].state == "interrupted", "it has given no sign of life for long"
    assert reader.rows()[0].state == "interrupted"


def test_only_records_that_changed_are_read_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        run_trial(lab.planned(seed), lab.store, context=lab.context())
    reader = view(lab, [0, 1])
    first = reader.rows()
    read: list[str] = []
    find = Store.find_outline
    monkeypatch.setattr(Store, "find_outline", lambda self, trial_id: read.append(trial_id) or find(self, trial_id))
    assert reader.rows() == first
    assert read == []
    record = lab.store.read(lab.planned(1).trial.id)
    read.clear()
    lab.store.write(replace(record, status=Status.STOPPED, scores=()))
    assert [row.state for row in reader.rows()] == ["done", "stopped"]
    assert read == [record.trial.id]


def row(**changes: object) -> TrialRow:
    return replace(TrialRow(id="0123456789ab", label="grpo · full · seed 0", state="running", scores={}), **changes)  # type: ignore[arg-type]


def test_plain_display_prints_one_line_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay()
    display.show([row(state="waiting")])
    display.show([row(state="running", attempts=1)])
    display.show([row(state="running", attempts=1, step=3)])
    display.show([row(state="done", attempts=1, scores={"arithmetic": 0.5})])
    lines = [line.partition("Z ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "1 trials: 1 waiting",
        "0123456789ab running (attempt 1) · grpo · full · seed 0",
        "0123456789ab done: arithmetic 50.0 · grpo · full · seed 0",
    ]


def test_plain_display_gives_a_heartbeat_while_nothing_changes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.display.HEARTBEAT_S", 0.0)
    display = PlainDisplay()
    rows = [row(step=3, total=40, phase="update", reward=0.25, eta_s=200.0)]
    display.show(rows)
    display.show(rows)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("1 trials: 1 running | 0123456789ab update 3/40 reward 0.250 3m20s left")


def test_plain_display_repeats_what_the_driver_does_while_nothing_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.display.HEARTBEAT_S", 0.0)
    display = PlainDisplay()
    display.show([row(state="waiting")])
    display.say("preparing builtin:arithmetic-tiny")
    display.show([row(state="waiting")])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("1 trials: 1 waiting | preparing builtin:arithmetic-tiny")


def test_the_table_aligns_columns_and_shows_scores_in_percent() -> None:
    done = row(state="done", scores={"arithmetic": 0.4321}, step=6, total=6)
    busy = row(id="ba9876543210", label="base", phase="sample", step=10, total=640, unit="sample", reward=0.5)
    columns, _ = table_columns([done, busy])
    (block,) = lay_out(columns, width=100)
    assert [*block.heading, *(line for _, line in block.rows)] == [
        "trial         what                  state    arithmetic            step  reward  ETA  doing",
        "0123456789ab  grpo · full · seed 0  done           43.2             6/6",
        "ba9876543210  base                  running              10/640 samples   0.500       sample",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.4, "0s"), (59.4, "59s"), (200.0, "3m20s"), (7500.0, "2h05m")]
)
def test_durations_read_as_people_write_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_steps_name_their_unit_unless_they_are_training_steps() -> None:
    assert steps(row(step=3, total=40)) == "3/40"
    assert steps(row(step=3, total=40, unit="sample")) == "3/40 samples"
    assert steps(row()) == ""
    assert summary_line([]) == "no trials"


AXES = st.dictionaries(st.text("abc.", min_size=1, max_size=12), st.sampled_from([0.1, 1e-06, 16, "gmts"]), max_size=9)


@given(
    axes=st.lists(AXES, min_size=1, max_size=5),
    scores=st.dictionaries(st.sampled_from(["aime2024", "math500", "olympiadbench", "gsm8k"]), st.floats(0, 1)),
    failure=st.text("abc ", max_size=150).map(str.strip),
    width=st.integers(60, 200),
)
def test_a_status_loses_nothing_at_any_width(
    axes: list[dict[str, str | int | float]], scores: dict[str, float], failure: str, width: int
) -> None:
    rows = [
        row(id=f"{seed:012d}", label=label, seed=seed, axes=one, scores=scores, failure=failure, step=3, total=40)
        for seed, one in enumerate(axes)
        for label in [" · ".join([*map(str, one.values()), f"seed {seed}"])]
    ]
    columns, common = table_columns(rows)
    blocks = lay_out(columns, width=width)
    for number, one in enumerate(rows):
        shown = "\n".join(line for block in blocks for at, line in block.rows if at == number)
        assert f"seed {one.seed}" in shown
        assert all(str(value) in shown for axis, value in one.axes.items() if axis not in common)
        assert all(f"{100 * score:.1f}" in shown for score in scores.values())
        assert all(word in shown for word in (one.id, "running", "3/40", failure))
    assert all(common[axis] == value for one in axes for axis, value in one.items() if axis in common)


@pytest.mark.parametrize(("width", "height"), [(60, 12), (80, 24), (160, 40)])
def test_the_live_table_fits_the_screen_and_shows_the_urgent_first(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, height=height)
    live = Live(console=console, auto_refresh=False)
    rows = [row(id=f"{number:012d}", state="done", scores={"arithmetic": 0.5}) for number in range(50)]
    rows[40] = row(id="ba9876543210", state="failed", failure="RuntimeError: " + "out of memory " * 20)
    LiveDisplay(console, live).show(rows)
    lines = console.render_lines(live.renderable, pad=False)
    shown = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(shown) <= height
    assert any(line.startswith("ba9876543210") for line in shown)
    assert shown[-1].startswith("50 trials: 49 done, 1 failed (")
    assert sum(line.startswith("0") for line in shown) >= height / 4
