"""Options that several commands take: each is spelled, explained and read from the environment in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")
"""The runs folder without `--store`."""
MLFLOW = "sqlite:///mlflow.db"
"""Where MLflow keeps its runs without `--tracking-uri`."""

StoreFolder = Annotated[Path, typer.Option(envvar="ORCH_STORE", help="Runs folder.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data-dir", envvar="ORCH_DATA_DIR", help="Folder of benchmarks and training sets.")
]
CacheFolder = Annotated[
    Path | None, typer.Option(envvar="ORCH_CACHE_DIR", help="Built models; STORE/models without it.")
]
TrackingUri = Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="Where MLflow keeps its runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
