"""The only module that imports mlflow: what `mirror.Mirror` asks of a tracking server, and nothing more.

Uses MlflowClient throughout, never the fluent API and its process-wide active run. No call leaves the machine
other than to the tracking URI: mlflow's own usage reports are switched off before it is imported.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from orchestrator.errors import TrackingError
from orchestrator.store.redact import masked
from orchestrator.tracking.points import STEP_METRIC, MetricPoint
from orchestrator.tracking.uri import artifact_root, shown_uri, sqlite_file
from orchestrator.tracking.view import DatasetView, RunStatus
from orchestrator.trial.scratch import scratch_folder

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Set where the user has not: mlflow's own defaults keep asking a dead server for many minutes."""
_NO_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""Set always: mlflow repeats a `create_run` that was done and answered 500, and the run is there twice."""
_PAUSES_S = (0.2, 1.0)
"""Before all else, which may be done twice, is asked of a server again that answered 5xx."""

_NUM_PARAMS_PER_BATCH = 100
_NUM_METRICS_PER_BATCH = 1000
_RUNS_PER_PAGE = 1000
_SQLITE = "sqlite:///"
_SERVER_ERROR = re.compile(r"too many (5\d\d) error responses")
_CONNECTION_CAUSE = re.compile(r"(?<=\] )[\w ]+|[Rr]ead timed out")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRun:
    """What MLflow holds of one run."""

    run_id: str
    role: str
    """`sweep` or `trial`."""
    trial_id: str | None
    last_step: int
    """Last training step whose metrics are there; -1 for none."""
    params: frozenset[str]
    """Names of the parameters, which MLflow does not let change."""
    tags: dict[str, str]
    status: RunStatus


class Tracker:
    """A connection to one MLflow experiment. Every method raises TrackingError when MLflow does not do its part."""

    def __init__(self, tracking_uri: str, experiment: str) -> None:
        """Open the experiment, creating it, and for `sqlite:///` the database too, if need be."""
        self._uri = tracking_uri
        self._experiment = experiment
        with self._explained():
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            os.environ.update(_NO_RETRIES)
            from mlflow import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)
            if (database := sqlite_file(tracking_uri)) is not None and not database.exists():
                _create_database(database)
            self._client: Any = MlflowClient(tracking_uri)
            self.experiment_id = self._open_experiment()

    def find_runs(self) -> list[RemoteRun]:
        """All runs of the experiment that a mirror made."""
        found: list[RemoteRun] = []
        token: str | None = None
        with self._explained():
            while True:
                page = _asked(
                    self._client.search_runs,
                    [self.experiment_id],
                    filter_string=f"tags.`orch.experiment` = '{self._experiment}'",
                    max_results=_RUNS_PER_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                found += [_remote_run(run) for run in page]
                token = page.token
                if not token:
                    return found

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment itself."""
        with self._explained():
            for key, value in tags.items():
                _asked(self._client.set_experiment_tag, self.experiment_id, key, value)

    def create_run(self, *, name: str, tags: Mapping[str, str], started_ms: int | None) -> RemoteRun:
        """Create a run with its tags in one step, so that it can be found by them from its first moment."""
        with self._explained():
            run = self._client.create_run(self.experiment_id, start_time=started_ms, tags=dict(tags), run_name=name)
            return _remote_run(run)

    def log(
        self,
        run_id: str,
        *,
        points: Sequence[MetricPoint] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send points, params and tags. The points of one (run, step) go in one batch, whole or not at all."""
        from mlflow.entities import Metric, Param, RunTag

        with self._explained():
            for part in _chunks(list((params or {}).items()), _NUM_PARAMS_PER_BATCH):
                _asked(self._client.log_batch, run_id, params=[Param(key, value) for key, value in part])
            for part in _chunks(list((tags or {}).items()), _NUM_PARAMS_PER_BATCH):
                _asked(self._client.log_batch, run_id, tags=[RunTag(key, value) for key, value in part])
            for batch in batches(points, limit=_NUM_METRICS_PER_BATCH):
                metrics = [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in batch]
                _asked(self._client.log_batch, run_id, metrics=metrics, synchronous=True)

    def log_datasets(self, run_id: str, datasets: Sequence[DatasetView]) -> None:
        """Name the inputs of a run; MLflow keeps one of each name and digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(name=one.name, digest=one.digest, source_type="orch", source=json.dumps({"name": one.name})),
                [InputTag("mlflow.data.context", one.context)],
            )
            for one in datasets
        ]
        with self._explained():
            _asked(self._client.log_inputs, run_id, datasets=inputs)

    def upload(self, run_id: str, artifacts: Mapping[str, str]) -> None:
        """Write text artifacts, replacing those of the same path."""
        with self._explained(), scratch_folder() as scratch:
            folder = scratch / "artifacts"
            for path, text in artifacts.items():
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            _asked(self._client.log_artifacts, run_id, str(folder))

    def set_status(self, run_id: str, status: RunStatus, *, ended_ms: int | None) -> None:
        """Set where a run stands, and when it ended if it has."""
        with self._explained():
            if status in ("RUNNING", "SCHEDULED"):
                _asked(self._client.update_run, run_id, status=status)
            else:
                _asked(self._client.set_terminated, run_id, status=status, end_time=ended_ms)

    def _open_experiment(self) -> str:
        known = _asked(self._client.get_experiment_by_name, self._experiment)
        if known is not None and known.lifecycle_stage != "active":
            raise TrackingError(
                f"the MLflow experiment {self._experiment} was deleted",
                where=shown_uri(self._uri),
                fix=f"bring it back with `mlflow experiments restore -x {known.experiment_id}`, or empty MLflow's "
                "bin with `mlflow gc`; nothing is lost, the runs folder holds it all",
            )
        if known is not None:
            return str(known.experiment_id)
        root = artifact_root(self._uri)
        location = None if root is None else (root / self._experiment).as_uri()
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(self._experiment, artifact_location=location, tags=tags))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:  # mlflow lets requests', SQLAlchemy's and its own exceptions through
            raise TrackingError(
                _explanation(error),
                where=shown_uri(self._uri),
                fix=f"see that it is up, then `orch sync {self._experiment}`: the runs folder holds everything",
            ) from error


def _asked(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call answers, which a server may do twice: asked again where that answered 5xx."""
    for pause_s in _PAUSES_S:
        try:
            return call(*arguments, **options)
        except Exception as error:  # an MlflowException that wraps requests' own
            if not _SERVER_ERROR.search(str(error)):
                raise
        time.sleep(pause_s)
    return call(*arguments, **options)


def _explanation(error: Exception) -> str:
    """What went wrong in a line, without the layers of retries around a connection that failed."""
    text = masked([str(error).strip() or type(error).__name__])[0]
    if error_status := _SERVER_ERROR.search(text):
        return f"MLflow answers with error {error_status[1]}"
    if "Max retries exceeded" in text:
        cause = _CONNECTION_CAUSE.search(text)
        return f"MLflow does not answer: {cause[0] if cause else 'no connection'}"
    return f"MLflow refuses: {text.splitlines()[0][:400]}"


def batches(points: Sequence[MetricPoint], *, limit: int) -> Iterator[list[MetricPoint]]:
    """Cut points into batches of at most `limit` without parting those of one step, unless one step exceeds it."""
    batch: list[MetricPoint] = []
    for _, of_step in groupby(points, key=lambda point: point.step):
        group = list(of_step)
        if batch and len(batch) + len(group) > limit:
            yield batch
            batch = []
        batch += group
        while len(batch) > limit:
            yield batch[:limit]
            batch = batch[limit:]
    if batch:
        yield batch


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _remote_run(run: Any) -> RemoteRun:
    tags = dict(run.data.tags)
    return RemoteRun(
        run_id=run.info.run_id,
        role=tags.get("orch.role", ""),
        trial_id=tags.get("orch.trial_id"),
        last_step=int(run.data.metrics.get(STEP_METRIC, -1)),
        params=frozenset(run.data.params),
        tags=tags,
        status=run.info.status,
    )


def _create_database(database: Path) -> None:
    """Build the tables aside and move them in place: a kill halfway through would leave a database none can open."""
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{database.name}.", dir=database.parent) as folder:
        draft = Path(folder, database.name)
        MlflowClient(f"{_SQLITE}{draft}").search_experiments(max_results=1)
        with contextlib.closing(sqlite3.connect(draft)) as connection:
            # The built-in Default experiment remembers an artifact root; give it the final one, not the draft's.
            root = (database.parent / "mlartifacts").as_uri()
            connection.execute("UPDATE experiments SET artifact_location = ? || '/' || experiment_id", (root,))
            connection.commit()
        with contextlib.suppress(FileExistsError):  # another driver was faster
            os.link(draft, database)
