"""A local MLflow server over a local database, while `orch ui` runs. Loopback unless asked otherwise."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from orchestrator.errors import TrackingError
from orchestrator.tracking.board import BOARD, BOARD_TAG
from orchestrator.tracking.uri import artifact_root, shown_uri

FIRST_PORT = 5000

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven worker processes that only its language-model pages use
}
_NUM_PORTS_TRIED = 50
_READY_TIMEOUT_S = 90.0
_POLL_S = 0.2
_GRACE_S = 5.0


@contextlib.contextmanager
def serve(tracking_uri: str, *, host: str, port: int | None) -> Iterator[str]:
    """Run `mlflow server` while the block runs; yields its base URL once it answers.

    Args:
        tracking_uri: the database, as an absolute URI.
        host: address to listen on.
        port: None takes the first free one from 5000 on.

    Raises:
        TrackingError: the port is taken, or the server does not come up; the message ends in its last lines.
    """
    chosen = _free_port(host) if port is None else port
    if port is not None and not _is_free(host, port):
        raise TrackingError(f"port {port} of {host} is taken", fix="leave --port away to take a free one")
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{chosen}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            _command(tracking_uri, host, chosen),
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if not _wait_ready(url, process):
                output.seek(0)
                tail = output.read().decode(errors="replace").strip().splitlines()[-8:]
                raise TrackingError(
                    "the MLflow server did not come up:\n    " + "\n    ".join(tail),
                    where=shown_uri(tracking_uri),
                    fix="`mlflow server --backend-store-uri` with that URI shows the same; see its documentation",
                )
            yield url
        finally:
            _end_group(process)


def experiment_page(url: str, experiment: str) -> str:
    """The address of an experiment's runs, in the view that the mirror prepared, asked of a running server.

    Raises:
        TrackingError: the server does not know the experiment, or does not answer.
    """
    try:
        answer = httpx.get(
            f"{url}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": experiment}, timeout=20.0
        )
    except httpx.HTTPError as error:
        raise TrackingError(f"MLflow does not answer: {error}", where=shown_uri(url), fix="is it up?") from error
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise TrackingError(
            f"MLflow does not know an experiment named {experiment}",
            where=shown_uri(url),
            fix=f"`orch sync {experiment}` sends it there",
        )
    if answer.is_error:
        raise TrackingError(f"MLflow answered {answer.status_code}", where=shown_uri(url), fix="see its log")
    found = answer.json()["experiment"]
    page = f"{url}/#/experiments/{found['experiment_id']}/runs?workflowType=machine_learning"
    has_view = any(tag["key"] == BOARD_TAG for tag in found.get("tags", []))
    return f"{page}&viewStateShareKey={BOARD}" if has_view else page


def _command(tracking_uri: str, host: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    root: Path | None = artifact_root(tracking_uri)
    return command if root is None else [*command, "--artifacts-destination", str(root)]


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=2.0).is_success:
                return True
        time.sleep(_POLL_S)
    return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and its workers: politely, then for certain."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


def _free_port(host: str) -> int:
    for port in range(FIRST_PORT, FIRST_PORT + _NUM_PORTS_TRIED):
        if _is_free(host, port):
            return port
    raise TrackingError(
        f"no free port of {host} from {FIRST_PORT} to {FIRST_PORT + _NUM_PORTS_TRIED - 1}", fix="name one with --port"
    )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
