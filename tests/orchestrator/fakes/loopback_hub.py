"""A Hugging Face hub on loopback: what the real clients (huggingface_hub, datasets) ask of one, over real HTTP.

Repositories are commits of files; `main` is the last one, and may move. Large files can be served slowly, or not at all
after some bytes, and every request is on record.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 10_000
"""Files of this size are in large-file storage, as weights are on the hub."""
_CHUNK = 64 << 10


@dataclass
class Repository:
    """All commits of one repository, oldest first."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], *, name: str | None = None) -> str:
        """Add a commit and let `main` stand for it."""
        content = json.dumps({file: hashlib.sha256(data).hexdigest() for file, data in files.items()})
        name = name or hashlib.sha1(f"{len(self.commits)} {content}".encode()).hexdigest()
        self.commits[name] = files
        return name

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision stands for."""
        if revision == "main":
            return list(self.commits)[-1]
        return revision if revision in self.commits else None


@dataclass
class LoopbackHub:
    """The repositories of a hub, by `models/owner/name` or `datasets/owner/name`."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """`GET /owner/name/resolve/<commit>/<file>` and the like, in order; bodies only, no HEAD."""
    bytes_per_s: float | None = None
    """Speed of large files; None is as fast as they go."""

    def repository(self, name: str) -> Repository:
        """A repository, made on first use."""
        return self.repositories.setdefault(name, Repository())

    def fetched(self) -> list[str]:
        """Names of the files whose bodies were asked for, in order."""
        return [line.rsplit("/", 1)[1] for line in self.requests if "/resolve/" in line]


@contextmanager
def open_hub() -> Iterator[LoopbackHub]:
    """Serve a hub on a free port of 127.0.0.1 while the block runs."""
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self.hub.requests.append(f"GET {urlsplit(self.path).path}")
        self._answer(with_body=True)

    def do_POST(self) -> None:
        wanted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/paths-info/([^/]+)", self._path())
        files = self._files(f"{found[1]}/{found[2]}", found[3]) if found else None
        if files is None:
            self._refuse("RepoNotFound")
            return
        paths = _paths_of(wanted)
        self._json([_tree_entry(name, files[name]) for name in paths if name in files], with_body=True)

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _answer(self, *, with_body: bool) -> None:
        path = self._path()
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self._info(f"{found[1]}/{found[2]}", found[3] or "main", with_body)
        elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", path):
            self._tree(f"{found[1]}/{found[2]}", found[3], found[4] or "", with_body)
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind = "datasets" if found[1] else "models"
            self._file(f"{kind}/{found[2]}", found[3], found[4], with_body)
        else:
            self._refuse("EntryNotFound")

    def _files(self, name: str, revision: str) -> dict[str, bytes] | None:
        repository = self.hub.repositories.get(name)
        commit = repository.resolve(revision) if repository else None
        return repository.commits[commit] if repository and commit else None

    def _info(self, name: str, revision: str, with_body: bool) -> None:
        repository = self.hub.repositories.get(name)
        commit = repository.resolve(revision) if repository else None
        if repository is None or commit is None:
            self._refuse("RepoNotFound" if repository is None else "RevisionNotFound")
            return
        files = repository.commits[commit]
        siblings = [{"rfilename": one, **_blob(data)} for one, data in files.items()]
        owner_and_name = name.partition("/")[2]
        payload = {"id": owner_and_name, "sha": commit, "siblings": siblings, "private": False, "gated": False}
        self._json({**payload, "tags": [], "downloads": 0, "likes": 0}, with_body=with_body)

    def _tree(self, name: str, revision: str, folder: str, with_body: bool) -> None:
        files = self._files(name, revision)
        inside = {one: data for one, data in (files or {}).items() if not folder or one.startswith(f"{folder}/")}
        if files is None or (folder and not inside):
            self._refuse("RevisionNotFound" if files is None else "EntryNotFound")
            return
        self._json([_tree_entry(one, data) for one, data in inside.items()], with_body=with_body)

    def _file(self, name: str, revision: str, file: str, with_body: bool) -> None:
        repository = self.hub.repositories.get(name)
        commit = repository.resolve(revision) if repository else None
        data = repository.commits[commit].get(file) if repository and commit else None
        if commit is None or data is None:
            self._refuse("RevisionNotFound" if commit is None else "EntryNotFound")
            return
        begin = 0
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            begin = int(asked[1])
            data = data[begin : int(asked[2]) + 1] if asked[2] else data[begin:]
        self.send_response(206 if begin else 200)
        whole = repository.commits[commit][file] if repository else b""
        blob = _blob(whole)
        self.send_header("ETag", f'"{blob["lfs"]["sha256"] if "lfs" in blob else blob["blobId"]}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        if with_body:
            self._send(data)

    def _send(self, data: bytes) -> None:
        speed = self.hub.bytes_per_s if len(data) >= LARGE else None
        for begin in range(0, len(data), _CHUNK):
            if speed is not None:
                time.sleep(_CHUNK / speed)
            try:
                self.wfile.write(data[begin : begin + _CHUNK])
            except OSError:  # the client was killed
                self.close_connection = True
                return

    def _json(self, payload: object, *, with_body: bool) -> None:
        content = json.dumps(payload).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def _blob(data: bytes) -> dict[str, object]:
    git = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    large = {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
    return {"blobId": git, "size": len(data), **(large if len(data) >= LARGE else {})}


def _tree_entry(name: str, data: bytes) -> dict[str, object]:
    blob = _blob(data)
    lfs = blob.get("lfs")
    large = {"lfs": {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 130}} if isinstance(lfs, dict) else {}
    return {"type": "file", "path": name, "oid": blob["blobId"], "size": len(data), **large}


def _paths_of(body: bytes) -> list[str]:
    try:
        return list(json.loads(body)["paths"])
    except ValueError:
        from urllib.parse import parse_qs

        return parse_qs(body.decode()).get("paths", [])
