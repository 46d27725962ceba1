"""Faults on purpose: real processes, real Ray, real training of a tiny model. `make chaos`; docs/reliability.md.

ORCH_CHAOS_SEED repeats a run's dice; ORCH_CHAOS_KILLS is the number of kill points in the one long sweep, which has
twelve trainings, or six where it is killed ten times at most.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from arena import SIX, TWELVE, TWO, Arena, MakeArena
from leftovers import adopt_orphans, kill_all, shared_memory, take_own_shared_memory, unused, wait_for_none

HERE = Path(__file__).parent
SEED = int(os.environ.get("ORCH_CHAOS_SEED") or secrets.randbelow(10**6))
NUM_KILLS = int(os.environ.get("ORCH_CHAOS_KILLS") or 6)
LONG = TWELVE if NUM_KILLS > 10 else SIX
"""The axes of the undisturbed sweep and of the one that is killed."""
_BUILD = """
import sys
from dataclasses import replace
from pathlib import Path
from trainers.models.tiny import build
from trainers.models.tiny_spec import ARITHMETIC_TINY
build(replace(ARITHMETIC_TINY, stop_at=0.05, band=(0.0, 1.0)), Path(sys.argv[1]))
"""
_tally: Counter[str] = Counter()
_started: set[int] = set()


def pytest_report_header() -> str:
    return f"ORCH_CHAOS_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(1800))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _tally:
        terminalreporter.section(f"chaos, ORCH_CHAOS_SEED={SEED}")
        for name, number in sorted(_tally.items()):
            terminalreporter.write_line(f"{number:5d}  {name}")


@pytest.fixture
def num_kills() -> int:
    """Kill points in the long sweep."""
    return NUM_KILLS


@pytest.fixture
def tally() -> Counter[str]:
    """What was done, for the summary."""
    return _tally


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> Random:
    """Randomness of this test: the seed and its name."""
    return Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that is right now and then: rewards of zero would hide a step that was lost."""
    folder = tmp_path_factory.mktemp("model")
    subprocess.run([sys.executable, "-c", _BUILD, str(folder)], check=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def reaper() -> Iterator[None]:
    take_own_shared_memory()
    stop = adopt_orphans(_started)
    yield
    stop.set()


@pytest.fixture(scope="session")
def make_folder() -> Iterator[Callable[[], Path]]:
    """Folders with short names, removed at the end; kept with ORCH_CHAOS_KEEP=1."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="c-", dir="/tmp")))
        return made[-1]

    yield make
    for folder in made:
        if "ORCH_CHAOS_KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def undisturbed(make_folder: Callable[[], Path], model: Path) -> Arena:
    """The long sweep without any fault, in one process: what every other sweep must equal."""
    arena = Arena(root=make_folder(), model=model, axes=LONG, started=_started)
    assert arena.sweep("--scheduler", "inline") == 0, arena.tail()
    return arena


@pytest.fixture
def make_arena(make_folder: Callable[[], Path], model: Path) -> MakeArena:
    """Fresh arenas of the two trials, or of the axes given."""
    return lambda axes=TWO: Arena(root=make_folder(), model=model, axes=axes, started=_started)


@pytest.fixture
def copied(undisturbed: Arena, make_arena: MakeArena) -> Arena:
    """The undisturbed sweep, finished and mirrored, in a folder of its own to be damaged."""
    arena = make_arena(undisturbed.axes)
    shutil.copytree(undisturbed.runs, arena.runs)
    return arena


@pytest.fixture(autouse=True)
def nothing_is_left(reaper: None) -> Iterator[None]:
    """No process of a test outlives it, and with none, no port; nor does a piece of shared memory."""
    before = shared_memory()
    yield
    left = wait_for_none()
    kill_all()
    assert left == [], "processes that outlive the sweep"
    assert unused(shared_memory() - before) == set(), "shared memory that nobody uses"
