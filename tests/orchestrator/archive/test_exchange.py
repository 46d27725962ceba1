"""Sweeps travel whole, arrive whole or not at all, and a stranger's archive writes nothing that it should not."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kept_sweep import EXPERIMENT, Kept, add_checkpoint, flip
from typer.testing import CliRunner

from orchestrator.archive.exchange import export, import_archive
from orchestrator.archive.format import ArchiveDamaged, unpack
from orchestrator.archive.gc import KeepRule, removable
from orchestrator.cli import app
from orchestrator.errors import StoreError
from orchestrator.store.store import Store, TrialLocked
from trainers.manifest import sha256_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TRIAL = "0123456789ab"


def orch(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def contents(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): sha256_of(path) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def archive(kept: Kept, tmp_path: Path) -> Path:
    file = tmp_path / "kept.tar.gz"
    export(kept.store, EXPERIMENT, file)
    return file


def test_an_exported_sweep_prints_the_same_tables_elsewhere_and_verifies(kept: Kept, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "kept.tar.gz", tmp_path / "elsewhere"
    code, printed = orch("export", EXPERIMENT, file, "--with-models", "--store", kept.store.root)
    assert code == 0
    assert f"{file}: 22 files" in printed
    assert orch("verify", file)[0] == 0
    assert orch("import", file, "--store", elsewhere)[1].startswith("kept: 22 files are new, 0 were there\n")
    for format_name in ("text", "json"):
        here, there = (
            orch("table", EXPERIMENT, "--format", format_name, "--store", root) for root in (kept.store.root, elsewhere)
        )
        assert here == there
    assert orch("verify", "--store", elsewhere) == orch("verify", "--store", kept.store.root)
    assert "0 differences, 0 unchecked" in orch("verify", "--store", elsewhere)[1]
    again = json.loads(orch("import", file, "--store", elsewhere, "--json")[1])
    assert again == {"experiment": EXPERIMENT, "num_files": 22, "num_new": 0}


def test_what_goes_along_is_asked_for(kept: Kept, tmp_path: Path) -> None:
    add_checkpoint(kept.trial_folder(1) / "checkpoints", 4)
    (kept.trial_folder(1) / ".record.json.77.abcd.tmp").write_text("{")
    sizes = {}
    for policies in ("none", "final", "all"):
        manifest = export(kept.store, EXPERIMENT, tmp_path / f"{policies}.tar", policies=policies)
        sizes[policies] = {member.path.split("/", 1)[1] for member in manifest.files}
    assert {path.split("/")[0] for path in sizes["none"]} == {
        "kept.json",
        "recipe.json",
        "record.json",
        "attempts",
        "eval",
    }
    assert sizes["final"] - sizes["none"] == {"checkpoints/policy/state.json", "checkpoints/policy/.manifest.json"}
    assert sizes["all"] - sizes["final"] == {
        "checkpoints/latest.json",
        "checkpoints/step-00000004/state.pt",
        "checkpoints/step-00000004/manifest.json",
    }


def test_the_same_store_gives_the_same_bytes_but_for_the_time(kept: Kept, tmp_path: Path) -> None:
    one, other = (export(kept.store, EXPERIMENT, tmp_path / name) for name in ("a.tar", "b.tar"))
    assert replace(one, created_at=other.created_at) == other


def test_any_flipped_byte_of_an_archive_is_found(archive: Path, tmp_path: Path) -> None:
    whole, generator = archive.read_bytes(), random.Random(0)
    for position in [12, len(whole) - 9, *(generator.randrange(12, len(whole)) for _ in range(30))]:
        archive.write_bytes(whole)
        flip(archive, position)
        if inflated(archive.read_bytes()) == gzip.decompress(whole):
            continue  # one of the bits that fill up the last byte of a deflated stream and mean nothing
        folder = tmp_path / f"{position}"
        folder.mkdir()
        with pytest.raises(ArchiveDamaged):
            unpack(archive, folder)


def inflated(zipped: bytes) -> bytes | None:
    """The content of a gzipped file; None where it is damaged."""
    try:
        return gzip.decompress(zipped)
    except (OSError, EOFError, zlib.error):
        return None


def test_a_flipped_byte_names_its_file_and_both_digests(kept: Kept, tmp_path: Path) -> None:
    file = tmp_path / "kept.tar"
    export(kept.store, EXPERIMENT, file)
    (samples,) = kept.trial_folder(1).glob("eval/*/samples.jsonl")
    content = samples.read_bytes()
    flip(file, file.read_bytes().index(content) + 50)
    code, printed = orch("verify", file)
    assert code == 1
    assert samples.relative_to(kept.store.root).as_posix() in printed
    assert f"its manifest says {sha256_of(samples)}" in printed
    before = contents(tmp_path)
    with pytest.raises(ArchiveDamaged, match="has sha256"):
        import_archive(file, Store(tmp_path / "elsewhere"))
    assert contents(tmp_path) == before


def test_equal_files_are_skipped_and_other_content_is_refused_with_both_digests(
    kept: Kept, archive: Path, tmp_path: Path
) -> None:
    other = kept.copied_to(tmp_path / "other")
    (other.store.plans.file(EXPERIMENT)).unlink()
    assert import_archive(archive, other.store)[1] == 1
    log = other.store.log_file(other.plan.entries[1].trial.id, 1)
    ours, before = sha256_of(log), contents(other.store.root)
    log.write_text("another story")
    (other.store.plans.file(EXPERIMENT)).unlink()
    with pytest.raises(StoreError, match="other content for 1 of the files") as raised:
        import_archive(archive, other.store)
    assert f"here {sha256_of(log)}, in the archive {ours}" in str(raised.value)
    assert contents(other.store.root).keys() == before.keys() - {"sweeps/kept.json"}


def test_a_known_trial_is_completed_under_its_lock(kept: Kept, tmp_path: Path) -> None:
    file, other = tmp_path / "kept.tar.gz", kept.copied_to(tmp_path / "other")
    export(kept.store, EXPERIMENT, file, policies="final")
    trial_id = kept.plan.entries[1].trial.id
    shutil.rmtree(other.store.checkpoint_folder(trial_id))
    with other.store.lock(trial_id), pytest.raises(TrialLocked):
        import_archive(file, other.store)
    assert not other.store.checkpoint_folder(trial_id).exists()
    assert import_archive(file, other.store)[1] == 2


def test_a_trial_at_work_is_not_exported(kept: Kept, tmp_path: Path) -> None:
    with kept.store.lock(kept.plan.entries[0].trial.id), pytest.raises(StoreError, match="is being worked on"):
        export(kept.store, EXPERIMENT, tmp_path / "kept.tar.gz")
    assert not list(tmp_path.glob("*.tar.gz"))


def test_a_killed_import_leaves_no_experiment_and_the_next_one_finishes(archive: Path, tmp_path: Path) -> None:
    runs = tmp_path / "elsewhere"
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from orchestrator.archive import exchange; from orchestrator.store.store import Store\n"
        "move, moved = exchange._move_trial, []\n"
        "def killed(*arguments):\n"
        "    if moved: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    moved.append(move(*arguments))\n"
        "exchange._move_trial = killed\n"
        "exchange.import_archive(Path(sys.argv[1]), Store(Path(sys.argv[2])))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(archive), str(runs)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = Store(runs)
    assert store.plans.names() == ()
    assert len(store.trial_ids()) == len(store.list()) == 1
    assert import_archive(archive, store)[1] == 18 - 5  # what the base model had brought
    assert len(store.plans.read(EXPERIMENT).entries) == 3
    (leftover,) = runs.glob(".import-*")
    os.utime(leftover, (0, 0))
    for path in leftover.rglob("*"):
        os.utime(path, (0, 0))
    assert [one.path for one in removable(store, KeepRule(), cache_folder=runs / "models")] == [leftover]


def packed(
    file: Path, members: list[tuple[tarfile.TarInfo, bytes]], manifest: list[dict[str, object]] | None = None
) -> Path:
    """An archive as an enemy would make it: his manifest, then his members."""
    described = (
        manifest
        if manifest is not None
        else [{"path": header.name, "bytes": len(content), "sha256": sha256(content)} for header, content in members]
    )
    text = json.dumps(
        {"format": 1, "experiment": "x", "policies": "none", "created_at": "", "files": described}
    ).encode()
    first = tarfile.TarInfo("manifest.json")
    first.size = len(text)
    with tarfile.open(file, "w:gz") as archive:
        archive.addfile(first, io.BytesIO(text))
        for header, content in members:
            header.size = len(content) if header.isreg() else 0
            archive.addfile(header, io.BytesIO(content))
    return file


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "/etc/passwd",
        f"{TRIAL}/eval/../../../outside",
        f"{TRIAL}/.lock",
        f"{TRIAL}/eval/.hidden/x",
        f"{TRIAL}/progress.json",
        "models/x/config.json",
        "orders/trials/x.json",
        "sweeps/../x.json",
        "sweeps/.x.stop",
        f"{TRIAL}/eval/a\\b",
        f"{TRIAL}/eval//x",
        f"{TRIAL}/eval/",
        "manifest.json",
    ],
)
def test_a_path_that_is_none_of_ours_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    file = packed(tmp_path / "evil.tar.gz", [(tarfile.TarInfo(path), b"x")])
    with pytest.raises(ArchiveDamaged, match="its manifest names"):
        import_archive(file, Store(tmp_path / "runs"))
    assert contents(tmp_path) == {"evil.tar.gz": sha256_of(file)}


@pytest.mark.parametrize(
    "name", ["attempts/1/verl_job.pickle", "checkpoints/final/model.py", "checkpoints/global_step_2/a.pt"]
)
def test_what_runs_code_when_it_is_read_is_taken_only_on_trust(tmp_path: Path, name: str) -> None:
    file = packed(tmp_path / "code.tar.gz", [(tarfile.TarInfo(f"{TRIAL}/{name}"), b"x")])
    with pytest.raises(StoreError, match="run what they hold when they are read") as raised:
        import_archive(file, Store(tmp_path / "runs"))
    assert "--trust" in raised.value.fix
    assert contents(tmp_path) == {"code.tar.gz": sha256_of(file)}
    assert import_archive(file, Store(tmp_path / "runs"), is_trusted=True)[1] == 1


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(f"{TRIAL}/eval/a/score.json")
    header.type, header.linkname = kind, target
    return header


@pytest.mark.parametrize(
    "header",
    [
        special(tarfile.SYMTYPE, "/etc/passwd"),
        special(tarfile.LNKTYPE, "manifest.json"),
        special(tarfile.CHRTYPE),
        special(tarfile.FIFOTYPE),
        special(tarfile.DIRTYPE),
        special(tarfile.GNUTYPE_SPARSE),
    ],
    ids=["symlink", "hard link", "device", "fifo", "folder", "sparse"],
)
def test_links_devices_and_sparse_files_are_refused(tmp_path: Path, header: tarfile.TarInfo) -> None:
    manifest = [{"path": header.name, "bytes": 0, "sha256": sha256(b"")}]
    file = packed(tmp_path / "evil.tar.gz", [(header, b"")], manifest)
    with pytest.raises(ArchiveDamaged):
        import_archive(file, Store(tmp_path / "runs"))
    assert contents(tmp_path) == {"evil.tar.gz": sha256_of(file)}


def zeros(num_bytes: int) -> Callable[[Path], None]:
    """A file in an archive that is a thousand times larger than the archive."""

    def write(file: Path) -> None:
        header = tarfile.TarInfo(f"{TRIAL}/eval/a/samples.jsonl")
        header.size = num_bytes
        manifest = json.dumps(
            {"format": 1, "experiment": "x", "policies": "none", "created_at": "",
             "files": [{"path": header.name, "bytes": 10, "sha256": "0" * 64}]}
        ).encode()  # fmt: skip
        first = tarfile.TarInfo("manifest.json")
        first.size = len(manifest)
        with gzip.open(file, "wb", compresslevel=1) as out:
            out.write(first.tobuf() + manifest.ljust(-(-len(manifest) // 512) * 512, b"\0") + header.tobuf())
            for _ in range(num_bytes // 2**20):
                out.write(bytes(2**20))

    return write


def long_name(file: Path) -> None:
    """A header that asks for a gigabyte of memory to hold a name."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with gzip.open(file, "wb", compresslevel=1) as out:
        out.write(header.tobuf(format=tarfile.GNU_FORMAT))
        for _ in range(8):
            out.write(bytes(2**20))


@pytest.mark.parametrize("bomb", [zeros(2**25), long_name], ids=["more than was said", "a header of a gigabyte"])
def test_bombs_cost_neither_disk_nor_memory(tmp_path: Path, bomb: Callable[[Path], None]) -> None:
    file = tmp_path / "bomb.tar.gz"
    bomb(file)
    with pytest.raises(ArchiveDamaged):
        import_archive(file, Store(tmp_path / "runs"))
    assert contents(tmp_path) == {"bomb.tar.gz": sha256_of(file)}


def test_an_archive_larger_than_the_disk_is_refused_by_its_manifest(tmp_path: Path) -> None:
    manifest = [{"path": f"{TRIAL}/eval/a/samples.jsonl", "bytes": 2**60, "sha256": "0" * 64}]
    with pytest.raises(StoreError, match=f"unpacks to {2**60} bytes"):
        import_archive(packed(tmp_path / "large.tar.gz", [], manifest), Store(tmp_path / "runs"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with manifest.json|cannot be read"),
        (b"no archive", "cannot be read"),
        (gzip.compress(b"no tar" * 200), "cannot be read"),
    ],
    ids=["empty", "no archive", "zipped, no archive"],
)
def test_what_is_no_archive_is_a_clear_message(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(content)
    with pytest.raises(ArchiveDamaged, match=message):
        import_archive(file, Store(tmp_path / "runs"))


def test_a_truncated_archive_and_one_with_more_than_it_says_are_refused(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-4], gzip.compress(gzip.decompress(whole) + b"more")):
        archive.write_bytes(content)
        with pytest.raises(ArchiveDamaged):
            import_archive(archive, Store(tmp_path / "runs"))
    member = (tarfile.TarInfo(f"{TRIAL}/record.json"), b"{}")
    with pytest.raises(ArchiveDamaged, match="more files than its manifest names"):
        import_archive(packed(tmp_path / "more.tar.gz", [member], []), Store(tmp_path / "runs"))


def test_a_name_without_a_known_ending_is_refused(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"does not end in .tar.gz"):
        export(kept.store, EXPERIMENT, tmp_path / "kept.zip")
