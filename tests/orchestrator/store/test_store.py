import contextlib
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.codec import encode
from orchestrator.errors import StoreError
from orchestrator.plan.trial import Trial
from orchestrator.store.files import write_atomically
from orchestrator.store.record import SCHEMA_VERSION, Attempt, Outcome, Status, new_record
from orchestrator.store.redact import now
from orchestrator.store.store import Store, TrialLocked
from orchestrator.trial.provenance import collect
from trainers.recipe import Model


def base_trial(trial_id: str = "0123456789ab") -> Trial:
    return Trial(
        id=trial_id,
        kind="base",
        model=Model(path="builtin:arithmetic-tiny"),
        recipe=None,
        seed=None,
        model_digest="digest",
        data_digest=None,
    )


def test_a_record_reads_back_equal(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    attempt = Attempt(
        number=1,
        started_at=now(),
        ended_at=now(),
        outcome=Outcome.DONE,
        seed=3,
        data_digest="d",
        provenance=collect(["orch", "sweep"]),
        phase_seconds={"sample": 1.5},
        peak_memory_mb=12.5,
    )
    record = new_record(base_trial(), at=now()).with_attempt(attempt, status=Status.DONE, at=now())
    store.write(record)
    assert store.read("0123456789ab") == record
    assert store.list() == (record,)
    assert [path.name for path in store.trial_folder("0123456789ab").iterdir()] == ["record.json"]


def test_a_folder_that_is_no_trial_is_not_listed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(new_record(base_trial(), at=now()))
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "models").mkdir()
    assert store.trial_ids() == ("0123456789ab",)
    assert Store(tmp_path / "absent").list() == ()


def test_reading_an_unknown_trial_names_the_folder_and_the_mend(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no trial feedfeedfeed") as raised:
        Store(tmp_path).read("feedfeedfeed")
    assert raised.value.where == str(tmp_path)
    assert "orch status" in raised.value.fix


def test_a_truncated_record_is_named_with_its_mend(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(new_record(base_trial(), at=now()))
    path = store.trial_folder("0123456789ab") / "record.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(StoreError, match="truncated or corrupt") as raised:
        store.list()
    assert raised.value.where == str(path)
    assert "move the file aside" in raised.value.fix


def test_no_bit_of_a_record_flips_unnoticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = new_record(base_trial(), at=now())
    store.write(record)
    path = store.trial_folder("0123456789ab") / "record.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with contextlib.suppress(StoreError):
            assert store.read("0123456789ab") == record, place
    path.write_bytes(whole)
    assert store.read("0123456789ab") == record


def test_a_record_from_before_there_were_seals_reads(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = new_record(base_trial(), at=now())
    path = store.trial_folder("0123456789ab") / "record.json"
    path.parent.mkdir()
    path.write_text(json.dumps(encode(record), indent=1))
    assert store.read("0123456789ab") == record


def test_a_damaged_line_of_metrics_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    file = store.attempt_folder("0123456789ab", 1) / "metrics.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"step": 1}\n{"step"; 2}\n{"step": 3}\n')
    assert store.metrics("0123456789ab") == [{"step": 1}, {"step": 3}]
    assert str(file) in caplog.text


def test_a_record_with_a_wrong_field_is_refused_with_its_place(tmp_path: Path) -> None:
    store = Store(tmp_path)
    payload = encode(new_record(base_trial(), at=now()))
    payload["trial"]["seed"] = "three"
    path = store.trial_folder("0123456789ab") / "record.json"
    path.parent.mkdir()
    path.write_text(json.dumps(payload))
    with pytest.raises(StoreError, match=r"trial\.seed: expected int"):
        store.read("0123456789ab")


def test_a_record_of_a_newer_orch_is_refused_with_its_mend(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(new_record(base_trial(), at=now()))
    path = store.trial_folder("0123456789ab") / "record.json"
    payload = {**json.loads(path.read_text()), "schema_version": SCHEMA_VERSION + 1, "new_field": 1}
    del payload["seal"]
    path.write_text(json.dumps(payload))
    with pytest.raises(StoreError, match="written by a newer orch: schema version 2, this one reads up to 1") as raised:
        store.read("0123456789ab")
    assert "upgrade orch" in raised.value.fix


def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from orchestrator.store.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomically(Path(sys.argv[1]), b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert "the disk of the runs folder is full" in done.stderr
    assert "free some space" in done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_no_space_left_is_told_apart_from_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(code: int) -> None:
        def fsync(handle: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.ENOSPC)
    with pytest.raises(StoreError, match="full"):
        write_atomically(tmp_path / "a", b"")
    refuse(errno.EROFS)
    with pytest.raises(StoreError, match="not writable") as raised:
        Store(tmp_path).check_writable()
    assert "--store" in raised.value.fix
    assert os.listdir(tmp_path) == []


def test_a_read_only_folder_is_refused() -> None:
    with pytest.raises(StoreError, match="not writable"):
        Store(Path("/sys/kernel/orch-runs")).check_writable()  # nobody may write there, not even root


def test_a_runs_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="does not work"):
        Store(tmp_path / "runs").check_writable()
    assert Store(tmp_path / "runs").find("0123456789ab") is None


def hold(root: Path, held: "multiprocessing.synchronize.Event", release: "multiprocessing.synchronize.Event") -> None:
    with Store(root).lock("0123456789ab"):
        held.set()
        release.wait(60)


def test_a_lock_is_exclusive_and_freed_by_the_death_of_its_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(60)
    store = Store(tmp_path)
    assert store.is_locked("0123456789ab")
    with pytest.raises(TrialLocked, match="0123456789ab is being worked on"), store.lock("0123456789ab"):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not store.is_locked("0123456789ab"), "of a dead process that its parent has not waited for"
    process.join()
    with store.lock("0123456789ab", timeout_s=5.0):
        assert store.is_locked("0123456789ab")
    assert not store.is_locked("0123456789ab")


def test_what_a_killed_writer_left_is_cleared_by_the_next_at_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(new_record(base_trial(), at=now()))
    leftover = store.trial_folder("0123456789ab") / ".record.json.77.abcd.tmp"
    leftover.write_text("{")
    with store.lock("0123456789ab"):
        assert not leftover.exists()


def test_a_forked_child_does_not_keep_a_dead_holders_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from orchestrator.store.store import Store\n"
        "with Store(Path(sys.argv[1])).lock('0123456789ab'):\n"
        "    child = os.fork()\n"
        "    if child == 0: time.sleep(60); os._exit(0)\n"
        "    print(child, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None
    with done.stdout as output:
        child = int(output.readline())
    done.wait()
    try:
        with Store(tmp_path).lock("0123456789ab", timeout_s=5.0):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_metrics_of_attempts_merge_without_doubles_and_without_a_cut_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = {1: [(1, "a"), (2, "a"), (3, "a")], 2: [(3, "b"), (4, "b")], 10: [(5, "c")]}
    for number, steps in rows.items():
        folder = store.attempt_folder("0123456789ab", number)
        folder.mkdir(parents=True)
        lines = [json.dumps({"step": step, "from": name}) + "\n" for step, name in steps]
        (folder / "metrics.jsonl").write_text("".join(lines))
    with (store.attempt_folder("0123456789ab", 10) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "fr')
    merged = [(row["step"], row["from"]) for row in store.metrics("0123456789ab")]
    assert merged == [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")]
    assert store.metrics("feedfeedfeed") == []


def test_the_log_tail_is_the_last_lines(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.attempt_folder("0123456789ab", 1).mkdir(parents=True)
    store.log_file("0123456789ab", 1).write_text("".join(f"line {number}\n" for number in range(5000)))
    assert store.log_tail("0123456789ab", 1, lines=3) == ("line 4997", "line 4998", "line 4999")
    assert store.log_tail("0123456789ab", 2) == ()


def test_the_beginning_of_an_id_names_a_trial_when_it_is_unique(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for trial_id in ("0123456789ab", "0173456789ab"):
        store.write(new_record(base_trial(trial_id), at=now()))
    assert store.complete_id("012") == "0123456789ab"
    with pytest.raises(StoreError, match="2 trials begin with 01"):
        store.complete_id("01")
    with pytest.raises(StoreError, match="no trial ff"):
        store.complete_id("ff")


def test_a_thousand_records_list_in_the_order_of_their_ids(tmp_path: Path) -> None:
    store = Store(tmp_path)
    text = json.dumps(encode(new_record(base_trial(), at=now())))
    for number in range(1000):
        trial_id = f"{number:012x}"
        store.trial_folder(trial_id).mkdir()
        (store.trial_folder(trial_id) / "record.json").write_text(text.replace("0123456789ab", trial_id))
    records = store.list()
    assert [record.trial.id for record in records] == [f"{number:012x}" for number in range(1000)]


def test_a_phase_total_sums_over_attempts() -> None:
    attempt = Attempt(
        number=1, started_at=now(), seed=None, data_digest=None, provenance=collect([]), phase_seconds={"sample": 1.0}
    )
    record = new_record(base_trial(), at=now()).with_attempt(attempt, status=Status.RUNNING, at=now())
    second = replace(attempt, number=2, phase_seconds={"sample": 2.0, "update": 4.0}, peak_memory_mb=7.0)
    record = record.with_attempt(second, status=Status.RUNNING, at=now())
    assert record.phase_seconds == {"sample": 3.0, "update": 4.0}
    assert record.peak_memory_mb == 7.0
