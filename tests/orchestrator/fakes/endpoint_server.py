"""An OpenAI-compatible server on this machine, over real sockets: it answers additions, and misbehaves when told to."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Trouble = Callable[["Handler", dict[str, Any], int], bool]
"""(the request's handler, its body, how often the same was asked before) → whether it was dealt with already."""


class EndpointServer:
    """The server; it can die, and come back at the same address."""

    def __init__(self) -> None:
        self.weights, self.trouble, self.reply, self.context = "", None, None, None
        self.context: int | None
        self.trouble: Trouble | None
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def num_drawn(self) -> int:
        """Samples that were asked for; the fixed prompts of a fingerprint are greedy, and are not among them."""
        return sum(count for place, count in self.seen.items() if place.startswith("sample"))


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        context = self.server.owner.context  # type: ignore[attr-defined]
        entry = {"id": "small", "created": time.time(), "max_model_len": context}
        self.send(200, {"data": [entry]} if self.path.endswith("/models") else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner: EndpointServer = self.server.owner  # type: ignore[attr-defined]
        kind = "sample" if body["temperature"] else "greedy"
        place = f"{kind} {body['seed']} {body.get('prompt') or body.get('messages')}"
        with owner.lock:
            owner.seen[place] += 1
            count = owner.seen[place]
        if kind == "sample" and owner.trouble is not None and owner.trouble(self, body, count - 1):
            return
        self.send(200, {"choices": [self.choice(body, owner)], "usage": {"completion_tokens": 5}})

    def choice(self, body: dict[str, Any], owner: EndpointServer) -> dict[str, Any]:
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        numbers = [int(number) for number in re.findall(r"\d+", prompt)]
        chance = hashlib.sha256(f"{owner.weights} {prompt} {body['seed']}".encode()).digest()[0]
        text = f"\\boxed{{{sum(numbers) + (chance % 2)}}} {owner.weights}"
        if owner.reply is not None:
            return owner.reply(text)
        if "prompt" in body:
            return {"text": text, "finish_reason": "stop"}
        return {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
