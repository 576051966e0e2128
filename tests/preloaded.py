"""The `embrepro` program from a process that has the libraries already, for tests that run it dozens of times.

`python preloaded.py serve SOCKET` imports what stages import of other packages (torch, mteb, ...), nothing of the kit.
For each call it forks: the child takes over the caller's folder, environment and streams, imports the kit that the
caller's PYTHONPATH names, and runs its program. The call itself, `python preloaded.py call SOCKET ...`, hands those
over, passes signals on, has the program killed where it is killed itself, and ends with the program's exit code. What is
tested is the same; only the seconds that each stage spends on `import mteb` are spent once.
"""

from __future__ import annotations

import array
import atexit
import functools
import gc
import json
import os
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import Any, NoReturn

LENGTH = struct.Struct("!I")
LIBRARIES = (
    "dvc.repo",
    "hydra",
    "pydantic",
    "typer",
    "rich.progress",
    "polars",
    "scipy.stats",
    "scipy.sparse",
    "sklearn.metrics",
    "sklearn.linear_model",
    "altair",
    "jinja2",
    "torch",
    "datasets",
    "sentence_transformers",
    "model2vec",
    "mteb",
)


@functools.cache
def programs() -> Path:
    """A folder for the front of a PATH, with programs that work as told above; they serve this process's tests.

    `embrepro` is the kit's program; `python-with-libraries CODE` runs Python code.
    """
    from embrepro import numerics

    folder = Path(tempfile.mkdtemp(prefix="preloaded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_programs(folder)
    # What libraries read when they are imported, and cannot be told later.
    early = {**numerics.INSTRUCTION_SET, **numerics.ONE_THREAD, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= early | {"HF_HOME": str(folder), "TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.Popen([sys.executable, __file__, "serve", str(folder / "socket")], env=environment, cwd=folder)
    return folder


def write_programs(folder: Path) -> None:
    """The programs themselves, which call whoever serves at `socket` in their folder."""
    for name in ("embrepro", "python-with-libraries"):
        call = shlex.join([sys.executable, "-SE", __file__, "call", str(folder / "socket"), name])
        (folder / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (folder / name).chmod(0o755)


def serve(path: str) -> None:
    """Answer calls until the process that started this one is gone."""
    import importlib

    gc.disable()
    for library in LIBRARIES:
        importlib.import_module(library)
    # Forks then share the pages of all these objects, which the collector would write to.
    gc.freeze()
    gc.enable()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    parent = os.getppid()
    listener.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> NoReturn:
    """In a fork: run the program in a fork of its own, as its caller would, and send its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams = _receive(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        os.setsid()
        _become(message, streams)
    connection.sendall(LENGTH.pack(child))
    ended = os.pidfd_open(child)
    if ended not in select.select([connection, ended], [], [])[0]:
        # Who called was killed, which hands on no signal.
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with suppress(BrokenPipeError):
        connection.sendall(LENGTH.pack(os.waitstatus_to_exitcode(status) & 0xFF))
    os._exit(0)


def _become(message: dict[str, Any], streams: list[int]) -> NoReturn:
    """Run the program of the kit in this process, with all that the caller gave."""
    import runpy
    import traceback

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(message["environment"])
    os.chdir(message["folder"])
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    _lend_fork_server()
    program, *arguments = message["arguments"]
    code = 1
    try:
        if program == "embrepro":
            sys.argv = ["embrepro", *arguments]
            runpy.run_module("embrepro.cli", run_name="__main__", alter_sys=False)
        else:
            exec(arguments[0], {})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _lend_fork_server() -> None:
    """Have multiprocessing's fork server, where the program starts one, be a fork of this process as it is now.

    A server that multiprocessing starts is a fresh Python, which would import all libraries again.
    """
    launch = util.spawnv_passfds
    ours, theirs = socket.socketpair()
    server = os.fork()
    if server == 0:
        ours.close()
        code, streams, _, _ = socket.recv_fds(theirs, 2**16, 2)
        # Nothing comes where the program ends without one.
        if code:
            exec(code.decode().replace("main(LISTENER, ALIVE,", f"main({streams[0]}, {streams[1]},"), {})
        os._exit(0)
    theirs.close()

    def launch_or_lend(path: Any, words: list[str], fds: list[int]) -> int:
        if "multiprocessing.forkserver" not in words[-1] or ours.fileno() < 0:
            return launch(path, words, fds)
        code = words[-1].replace(f"main({fds[0]}, {fds[1]},", "main(LISTENER, ALIVE,")
        socket.send_fds(ours, [code.encode()], fds)
        ours.close()
        return server

    util.spawnv_passfds = launch_or_lend


def call(path: str, arguments: list[str]) -> int:
    """Run the program with these arguments; returns its exit code."""
    message = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    connection = _connect(path)
    rights = array.array("i", (0, 1, 2))
    connection.sendmsg([LENGTH.pack(len(message))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    connection.sendall(message)
    (child,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: os.kill(child, received))
    return LENGTH.unpack(_exactly(connection, LENGTH.size))[0]


def _connect(path: str) -> socket.socket:
    """A connection, once the libraries are there."""
    until = time.monotonic() + 240
    while True:
        connection = socket.socket(socket.AF_UNIX)
        with suppress(FileNotFoundError, ConnectionRefusedError):
            connection.connect(path)
            return connection
        if time.monotonic() > until:
            raise TimeoutError(f"nobody answers at {path}")
        time.sleep(0.05)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    rights = array.array("i")
    size, ancillary, _, _ = connection.recvmsg(LENGTH.size, socket.CMSG_SPACE(3 * rights.itemsize))
    for level, kind, data in ancillary:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        rights.frombytes(data)
    return json.loads(_exactly(connection, LENGTH.unpack(size)[0])), list(rights)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionError("the process with the libraries is gone")
        found += part
    return found


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[2], sys.argv[3:]))
