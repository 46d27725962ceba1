from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch

from eval.errors import OrchError
from trainers.checkpoints import export_final
from trainers.lite.checkpoint import load_newest, save_checkpoint
from trainers.recipe import Resources


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((3,), float(step)), "nested": {"rng": torch.arange(4)}}


def save(folder: Path, *steps: int, keep: int = 9) -> None:
    for step in steps:
        save_checkpoint(folder, step, state(step), Resources(keep_checkpoints=keep))


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    save(tmp_path / "checkpoints", 3)
    loaded = load_newest(tmp_path / "checkpoints")
    assert loaded is not None
    assert loaded["step"] == 3
    assert torch.equal(loaded["weights"], torch.full((3,), 3.0))
    assert torch.equal(loaded["nested"]["rng"], torch.arange(4))


def test_nothing_saved_means_a_start_from_nothing(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "checkpoints") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert steps(tmp_path) == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no manifest", "bad manifest", "no state"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002"
    content = (newest / "state.pt").read_bytes()
    if damage == "truncated":
        (newest / "state.pt").write_bytes(content[:-100])
    elif damage == "flipped":
        (newest / "state.pt").write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "bad manifest":
        (newest / "manifest.json").write_text('{"format": 1')
    else:
        (newest / "state.pt").unlink()
    with caplog.at_level(logging.WARNING):
        loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert "step 2 is passed over" in caplog.text


def test_if_all_are_damaged_training_starts_anew(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000001" / "state.pt").write_bytes(b"")
    assert load_newest(tmp_path) is None


def test_a_damaged_later_step_does_not_outlive_whole_ones(tmp_path: Path) -> None:
    save(tmp_path, 5, 20)
    (tmp_path / "step-00000020" / "state.pt").write_bytes(b"")
    save(tmp_path, 10, keep=1)
    assert steps(tmp_path) == ["step-00000010"]


def test_what_a_kill_left_half_written_is_cleared(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".partial-step-00000002").mkdir()
    (tmp_path / ".partial-step-00000002" / "state.pt").write_bytes(b"half")
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert steps(tmp_path) == ["step-00000001"]


def test_a_checkpoint_of_another_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    save(tmp_path, 1)
    manifest = tmp_path / "step-00000001" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 2}))
    with pytest.raises(OrchError, match="format 2, this version reads 1"):
        load_newest(tmp_path)


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    save_checkpoint(tmp_path / "c", 1, {"step": Evil()}, Resources())
    assert load_newest(tmp_path / "c") is None
    assert not (tmp_path / "pwned").exists()


def test_a_full_disk_is_told_and_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OrchError, match="No space left on device"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert steps(tmp_path) == ["step-00000001"]
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1


def test_a_full_disk_is_told_as_torch_words_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")  # torch 2.13.0

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OrchError, match="the checkpoint cannot be written") as told:
        save(tmp_path, 2)
    assert "free some disk space" in told.value.fix


def test_the_final_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    export_final(tmp_path, lambda folder: (folder / "model").write_text("first") and None)

    def fails(folder: Path) -> None:
        (folder / "model").write_text("second")
        raise OSError(28, "No space left on device")

    with pytest.raises(OrchError):
        export_final(tmp_path, fails)
    assert (tmp_path / "final" / "model").read_text() == "first"
    export_final(tmp_path, lambda folder: (folder / "model").write_text("third") and None)
    assert (tmp_path / "final" / "model").read_text() == "third"
    assert steps(tmp_path) == ["final"]
