"""A small server that speaks the part of the hub's HTTP API that `huggingface_hub.snapshot_download` needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Fault:
    """What the server does in place of answering.

    Attributes:
        status: of the answer; 0 sends none and keeps the connection, -1 closes it.
        headers: of the answer, beside its length.
        body: of the answer; None sends what was asked for, every byte turned around, with status 200.
        times: how many requests more it happens to.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = b"{}"
    times: int = 1_000_000


class HubServer(ThreadingHTTPServer):
    """Serves a folder laid out as a mirror: `<root>/<models|datasets>/<org>/<name>/<commit>/...`.

    Attributes:
        asked: every request, as `METHOD path`.
        cuts: file name -> how many times its transfer is still to be cut in the middle.
        stalls: file name -> after how many of its bytes each transfer stops, the connection held open.
        faults: a part of a path -> the fault with which requests for it are answered.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.stopping = threading.Event()
        self.asked: list[str] = []
        self.cuts: dict[str, int] = {}
        self.stalls: dict[str, int] = {}
        self.faults: dict[str, Fault] = {}

    @property
    def endpoint(self) -> str:
        """What goes into HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(root: Path) -> Iterator[HubServer]:
    """A server over a folder for as long as the block lasts."""
    server = HubServer(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        fault = next((each for part, each in self.server.faults.items() if part in path and each.times > 0), None)
        if fault and fault.body is not None:
            fault.times -= 1
            self._fail(fault, body)
        elif path == "/":
            self._send(200, b"hub", body)
        elif found := re.fullmatch(r"/api/(models|datasets)", path):
            names = [f"{each.parent.name}/{each.name}" for each in (self.server.root / found[1]).glob("*/*")]
            self._send(200, json.dumps([{"id": name} for name in sorted(names)]).encode(), body)
        elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(*found.groups(), body=body)
        elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/revision/([^/]+)", path):
            self._revision(*found.groups(), body=body)
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file("datasets" if found[1] else "models", found[2], found[3], found[4], body=body)
        else:
            self._missing("EntryNotFound", body)

    def _fail(self, fault: Fault, body: bool) -> None:
        if fault.status == 0:
            self.server.stopping.wait(60)
        if fault.status <= 0:
            self.close_connection = True
            return
        self._send(fault.status, fault.body or b"", body, fault.headers)

    def _folder(self, kind: str, repository: str, revision: str, body: bool) -> Path | None:
        if not (self.server.root / kind / repository).is_dir():
            self._missing("RepoNotFound", body)
            return None
        folder = self.server.root / kind / repository / revision
        if not folder.is_dir():
            self._missing("RevisionNotFound", body)
            return None
        return folder

    def _tree(self, kind: str, repository: str, revision: str, body: bool) -> None:
        if folder := self._folder(kind, repository, revision, body):
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            entries = [_entry(path, path.relative_to(folder).as_posix()) for path in files]
            self._send(200, json.dumps(entries).encode(), body)

    def _revision(self, kind: str, repository: str, revision: str, body: bool) -> None:
        if revision == "main":  # the branch is at the first commit
            revision = next((each.name for each in (self.server.root / kind / repository).glob("*")), revision)
        if self._folder(kind, repository, revision, body):
            answer = {"id": repository, "sha": revision, "siblings": []}
            self._send(200, json.dumps(answer).encode(), body)

    def _file(self, kind: str, repository: str, revision: str, name: str, body: bool) -> None:
        folder = self._folder(kind, repository, revision, body)
        if folder is None:
            return
        path = folder / name
        if not path.is_file():
            self._missing("EntryNotFound", body)
            return
        content = path.read_bytes()
        fault = next((each for part, each in self.server.faults.items() if part in name and each.times > 0), None)
        if fault:
            fault.times -= body
            content = content[::-1]
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, "0"])[1])
        headers = {"ETag": f'"{_oid(path)}"', "X-Repo-Commit": revision}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = body and self.server.cuts.get(path.name, 0) > 0
        if cut:
            self.server.cuts[path.name] -= 1
        stall = self.server.stalls.get(path.name) if body else None
        if stall is not None:
            self._send(206 if start else 200, content[start:], False, headers)
            self.wfile.write(content[start:stall])
            self.server.stopping.wait(60)
            self.close_connection = True
            return
        self._send(206 if start else 200, content[start:], body, headers, cut=cut)

    def _missing(self, code: str, body: bool) -> None:
        self._send(404, b'{"error": "not found"}', body, {"X-Error-Code": code, "X-Error-Message": "not found"})

    def _send(
        self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


def _entry(path: Path, name: str) -> dict[str, object]:
    """A file as the hub lists it: with git's hash, and a weights file with its SHA-256, since it lies outside git."""
    size = path.stat().st_size
    entry: dict[str, object] = {"type": "file", "path": name, "size": size, "oid": _oid(path)}
    if path.suffix == ".safetensors":
        entry["lfs"] = {"oid": hashlib.sha256(path.read_bytes()).hexdigest(), "size": size, "pointerSize": 130}
    return entry


def _oid(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
