"""A laboratory for whole sweeps that cost nothing: fake trainer and engine, real store, processes and schedulers."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fakes"))

from fake_trainer import open_fake_sampler  # from the folder of fakes
from lab import Lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A fresh runs folder with a tiny benchmark and an initial model."""
    monkeypatch.setattr("orchestrator.run.open_sampler", open_fake_sampler)
    return Lab(tmp_path)
