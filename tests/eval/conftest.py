"""Where the real benchmark files are: ORCH_DATA_DIR, or ../shared/data beside the checkout."""

import os
import runpy
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    named = os.environ.get("ORCH_DATA_DIR")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            "lacking files: benchmark files (`orch data fetch NAME… --data-dir FOLDER` gets those of `orch data list`; "
            "then set ORCH_DATA_DIR=FOLDER)"
        )
    return folder


@pytest.fixture(scope="session")
def respellings():
    """Functions that spell an answer otherwise; tests have no packages to import one another from."""
    return runpy.run_path(str(Path(__file__).with_name("respell.py")))["RESPELLINGS"]
