"""An HTTP server between the mirror and MLflow that is slow, or fails, at times that a seed decides."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import httpx

_DROPPED = {"host", "connection", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"}


@dataclass(slots=True)
class Faults:
    """What happens to requests on their way."""

    random: Random
    delay_s: float = 0.0
    share_refused: float = 0.0
    """Answered 500, and MLflow never sees them."""
    share_lost: float = 0.0
    """Done by MLflow, and then answered 500."""
    counts: Counter[str] = field(default_factory=Counter)


@contextmanager
def between(upstream: str, faults: Faults) -> Iterator[str]:
    """Forward to a server while the block runs; yields the URL to ask instead."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._pass_on()

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # its name there
            pass

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            time.sleep(faults.delay_s)
            draw = faults.random.random()
            if draw < faults.share_refused:
                faults.counts["refused"] += 1
                return self._answer(500, b'{"error_code": "INTERNAL_ERROR", "message": "refused"}', {})
            headers = {key: value for key, value in self.headers.items() if key.lower() not in _DROPPED}
            answer = httpx.request(self.command, upstream + self.path, content=body, headers=headers, timeout=60)
            if draw < faults.share_refused + faults.share_lost:
                faults.counts["done and answered 500"] += 1
                return self._answer(500, b'{"error_code": "INTERNAL_ERROR", "message": "lost"}', {})
            faults.counts["passed on"] += 1
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _DROPPED}
            self._answer(answer.status_code, answer.content, kept)

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response_only(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # whoever asked has given up
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
