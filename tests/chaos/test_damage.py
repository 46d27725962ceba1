"""Files cut short or with a flipped bit: healed, or named with the fix; nothing that was done is lost or doubled."""

import json
import shutil
from collections import Counter
from pathlib import Path
from random import Random
from typing import Literal

import pytest
from arena import Arena
from fingerprint import assert_same, mirrored, scores, table_of

Harm = Literal["cut short", "flipped"]
SLOW = pytest.mark.slow


def harm(file: Path, how: Harm, dice: Random) -> str:
    """Damage a file; where."""
    content = bytearray(file.read_bytes())
    place = dice.randrange(len(content))
    if how == "flipped":
        content[place] ^= 1 << dice.randrange(8)
        file.write_bytes(content)
    else:
        file.write_bytes(content[:place])
    return f"{file.name} {how} at byte {place} of {len(content)}"


def pick(arena: Arena, pattern: str, dice: Random) -> Path:
    return dice.choice(sorted(arena.runs.glob(pattern)))


@pytest.mark.parametrize("how", ["flipped", pytest.param("cut short", marks=SLOW)])
def test_a_damaged_record_is_named_and_made_anew_from_what_lies_beside_it(
    undisturbed: Arena, copied: Arena, dice: Random, tally: Counter[str], how: Harm
) -> None:
    file = pick(copied, "*/record.json", dice)
    where = harm(file, how, dice)
    assert copied.sweep("--scheduler", "inline", "--no-mlflow") == 2, where
    assert str(file) in copied.tail(), where
    assert "move the file aside" in copied.tail()
    file.rename(file.with_suffix(".aside"))
    assert copied.sweep("--scheduler", "inline", "--no-mlflow") == 0, copied.tail()
    assert_same(copied, undisturbed, is_mirrored=False)
    tally[f"files {how}"] += 1


@pytest.mark.parametrize("how", ["cut short", pytest.param("flipped", marks=SLOW)])
def test_a_damaged_plan_is_written_anew(
    undisturbed: Arena, copied: Arena, dice: Random, tally: Counter[str], how: Harm
) -> None:
    file = copied.runs / "sweeps" / "smoke.json"
    whole = file.read_bytes()
    where = harm(file, how, dice)
    told = copied.call("status", "smoke")
    assert told.returncode == 2, where
    assert str(file) in told.stderr
    assert copied.sweep("--no-mlflow") == 0, copied.tail()
    assert file.read_bytes() == whole, where
    assert_same(copied, undisturbed, is_mirrored=False)
    tally[f"files {how}"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut short", "flipped"])
@pytest.mark.parametrize("pattern", ["*/progress.json", "mlflow/smoke.json"])
def test_a_damaged_view_is_passed_over(
    undisturbed: Arena, copied: Arena, dice: Random, tally: Counter[str], how: Harm, pattern: str
) -> None:
    shutil.copy(undisturbed.root / "mlflow.db", copied.root / "mlflow.db")
    assert copied.call("sync", "smoke", "--tracking-uri", copied.uri).returncode == 0
    before = mirrored(copied.root / "mlflow.db")
    where = harm(pick(copied, pattern, dice), how, dice)
    assert copied.sweep() == 0, f"{where}\n{copied.tail()}"
    assert "nothing to do" in copied.tail()
    assert mirrored(copied.root / "mlflow.db") == before, where
    assert_same(copied, undisturbed, is_mirrored=False)
    tally[f"files {how}"] += 1


@pytest.mark.parametrize("how", ["flipped", pytest.param("cut short", marks=SLOW)])
@pytest.mark.parametrize("name", ["state.pt", pytest.param("manifest.json", marks=SLOW)])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(
    undisturbed: Arena, copied: Arena, dice: Random, tally: Counter[str], how: Harm, name: str
) -> None:
    checkpoint = max(pick(copied, "*/checkpoints/step-*", dice).parent.glob("step-*"))
    trial = checkpoint.parent.parent
    record = json.loads((trial / "record.json").read_text())
    (trial / "record.json").unlink()
    shutil.rmtree(trial / "eval")
    shutil.rmtree(trial / "checkpoints" / "final")
    where = harm(checkpoint / name, how, dice)
    assert copied.sweep("--scheduler", "inline", "--no-mlflow") == 0, f"{where}\n{copied.tail()}"
    assert_same(copied, undisturbed, is_mirrored=False)
    again = json.loads((trial / "record.json").read_text())
    assert again["attempts"][-1]["number"] == record["attempts"][-1]["number"] + 1
    tally[f"files {how}"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut short", "flipped"])
@pytest.mark.parametrize("name", ["samples.jsonl", "score.json"])
def test_damaged_samples_and_scores_are_derived_again_when_a_record_is(
    undisturbed: Arena, copied: Arena, dice: Random, tally: Counter[str], how: Harm, name: str
) -> None:
    file = pick(copied, f"*/eval/*/{name}", dice)
    if name == "samples.jsonl":  # a letter of a text that changes says nothing: docs/reliability.md
        (file.parent / "score.json").unlink()
        lines = file.read_bytes().splitlines(keepends=True)
        number = dice.randrange(len(lines))
        file.write_bytes(b"".join(lines[:number]) + lines[number][: len(lines[number]) // 2])
        if how == "flipped":
            file.write_bytes(b"".join([*lines[:number], b"\xff" + lines[number][1:], *lines[number + 1 :]]))
    else:
        file.write_bytes(file.read_bytes()[: dice.randrange(file.stat().st_size)])
    trial = file.parents[2]
    (trial / "record.json").unlink()
    status = copied.sweep("--scheduler", "inline", "--no-mlflow")
    if status:
        assert str(file) in copied.tail(), copied.tail()
        file.unlink()
        assert copied.sweep("--scheduler", "inline", "--no-mlflow") == 0, copied.tail()
    assert scores(trial) == scores(undisturbed.runs / trial.name)
    assert table_of(copied) == table_of(undisturbed)
    tally[f"files {how}"] += 1
