"""A laboratory for whole sweeps that cost nothing: fake trainer and engine, real store, processes and schedulers."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fakes"))

from fake_trainer import open_fake_sampler  # from the folder of fakes
from kept_sweep import Kept, sweep_and_keep
from lab import Lab


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which lists stand in one block, whatever the one is like on which the tests are run."""
    monkeypatch.setenv("COLUMNS", "240")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A fresh runs folder with a tiny benchmark and an initial model."""
    monkeypatch.setattr("orchestrator.trial.attempt.open_sampler", open_fake_sampler)
    for name in ("ORCH_STORE", "ORCH_CACHE_DIR"):  # of whoever runs the tests
        monkeypatch.delenv(name, raising=False)
    return Lab(tmp_path)


@pytest.fixture(scope="session")
def first_kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """One finished sweep for all tests that copy it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.trial.attempt.open_sampler", open_fake_sampler)
        return sweep_and_keep(Lab(tmp_path_factory.mktemp("kept")))


@pytest.fixture
def kept(first_kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """A finished sweep that a test may spoil."""
    monkeypatch.delenv("ORCH_CACHE_DIR", raising=False)
    return first_kept.copied_to(tmp_path / "runs")
