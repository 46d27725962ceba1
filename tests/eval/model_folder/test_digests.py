"""What tells two model folders apart: every byte, read once as long as nothing changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.errors import ModelError
from eval.model_folder import digests, folder_digest, folder_digests

LARGE = 5 << 20
"""A file of which earlier versions read parts."""


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of which pieces are read."""
    found: list[Path] = []
    digest = digests._Piece.digest

    def noted(piece: digests._Piece) -> bytes:
        found.append(piece.file)
        return digest(piece)

    monkeypatch.setattr(digests._Piece, "digest", noted)
    return found


def write_model(folder: Path, weights: bytes) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "model.safetensors").write_bytes(weights)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        (folder / name).write_text(name)
    return folder


@given(place=st.integers(0, LARGE - 1))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_byte_of_large_weights_changes_the_digest(
    place: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "PIECE_BYTES", 1 << 20)
    folder = write_model(tmp_path_factory.mktemp("place") / "model", bytes(LARGE))
    before = folder_digest(folder)
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(place)
        weights.write(b"\x01")
    assert folder_digest(folder) != before


def test_zeroed_vectors_between_the_blocks_of_earlier_versions_show(tmp_path: Path) -> None:
    """Twelve norm vectors of a model were zeroed, and the samples of the whole model were served."""
    weights = bytearray(os.urandom(LARGE))
    first = folder_digests(write_model(tmp_path / "first", bytes(weights)))
    for vector in range(12):
        start = 70_000 + vector * 400_000
        weights[start : start + 4096] = bytes(4096)
    second = folder_digests(write_model(tmp_path / "second", bytes(weights)))
    assert first.digest != second.digest
    blocks = digests._NUM_BLOCKS * digests._BLOCK_BYTES
    assert LARGE > blocks


def test_a_folder_that_was_read_whole_before_keeps_its_digest(tmp_path: Path) -> None:
    found = folder_digests(write_model(tmp_path / "model", b"weights"))
    assert found.digest == found.former
    assert found.digest == "8eccd7640f7518c39c57ac0cf95e8b7c871f704c71c42ab72a8ed485a40f1efe"


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
        "modeling_own.py",
        "qwen.tiktoken",
        "additional_chat_templates/tools.jinja",
    ],
)
def test_all_that_shapes_a_sample_counts(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "model", b"weights")
    before = folder_digest(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("another")
    assert folder_digest(folder) != before


def test_documents_do_not_count(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", bytes(LARGE))
    before = folder_digest(folder)
    (folder / "README.md").write_text("words")
    (folder / ".gitattributes.json").write_text("{}")
    assert folder_digest(folder) == before


def set_back(file: Path) -> None:
    """Change a byte and give the file its old times again, as `cp -p` does."""
    status = file.stat()
    with file.open("r+b") as content:
        content.write(b"\x01")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(file: Path) -> None:
    status = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"\x01" + file.read_bytes()[1:])
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [set_back, replaced, lambda file: file.write_bytes(bytes(LARGE + 1))])
def test_a_second_call_reads_nothing_until_something_changes(
    tmp_path: Path, reads: list[Path], home: Path, change: Callable[[Path], None]
) -> None:
    folder = write_model(tmp_path / "model", bytes(LARGE))
    first = folder_digests(folder)
    assert reads
    reads.clear()
    assert folder_digests(folder) == first
    assert not reads
    assert list((home / ".cache" / "orch" / "digests").iterdir())
    assert not [file for file in folder.iterdir() if "digest" in file.name]
    change(folder / "model.safetensors")
    assert folder_digests(folder).digest != first.digest
    assert reads


def test_a_damaged_entry_and_a_home_without_room_cost_a_reading(
    tmp_path: Path, reads: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "model", bytes(LARGE))
    first = folder_digest(folder)
    (entry,) = (home / ".cache" / "orch" / "digests").iterdir()
    entry.write_text('{"format": 2}')
    assert folder_digest(folder) == first
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert folder_digest(folder) == first


def test_a_model_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, reads: list[Path], home: Path) -> None:
    folder = write_model(tmp_path / "model", bytes(LARGE))
    folder_digests(folder, on_bytes=lambda done, total: (folder / "tokenizer.json").write_text(f"{done}"))
    assert not (home / ".cache" / "orch" / "digests").exists()


def test_progress_is_told_and_pieces_are_read_by_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    both = threading.Barrier(2, timeout=20)
    digest = digests._Piece.digest

    def met(piece: digests._Piece) -> bytes:
        if piece.file.suffix == ".safetensors" and piece.start < 2 << 20:
            both.wait()  # two pieces of one file are under way at once, or this breaks
        return digest(piece)

    monkeypatch.setattr(digests._Piece, "digest", met)
    told: list[tuple[int, int]] = []
    folder_digest(write_model(tmp_path / "model", bytes(LARGE)), on_bytes=lambda *bytes_: told.append(bytes_))
    total = (
        LARGE
        + len('{"model_type": "qwen2"}')
        + sum(map(len, ("tokenizer.json", "chat_template.jinja", "generation_config.json")))
    )
    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_a_folder_that_cannot_be_read_says_which_file(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", b"weights")
    (folder / "gone.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="cannot read the model") as caught:
        folder_digest(folder)
    assert "gone.json" in caught.value.where
