"""A laboratory for whole sweeps that cost nothing: fake trainer and engine, real store, processes and schedulers."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fakes"))

from lab import Lab  # from the folder of fakes


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A fresh runs folder with a tiny benchmark and an initial model."""
    return Lab(tmp_path)
