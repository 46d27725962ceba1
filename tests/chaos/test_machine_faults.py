"""A disk that is full, a clock that jumps."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from arena import Arena, MakeArena, wait_until
from fingerprint import assert_same

_LARGE_MB = 400
_FAKETIME = sorted(Path("/usr").glob("lib/*/faketime/libfaketimeMT.so.1"))


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own in memory, or a skipped test where none may be mounted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "orch-chaos", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def enlarge(folder: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(folder)], check=True)


def test_a_disk_that_fills_up_at_any_moment_fails_trials_in_words_and_loses_nothing(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str]
) -> None:
    arena = make_arena()
    with small_disk(arena.runs, dice.randint(1, 30)):
        for megabytes in (dice.randint(31, 50), _LARGE_MB):
            status = arena.sweep("--scheduler", "inline")
            log = arena.log.read_text()
            arena.log.unlink()
            assert status in (0, 1, 2), log
            if status:
                assert "No space left" in log or "disk of the runs folder is full" in log, log
                tally["disks that filled up"] += 1
            enlarge(arena.runs, megabytes)
        assert arena.finish("--scheduler", "inline") <= 2
        assert_same(arena, undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(not _FAKETIME, reason="needs libfaketime (apt-get install faketime)")
def test_a_clock_that_jumps_changes_no_result(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str]
) -> None:
    arena = make_arena()
    offset = arena.root / "clock"
    offset.write_text("+0")
    faked = {
        "LD_PRELOAD": str(_FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else each wait for Python's interpreter lock returns at once and spins
    }
    driver = arena.start("--scheduler", "inline", **faked)
    for days in dice.sample((-400, -1, 1, 30), 3):
        seen = arena.num_steps()
        wait_until(lambda seen=seen: arena.num_steps() > seen + 2 or driver.poll() is not None, "steps")  # type: ignore[misc]
        offset.write_text(f"{days:+d}d")
        time.sleep(0.3)
        tally["clock jumps"] += 1
    assert arena.end(driver) == 0, arena.tail()
    assert_same(arena, undisturbed)
    assert arena.sweep() == 0
    assert "nothing to do" in arena.tail()
