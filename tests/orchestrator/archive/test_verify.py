"""Everything that a table rests on is made again; each kind of damage is found and names its file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kept_sweep import EXPERIMENT, Kept, add_checkpoint, flip
from typer.testing import CliRunner

from eval.graders.registry import open_grader
from orchestrator.archive.regrade import regrade_all
from orchestrator.archive.verify import Verification, verify_sweep
from orchestrator.cli import app
from orchestrator.codec import encode
from orchestrator.store.files import write_json

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def verify(kept: Kept) -> Verification:
    return verify_sweep(kept.store, EXPERIMENT, data_folder=None)


def samples_file(kept: Kept) -> Path:
    (file,) = kept.trial_folder(1).glob("eval/*/samples.jsonl")
    return file


def found(verification: Verification) -> list[tuple[str, str]]:
    return [(Path(one.where).name, one.what) for one in verification.differences]


def test_an_untouched_sweep_verifies_whole(kept: Kept) -> None:
    verification = verify(kept)
    assert verification.findings == []
    counts = (verification.num_trials, verification.num_scores, verification.num_samples, verification.num_checkpoints)
    assert counts == (3, 3, 30, 2)


def test_a_flipped_verdict_is_graded_again(kept: Kept) -> None:
    file = samples_file(kept)
    lines = file.read_text().splitlines()
    row = json.loads(lines[0])
    row["grade"]["is_correct"] = was_right = not row["grade"]["is_correct"]
    file.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    stored, now = ("right", "wrong") if was_right else ("wrong", "right")
    place = f"{row['problem']}, sample {row['index']}"
    assert found(verify(kept)) == [(file.parent.name, f"{place}: stored as {stored}, graded {now}")]


def test_a_flipped_bit_of_a_completion_is_found_though_no_verdict_turns(kept: Kept) -> None:
    file = samples_file(kept)
    flip(file, file.read_bytes().index(b"boxed{wrong") + len(b"boxed{"))
    ((name, what),) = found(verify(kept))
    assert name == file.parent.name
    assert what.startswith("samples_digest is ")


def test_a_missing_or_garbled_line_of_samples_is_counted(kept: Kept) -> None:
    file = samples_file(kept)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["{" + lines[0], *lines[2:]]) + "\n")
    assert found(verify(kept)) == [(file.parent.name, "2 of 10 samples are missing")]


def test_a_score_that_its_samples_do_not_give_is_told_field_by_field(kept: Kept) -> None:
    file = samples_file(kept).with_name("score.json")
    score = json.loads(file.read_text())
    average = score["avg"]
    file.write_text(json.dumps(score | {"avg": 0.95, "mean_tokens": 7.0}))
    assert found(verify(kept)) == [
        (file.parent.name, f"avg is 0.95, its samples give {average}"),
        (file.parent.name, "mean_tokens is 7.0, its samples give 5.0"),
        ("record.json", f"bench0: avg is {average}, its score.json says 0.95"),
        ("record.json", "bench0: mean_tokens is 5.0, its score.json says 7.0"),
    ]


def test_a_record_that_was_written_anew_with_another_number_is_found(kept: Kept) -> None:
    record = kept.store.read(kept.plan.entries[1].trial.id)
    raised = replace(
        record.scores[0], avg=record.scores[0].avg + 0.1, settings=replace(record.scores[0].settings, seed=7)
    )
    write_json(kept.trial_folder(1) / "record.json", encode(replace(record, scores=(raised,))))
    names = [(name, what.split(" is ")[0].split(";")[0]) for name, what in found(verify(kept))]
    assert names == [("record.json", f"bench0: {part}") for part in ("its key", "settings", "avg")]


@pytest.mark.parametrize("name", ["record.json", "recipe.json"])
def test_a_flipped_bit_of_a_sealed_file_is_found(kept: Kept, name: str) -> None:
    flip(kept.trial_folder(1) / name, 400)
    assert [file for file, _ in found(verify(kept))] == [name]


def test_a_trial_under_a_name_that_is_not_its_own_is_found(kept: Kept) -> None:
    planned, other = kept.plan.entries[1], "0123456789ab"
    kept.trial_folder(1).rename(kept.store.trial_folder(other))
    kept.store.plans.save(replace(kept.plan, entries=(replace(planned, trial=replace(planned.trial, id=other)),)))
    differences = found(verify(kept))
    assert {name for name, _ in differences} == {"kept.json", "record.json", "recipe.json"}
    assert f"and its recipe, seed and digests give {planned.trial.id}" in dict(differences)["recipe.json"]
    assert sum("the plan's digest is" in what for _, what in differences) == 1


def test_damaged_checkpoints_and_policies_are_named(kept: Kept) -> None:
    checkpoints = kept.trial_folder(1) / "checkpoints"
    flip(add_checkpoint(checkpoints, 6) / "state.pt", 3)
    flip(checkpoints / "policy" / "state.json", 12)
    (add_checkpoint(checkpoints, 4) / "manifest.json").write_text("{")
    assert found(verify(kept)) == [
        ("state.json", "its content is not what was written"),
        ("manifest.json", "its content is not what was written"),
        ("state.pt", "its content is not what was written"),
    ]


def test_what_cannot_be_made_again_here_is_said_and_no_difference(kept: Kept) -> None:
    absent = kept.benchmark.with_name("absent.jsonl")
    kept.benchmark.rename(absent)
    try:
        unchecked = verify(kept).findings
    finally:
        absent.rename(kept.benchmark)
    assert [one.kind for one in unchecked] == ["unchecked"] * 3
    assert unchecked[0].what == "the questions of bench0 are not on this machine: verdicts as stored"


def test_verdicts_of_another_grader_are_taken_as_stored(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.graders.ours.grader_version", lambda: "f" * 12)
    findings = verify(kept).findings
    assert [one.kind for one in findings] == ["unchecked"] * 3
    assert "here is ffffffffffff" in findings[0].what


def test_scores_of_another_grader_are_made_again_by_it(kept: Kept) -> None:
    trial = kept.plan.entries[1].trial.id
    (change,) = regrade_all(
        kept.store, trial, data_folder=None, cache_folder=kept.store.root / "models", grader=open_grader("qwen")
    )
    verification = verify(kept)
    assert (verification.findings, verification.num_scores) == ([], 4)
    entry = kept.store.read(trial).scores[-1]
    assert entry.grader_version == change.after.grader_version
    file = kept.store.eval_folder(trial, entry.key) / "samples.jsonl"
    lines = file.read_text().splitlines()
    row = json.loads(lines[0])
    row["grade"]["is_correct"] = was_right = not row["grade"]["is_correct"]
    file.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    ((name, what),) = found(verify(kept))
    assert name == entry.key
    assert what.endswith("stored as right, graded wrong" if was_right else "stored as wrong, graded right")


def test_the_command_lists_differences_down_to_the_cell_and_exits_1(kept: Kept) -> None:
    def orch(*more: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["verify", "--store", str(kept.store.root), *more])
        return result.exit_code, result.stdout

    assert orch() == (0, "kept: 3 trials, 3 scores of 30 samples, 2 checkpoints: 0 differences, 0 unchecked\n")
    file = samples_file(kept).with_name("score.json")
    score = json.loads(file.read_text())
    wrong = next(name for name, verdicts in score["per_problem"].items() if verdicts == [0, 0])
    score["per_problem"][wrong] = [1, 1]
    file.write_text(json.dumps(score))
    code, printed = orch(EXPERIMENT)
    assert code == 1
    assert f"difference: {file.parent}: verdicts of {wrong} are [1, 1], its samples give [0, 0]" in printed
    assert "difference: orch table kept: row 2, bench0/" in printed
    code, printed = orch(EXPERIMENT, "--json")
    assert code == 1
    assert {one["kind"] for one in json.loads(printed)[0]["findings"]} == {"difference"}
    (kept.trial_folder(1) / "record.json").write_text("{")
    code, printed = orch(EXPERIMENT)
    assert code == 1
    assert "orch table kept: cannot be made: a file is truncated or corrupt" in printed
