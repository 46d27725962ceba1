import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab
from textual.pilot import Pilot
from textual.widgets import DataTable, Log, Static
from typer.testing import CliRunner

from orchestrator.cli import app as command
from orchestrator.cli.watch_app import Confirm, WatchApp
from orchestrator.status.curves import SweepWatch, TrialWatch, bars, steps_per_s
from orchestrator.status.rows import SweepView, TrialRow
from orchestrator.store.progress import FileTail, ProgressWriter
from orchestrator.store.record import Outcome, Status
from orchestrator.store.redact import now
from orchestrator.store.requests import Requests
from orchestrator.store.store import Store
from orchestrator.trial.attempt import run_trial

Steps = Callable[[WatchApp, "Pilot[None]"], Awaitable[None]]


def watched(lab: Lab, seeds: list[int | None]) -> WatchApp:
    trials = [lab.planned(seed) for seed in seeds]
    view = SweepView(lab.store, trials, data_folder=None)
    requests = Requests(lab.store.root, now=now)
    # The interval is longer than any test: tests refresh by hand.
    return WatchApp(["test"], lab.store, watch=SweepWatch(lab.store, view), requests=requests, interval_s=3600.0)


def play(lab: Lab, seeds: list[int | None], steps: Steps) -> None:
    """Open the screen on some trials and do what a user would."""

    async def run() -> None:
        app = watched(lab, seeds)
        async with app.run_test(size=(160, 40)) as pilot:
            await until(pilot, lambda: app.query_one(DataTable).row_count == len(seeds))
            await steps(app, pilot)

    asyncio.run(run())


async def until(pilot: "Pilot[None]", condition: Callable[[], bool]) -> None:
    """Wait for what a thread of the screen is reading."""
    while not condition():
        await pilot.pause(0.01)


def column(app: WatchApp, name: str) -> list[str]:
    return [str(cell) for cell in app.query_one(DataTable).get_column(name)]


def text(app: WatchApp, selector: str) -> str:
    return str(app.query_one(selector, Static).render())


def run_some(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Base and seed 0 done, seed 1 failed; seed 2 waits."""
    monkeypatch.setenv("FAKE_FAIL", "1@3")
    for seed in (None, 0, 1):
        run_trial(lab.planned(seed), lab.store, context=lab.context())


def test_the_screen_shows_trials_summary_curves_and_log(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run_some(lab, monkeypatch)

    async def steps(app: WatchApp, pilot: "Pilot[None]") -> None:
        assert column(app, "state") == ["done", "done", "failed", "waiting"]
        assert column(app, "arm") == ["base", "full", "full", "full"]
        assert column(app, "seed") == ["", "0", "1", "2"]
        assert column(app, "doing")[2] == "RuntimeError: asked to fail at step 3"
        assert "4 trials: 2 done, 1 waiting, 1 failed" in text(app, "#summary")
        assert "8/18 steps" in text(app, "#summary")
        await pilot.press("down")
        await until(pilot, lambda: any("ends: done" in line for line in app.query_one(Log).lines))
        rewards = [row["reward/mean"] for row in lab.store.metrics(lab.planned(0).trial.id)]
        heading = text(app, "#reward").splitlines()[0]
        assert heading == f"reward {rewards[-1]:.3g}  ({min(rewards):.3g} – {max(rewards):.3g}, step 6)"
        assert text(app, "#entropy") == "entropy: nothing yet"

    play(lab, [None, 0, 1, 2], steps)


def test_a_trial_that_moves_changes_its_own_cells_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run_some(lab, monkeypatch)

    async def steps(app: WatchApp, pilot: "Pilot[None]") -> None:
        table = app.query_one(DataTable)
        changed: list[tuple[str, str]] = []
        update = table.update_cell
        monkeypatch.setattr(
            table, "update_cell", lambda key, name, *a, **k: changed.append((key, name)) or update(key, name, *a, **k)
        )
        await app.refresh_sweep()
        assert changed == []
        planned = lab.planned(2)
        run_trial(planned, lab.store, context=lab.context())
        await app.refresh_sweep()
        assert {key for key, _ in changed} == {planned.trial.id}
        assert column(app, "state")[3] == "done"

    play(lab, [None, 0, 1, 2], steps)


def test_keys_give_the_orders_and_cancelling_asks_first(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run_some(lab, monkeypatch)
    requests = Requests(lab.store.root, now=now)
    waiting, failed = lab.planned(2).trial.id, lab.planned(1).trial.id

    async def steps(app: WatchApp, pilot: "Pilot[None]") -> None:
        await pilot.press("down", "down", "down", "p")
        assert requests.of(waiting).hold == "paused"
        await app.refresh_sweep()
        assert column(app, "state")[3] == "paused"
        await pilot.press("r", "plus", "plus", "minus")
        assert (requests.of(waiting).hold, requests.of(waiting).priority) == (None, 1)
        await pilot.press("c")
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        await pilot.press("n")
        await pilot.pause()
        assert requests.of(waiting).hold is None
        await pilot.press("c", "y")
        await pilot.pause()
        assert requests.of(waiting).hold == "cancelled"
        await pilot.press("up", "a")
        assert requests.of(failed).is_due(1)
        await pilot.press("d", "y")
        await pilot.pause()
        assert requests.draining("test") is not None

    play(lab, [None, 0, 1, 2], steps)


def test_the_filter_hides_what_is_done_and_keeps_the_cursor(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run_some(lab, monkeypatch)

    async def steps(app: WatchApp, pilot: "Pilot[None]") -> None:
        await pilot.press("down", "down", "f")
        await until(pilot, lambda: "unfinished only" in text(app, "#summary"))
        assert column(app, "state") == ["failed", "waiting"]
        assert app.query_one(DataTable).cursor_row == 0
        await pilot.press("f")
        await until(pilot, lambda: column(app, "state") == [])
        await pilot.press("f")
        await until(pilot, lambda: len(column(app, "state")) == 4)

    play(lab, [None, 0, 1, 2], steps)


def test_a_record_that_does_not_read_is_told_and_the_screen_stays(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run_some(lab, monkeypatch)

    async def steps(app: WatchApp, pilot: "Pilot[None]") -> None:
        (lab.store.trial_folder(lab.planned(0).trial.id) / "record.json").write_text("{")
        await app.refresh_sweep()
        assert "truncated or corrupt" in text(app, "#summary")
        assert len(column(app, "state")) == 4

    play(lab, [None, 0, 1, 2], steps)


def test_a_running_trial_shows_its_pace_and_what_it_occupies(lab: Lab) -> None:
    planned = lab.planned(0)
    record = run_trial(planned, lab.store, context=lab.context())
    ghost = replace(record.attempts[0], outcome=Outcome.RUNNING, ended_at=None)
    lab.store.write(replace(record, attempts=(ghost,), status=Status.RUNNING, train=None, scores=()))
    writer = ProgressWriter(lab.store.progress_file(planned.trial.id), attempt=1, now=now)
    with writer.heartbeat():
        writer.enter("update", step=2, total=6)
    file = lab.store.progress_file(planned.trial.id)
    file.write_text(json.dumps({**json.loads(file.read_text()), "eta_s": 8.0, "reward": 0.25}))
    trials = [planned, lab.planned(1)]
    watch = SweepWatch(lab.store, SweepView(lab.store, trials, data_folder=None))

    async def steps(app: WatchApp, pilot: "Pilot[None]") -> None:
        assert (column(app, "steps/min")[0], column(app, "ETA")[0], column(app, "reward")[0]) == ("30.0", "8s", "0.250")
        assert "20s left at this pace" in text(app, "#summary")
        assert "0 GPUs, 1 CPUs" in text(app, "#summary")

    with lab.store.lock(planned.trial.id):
        snapshot = watch.snapshot()
        assert steps_per_s(snapshot.rows[0]) == 0.5
        assert (snapshot.steps_done, snapshot.steps_total, snapshot.num_cpus, snapshot.num_gpus) == (2, 12, 1, 0)
        assert snapshot.eta_s == 20.0
        play(lab, [0, 1], steps)


def test_only_training_has_a_pace() -> None:
    row = TrialRow(id="0123456789ab", label="x", state="running", step=2, total=6, eta_s=8.0, scores={})
    assert steps_per_s(row) == 0.5
    assert [steps_per_s(replace(row, unit="sample")), steps_per_s(replace(row, eta_s=None))] == [None, None]
    assert steps_per_s(replace(row, state="interrupted")) is None


def test_a_trial_is_followed_through_its_attempts(lab: Lab) -> None:
    trial_id = lab.planned(0).trial.id
    for number, steps in ((1, (1, 2, 3)), (2, (3, 4))):
        folder = lab.store.attempt_folder(trial_id, number)
        folder.mkdir(parents=True)
        rows = [{"step": step, "reward/mean": step + number / 10} for step in steps]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "train.log").write_text(f"attempt {number}\nunfini")
    watch = TrialWatch(lab.store, trial_id)
    assert watch.read() == (True, ["attempt 2"])
    assert watch.curves["reward"] == {1: 1.1, 2: 2.1, 3: 3.2, 4: 4.2}
    assert watch.read() == (False, [])
    with lab.store.log_file(trial_id, 2).open("a") as log:
        log.write("shed\n")
    with lab.store.metrics_file(trial_id, 2).open("a") as metrics:
        metrics.write('{"step": 5, "reward/mean": 5.5}\n{"step": 6, "rew')
    assert watch.read() == (True, ["unfinished"])
    assert max(watch.curves["reward"]) == 5


def test_a_tail_reads_what_is_added_and_begins_anew_after_a_cut(tmp_path: Path) -> None:
    file = tmp_path / "log"
    tail = FileTail(file)
    assert tail.read_lines() == []
    file.write_bytes("één\ntw".encode())
    assert tail.read_lines() == ["één"]
    with file.open("ab") as log:
        log.write("ë\n".encode()[:1])
    assert tail.read_lines() == []
    with file.open("ab") as log:
        log.write("ë\n".encode()[1:])
    assert tail.read_lines() == ["twë"]
    file.write_text("anew\n")
    assert tail.read_lines() == ["anew"]
    assert FileTail(file, last_bytes=2).read() == "w\n"


def test_a_curve_is_drawn_in_blocks_from_low_to_high() -> None:
    assert bars([0.0, 1.0], width=10, height=1) == ["▁█"]
    assert bars([0.0, 0.5, 1.0], width=10, height=2) == [" ▁█", "▁██"]
    assert bars([2.0, 2.0], width=10, height=1) == ["▄▄"]
    assert bars([0.0, 0.0, 1.0, 1.0], width=2, height=1) == ["▁█"]
    assert bars([], width=10, height=3) == []


def test_hundreds_of_trials_that_rest_are_neither_read_nor_drawn_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lab.planned(0)
    record = run_trial(first, lab.store, context=lab.context())
    trials = [first, *(replace(first, trial=replace(first.trial, id=f"{number:012x}")) for number in range(199))]
    monkeypatch.setattr("os.fsync", lambda handle: None)  # not worth waiting for a disk
    for planned in trials[1:]:
        lab.store.write(replace(record, trial=planned.trial))
    view = SweepView(lab.store, trials, data_folder=None)
    app = WatchApp(
        ["test"],
        lab.store,
        watch=SweepWatch(lab.store, view),
        requests=Requests(lab.store.root, now=now),
        interval_s=3600.0,
    )

    async def run() -> None:
        async with app.run_test(size=(160, 40)) as pilot:
            await until(pilot, lambda: app.query_one(DataTable).row_count == 200)
            read: list[str] = []
            find = Store.find
            monkeypatch.setattr(Store, "find", lambda self, name: read.append(name) or find(self, name))
            drawn: list[str] = []
            monkeypatch.setattr(DataTable, "update_cell", lambda self, key, *a, **k: drawn.append(key))
            await app.refresh_sweep()
            assert (read, drawn) == ([], [])

    asyncio.run(run())


def test_without_a_terminal_it_says_what_to_use_instead(lab: Lab) -> None:
    lab.store.plans.save(lab.plan([0]))
    done = CliRunner().invoke(command, ["watch", "test", "--store", str(lab.store.root)])
    assert done.exception is not None
    assert "needs a terminal" in str(done.exception)
