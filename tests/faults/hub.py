"""A hub with one fault, in a process of its own, and the download that asks it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path

import yaml

from faults import zygote
from faults.project import Good
from faults.zygote import Ended

PARTS = ("/tree/", "/resolve/", "/", "model.safetensors", "test.parquet", "README.md")
HTML = b"<!doctype html><html><body>Sign in</body></html>"
FAULTS: dict[str, tuple[int, dict[str, str], bytes | None]] = {
    "no answer": (0, {}, b"{}"),
    "closes the connection": (-1, {}, b"{}"),
    "401": (401, {}, b"{}"),
    "403": (403, {}, b"{}"),
    "gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}, b"{}"),
    "404": (404, {"X-Error-Code": "RepoNotFound"}, b"{}"),
    "no such revision": (404, {"X-Error-Code": "RevisionNotFound"}, b"{}"),
    "429": (429, {"Retry-After": "0"}, b"{}"),
    "429 for an hour": (429, {"Retry-After": "3600"}, b"{}"),
    "500": (500, {}, b"{}"),
    "503 and a date": (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"{}"),
    "a web page": (200, {"Content-Type": "text/html"}, HTML),
    "JSON of another kind": (200, {}, b'[{"type": "file", "path": 3}]'),
    "deep JSON": (200, {}, b"[" * 50_000),
    "other bytes": (200, {}, None),
    "stops in a body": (200, {}, None),
    "a redirect in a circle": (302, {"Location": "/"}, b""),
}


def download(good: Good, folder: Path, part: str, fault: str, times: int) -> Ended:
    """`embrepro download` with no mirror and a hub that has a fault."""
    status, headers, body = FAULTS[fault]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready, say = os.pipe()
    server = os.fork()
    if server == 0:
        try:
            os.setsid()
            import hub_server

            made = hub_server.HubServer.__new__(hub_server.HubServer)
            _listen(made, good.sources / "mirror", port)
            if fault == "stops in a body":
                made.stalls = dict.fromkeys(PARTS, 50)
            else:
                made.faults[part] = hub_server.Fault(status, headers, body, times)
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            os.write(say, b".")
            made.serve_forever()
        finally:
            os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(say)
    params = folder / "params.yaml"
    before = params.read_bytes()
    values = yaml.safe_load(before)
    values["source"] = {"mirror": None}
    params.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory() as cache:
            return zygote.run(folder, "download", prepare=lambda: _ask(f"http://127.0.0.1:{port}", cache))
    finally:
        params.write_bytes(before)
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


def _listen(server: object, root: Path, port: int) -> None:
    """As `HubServer(root)`, on a port that is known before."""
    import threading
    from http.server import ThreadingHTTPServer

    import hub_server

    ThreadingHTTPServer.__init__(server, ("127.0.0.1", port), hub_server._Handler)  # type: ignore[arg-type]
    vars(server).update(root=root, stopping=threading.Event(), asked=[], cuts={}, stalls={}, faults={})


def _ask(endpoint: str, cache: str) -> None:
    """Let this process ask that hub, with little patience and no token."""
    import huggingface_hub
    from huggingface_hub import constants

    from embrepro.sources import hub

    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        os.environ.pop(name, None)
    for name, value in {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": cache,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DOWNLOAD_TIMEOUT": 0.3,
        "HF_HUB_ETAG_TIMEOUT": 0.3,
        "HF_TOKEN_PATH": f"{cache}/token",
    }.items():
        setattr(constants, name, value)
    huggingface_hub.hf_api.HfApi.endpoint = endpoint  # type: ignore[attr-defined]
    hub.FIRST_WAIT_SECONDS = 0.01
    hub.CONNECT_SECONDS = 0.5
    hub.problem.cache_clear()
    huggingface_hub.close_session()
