"""gc removes what its policy names and nothing that a table, a verification or a resume needs; not under a worker."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from kept_sweep import EXPERIMENT, Kept, add_checkpoint
from lab import Lab
from typer.testing import CliRunner

from orchestrator.archive.gc import KeepRule, Removal, removable, remove
from orchestrator.archive.verify import verify_sweep
from orchestrator.cli import app
from orchestrator.store.record import Status
from orchestrator.store.store import Store
from orchestrator.trial.attempt import run_trial
from trainers.models.tiny_spec import ARITHMETIC_TINY

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def orch(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def found(store: Store, policy: KeepRule | None = None) -> list[Removal]:
    return removable(store, policy or KeepRule(), cache_folder=store.root / "models")


def names(removals: list[Removal]) -> list[str]:
    return [one.path.name for one in removals]


def age(path: Path) -> None:
    for each in (path, *path.rglob("*")):
        os.utime(each, (10**9, 10**9), follow_symlinks=False)


def test_a_finished_sweep_has_nothing_to_remove(kept: Kept) -> None:
    assert found(kept.store) == []
    assert orch("gc", "--store", kept.store.root) == "nothing to remove\n"


def test_the_last_the_best_and_every_so_many_checkpoints_stay(kept: Kept) -> None:
    checkpoints = kept.trial_folder(1) / "checkpoints"
    for step in (1, 2, 3, 4, 5):
        add_checkpoint(checkpoints, step)
    record = kept.store.read(kept.plan.entries[1].trial.id)
    early = replace(record.scores[0], step=2, avg=1.0, key="0" * 12)
    kept.store.write(replace(record, scores=(*record.scores, early)))
    assert names(found(kept.store)) == [f"step-0000000{step}" for step in (4, 3, 1)]
    assert names(found(kept.store, KeepRule(keep_every=3))) == [f"step-0000000{step}" for step in (4, 1)]
    assert names(found(kept.store, KeepRule(keep_last=0))) == [f"step-0000000{step}" for step in (5, 4, 3, 1)]


def test_checkpoints_of_what_is_to_go_on_stay(kept: Kept) -> None:
    record = kept.store.read(kept.plan.entries[1].trial.id)
    kept.store.write(replace(record, train=None, status=Status.STOPPED))
    for step in (1, 2, 3):
        add_checkpoint(kept.trial_folder(1) / "checkpoints", step)
    assert found(kept.store, KeepRule(keep_last=0)) == []


def test_logs_of_earlier_attempts_of_a_finished_trial_go_and_metrics_stay(kept: Kept) -> None:
    attempts = kept.trial_folder(1) / "attempts"
    shutil.copytree(attempts / "1", attempts / "2")
    before = kept.store.metrics(kept.plan.entries[1].trial.id)
    (log,) = found(kept.store)
    assert (log.kind, log.path, log.num_bytes) == ("log", attempts / "1" / "train.log", log.path.stat().st_size)
    remove([log], kept.store)
    assert kept.store.metrics(kept.plan.entries[1].trial.id) == before
    failed = replace(kept.store.read(kept.plan.entries[2].trial.id), status=Status.FAILED)
    shutil.copytree(kept.trial_folder(2) / "attempts" / "1", kept.trial_folder(2) / "attempts" / "2")
    kept.store.write(failed)
    assert found(kept.store) == []


def test_built_models_that_nothing_names_go_and_a_users_own_stay(kept: Kept) -> None:
    models = kept.store.root / "models"
    present = f"{ARITHMETIC_TINY.name}-{ARITHMETIC_TINY.digest[:12]}"
    for name in (present, f"{ARITHMETIC_TINY.name}-{'0' * 12}", f"my-model-{'0' * 12}", "qwen"):
        (models / name).mkdir(parents=True)
        (models / name / "model.safetensors").write_bytes(b"12345")
    assert sorted(names(found(kept.store))) == [f"{ARITHMETIC_TINY.name}-{'0' * 12}", present]
    (kept.store.root / "evaluations" / "0" / "eval").mkdir(parents=True)
    (kept.store.root / "evaluations" / "0" / "model.json").write_text("{}")
    (model,) = found(kept.store)
    assert (model.kind, model.num_bytes) == ("model", 5)
    remove([model], kept.store)
    assert sorted(path.name for path in models.iterdir() if path.is_dir()) == sorted(
        [present, f"my-model-{'0' * 12}", "qwen"]
    )


def test_what_killed_writers_left_goes_after_an_hour(kept: Kept) -> None:
    root, trial = kept.store.root, kept.trial_folder(1)
    (score,) = trial.glob("eval/*/score.json")
    leftovers = [
        root / "sweeps" / ".kept.json.7.ab.tmp",
        trial / ".record.json.7.ab.tmp",
        trial / "checkpoints" / ".partial-final",
        score.with_name(".score.json.x1"),
        root / ".import-x",
    ]
    for path in leftovers:
        if path.suffix in (".tmp", ".x1"):
            path.write_text("{")
        else:
            path.mkdir()
            (path / "half").write_text("12")
    assert found(kept.store) == []
    for path in leftovers:
        age(path)
    assert {one.path for one in found(kept.store)} == set(leftovers)
    gone, at_work = remove(found(kept.store), kept.store)
    assert (len(gone), at_work, sum(one.num_bytes for one in gone)) == (5, [], 7)
    assert not any(path.exists() for path in leftovers)


def test_unplanned_trials_go_only_when_asked_for(kept: Kept) -> None:
    kept.store.plans.save(replace(kept.plan, entries=kept.plan.entries[:2]))
    dropped = kept.trial_folder(2)
    assert found(kept.store) == []
    (one,) = found(kept.store, KeepRule(with_unplanned=True))
    assert (one.kind, one.path) == ("unplanned", dropped)
    kept.store.plans.save(kept.plan)
    assert remove([one], kept.store) == ([], [one])
    kept.store.plans.save(replace(kept.plan, entries=kept.plan.entries[:2]))
    assert remove([one], kept.store) == ([one], [])
    assert not dropped.exists()
    assert len(kept.store.trial_ids()) == 2


def test_a_trial_at_work_is_left_alone(kept: Kept) -> None:
    trial_id = kept.plan.entries[1].trial.id
    for step in (1, 2):
        add_checkpoint(kept.store.checkpoint_folder(trial_id), step)
    removals = found(kept.store)
    assert names(removals) == ["step-00000001"]
    with kept.store.lock(trial_id):
        assert found(kept.store) == []
        assert remove(removals, kept.store) == ([], removals)
    assert remove(removals, kept.store) == (removals, [])


def test_the_command_says_what_would_go_and_then_removes_it(kept: Kept) -> None:
    folder = add_checkpoint(kept.trial_folder(1) / "checkpoints", 1, b"x" * 2048)
    add_checkpoint(kept.trial_folder(1) / "checkpoints", 2)
    num_bytes = sum(path.stat().st_size for path in folder.iterdir())
    table = orch("table", EXPERIMENT, "--format", "json", "--store", kept.store.root)
    said = orch("gc", "--store", kept.store.root)
    assert f"would remove  checkpoint    2.1 KiB  {folder}" in said
    assert "1 things, 2.1 KiB; nothing was removed" in said
    assert folder.exists()
    report = json.loads(orch("gc", "--yes", "--json", "--store", kept.store.root))
    assert (report["is_removed"], report["num_bytes"], report["kept_at_work"]) == (True, num_bytes, [])
    assert not folder.exists()
    assert orch("table", EXPERIMENT, "--format", "json", "--store", kept.store.root) == table
    assert verify_sweep(kept.store, EXPERIMENT, data_folder=None).findings == []


def test_after_gc_a_stopped_trial_still_goes_on_from_its_checkpoint(lab: Lab) -> None:
    planned = replace(lab.planned(0))
    polls = iter([False] * 3)
    stopped = run_trial(planned, lab.store, context=lab.context(should_stop=lambda: next(polls, True)))
    assert stopped.status is Status.STOPPED
    lab.store.plans.save(lab.plan([0]))
    remove(found(lab.store, KeepRule(keep_last=0)), lab.store)
    assert run_trial(planned, lab.store, context=lab.context()).status is Status.DONE
    steps = [row["step"] for row in lab.store.metrics(planned.trial.id)]
    assert steps == list(range(1, 7))
    assert len((lab.store.attempt_folder(planned.trial.id, 2) / "metrics.jsonl").read_text().splitlines()) < 6
