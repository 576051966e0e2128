"""`embrepro` and `dvc` from a process that has the libraries already, for tests that run them hundreds of times.

`python preloaded.py SOCKET PID` imports what programs import of other packages (torch, mteb, dvc, ...), nothing of
the kit. For each call it forks: the child takes over the caller's folder, environment and open files, imports the kit that
the caller's PYTHONPATH names, and runs its program. The call itself, `preloaded_call`, hands those over, passes signals on,
has the program killed where it is killed itself, and ends with the program's exit code. What is tested is the same; only
the seconds that each program spends on `import mteb` are spent once.
"""

from __future__ import annotations

import array
import fcntl
import functools
import gc
import json
import os
import select
import shlex
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import spawn, util
from pathlib import Path
from typing import Any, NoReturn

import psutil

import preloaded_call
from preloaded_call import LENGTH_BYTES, exactly

MOST_FILES = 64
LIBRARIES = (
    "dvc.cachemgr",
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.repo.experiments.queue.celery",
    "dvc.repo.experiments.queue.tempdir",
    "dvc.repo.experiments.queue.workspace",
    "dvc.repo.experiments.run",
    "dvc.repo.experiments.show",
    "dvc.repo.index",
    "dvc.repo.metrics.diff",
    "dvc.repo.open_repo",
    "dvc.repo.plots",
    "dvc.utils.hydra",
    "dvc.utils.strictyaml",
    "dvc_data.fs",
    "dvc_data.hashfile.db.local",
    "dvc_task.app",
    "ruamel.yaml",
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
    """A folder for the front of a PATH, with programs that work as told above; one process serves all of xdist's workers.

    `embrepro` and `dvc` are those programs; `python-with-libraries` takes `-c CODE ...` or `-m MODULE ...` as Python does.
    """
    from filelock import FileLock

    from embrepro import numerics

    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = Path(tempfile.gettempdir()) / f"preloaded-{run or uuid.uuid4().hex}"
    with FileLock(folder.with_suffix(".lock")):
        if folder.is_dir():
            return folder
        write_programs(folder)
        # What libraries read when they are imported, and cannot be told later.
        early = {**numerics.INSTRUCTION_SET, **numerics.ONE_THREAD, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= early | {"HF_HOME": str(folder), "TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        # It lives as long as this process, or as the one that started all workers.
        served = os.getppid() if run else os.getpid()
        command = [sys.executable, __file__, str(folder / "socket"), str(served)]
        subprocess.Popen(command, env=environment, cwd=folder)
    return folder


@contextmanager
def lent_to_workers() -> Iterator[None]:
    """Have the processes that multiprocessing spawns be forks that have the libraries."""
    before = spawn.get_executable()
    spawn.set_executable(str(programs() / "python-with-libraries"))
    yield
    spawn.set_executable(before)


def write_programs(folder: Path) -> None:
    """The programs themselves, which call whoever serves at `socket` in their folder, which is made."""
    folder.mkdir()
    programs = {"embrepro": ["-m", "embrepro.cli"], "dvc": ["-m", "dvc"], "python-with-libraries": []}
    for name, words in programs.items():
        call = shlex.join([sys.executable, "-SE", preloaded_call.__file__, str(folder / "socket"), *words])
        (folder / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (folder / name).chmod(0o755)


def serve(path: str, served: int) -> None:
    """Answer calls until the process `served` is gone; then remove the folder."""
    import importlib

    ended = os.pidfd_open(served)
    gc.disable()
    for library in LIBRARIES:
        importlib.import_module(library)
    # Forks then share the pages of all these objects, which the collector would write to.
    gc.freeze()
    gc.enable()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    calls: dict[int, Call] = {}
    while True:
        ready = select.select([listener, ended, *calls, *(each.connection for each in calls.values())], [], [])[0]
        if ended in ready:
            break
        for each in [each for each in calls.values() if each.ended in ready or each.connection in ready]:
            each.finish()
            del calls[each.ended]
        if listener in ready:
            connection, _ = listener.accept()
            # Who called may be killed at any moment.
            with suppress(ConnectionError):
                begun = Call.begin(connection, [ended, listener.fileno(), *calls])
                calls[begun.ended] = begun
    shutil.rmtree(Path(path).parent, ignore_errors=True)
    Path(path).parent.with_suffix(".lock").unlink(missing_ok=True)


@dataclass(frozen=True)
class Call:
    """A program that runs: who called it, its process, and a descriptor that is ready once that has ended."""

    connection: socket.socket
    process: int
    ended: int

    @classmethod
    def begin(cls, connection: socket.socket, ours: Sequence[int]) -> Call:
        """Fork, have the fork run the program that is asked for, without files of ours, and say its process."""
        message, files = _receive(connection)
        process = os.fork()
        if process == 0:
            for file in (*ours, connection.fileno()):
                os.close(file)
            os.setsid()
            _become(message, files)
        for file in files:
            os.close(file)
        with suppress(ConnectionError):
            connection.sendall(process.to_bytes(LENGTH_BYTES))
        return cls(connection, process, os.pidfd_open(process))

    def finish(self) -> None:
        """Send the exit code; where nobody waits for it, who called was killed, which hands on no signal: kill it too."""
        if not select.select([self.ended], [], [], 0)[0]:
            os.kill(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        with suppress(ConnectionError):
            self.connection.sendall((os.waitstatus_to_exitcode(status) & 0xFF).to_bytes(LENGTH_BYTES))
        self.connection.close()
        os.close(self.ended)


def _become(message: dict[str, Any], files: list[int]) -> NoReturn:
    """Run the program of the kit in this process, with all that the caller gave."""
    import runpy
    import traceback

    # Out of the way first, as a file may stand where another one is to be.
    beyond = max(*files, *message["files"]) + 1
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, beyond) for file in files]
    for file in files:
        os.close(file)
    for number, file in zip(message["files"], moved, strict=True):
        os.dup2(file, number)
    os.closerange(beyond, max(moved) + 1)
    os.environ.clear()
    os.environ.update(message["environment"])
    os.chdir(message["folder"])
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    site.execsitecustomize()
    _have_parent(message["parent"])
    if message["arguments"][:2] != ["-m", "dvc"]:
        _lend_fork_server()
    # Of options before them only multiprocessing gives some, which are those of this interpreter.
    words = iter(message["arguments"])
    kind = next(word for word in words if word in ("-c", "-m"))
    what, *arguments = words
    sys.argv = [kind if kind == "-c" else what, *arguments]
    code = 1
    try:
        if kind == "-c":
            exec(what, {"__name__": "__main__"})
        else:
            # Workers load the main module, which they can where it is one of a package, as of a fresh Python.
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
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


def _have_parent(parent: int) -> None:
    """Have this process be the child of whoever called, to whom DVC's stages belong."""
    us, found = os.getpid(), psutil.Process.parent
    psutil.Process.parent = lambda process: psutil.Process(parent) if process.pid == us else found(process)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a caller gives, and its files, in the order that it names them in; raises ConnectionError where it is gone."""
    files = array.array("i")
    size, ancillary, _, _ = connection.recvmsg(LENGTH_BYTES, socket.CMSG_SPACE(MOST_FILES * files.itemsize))
    for level, kind, data in ancillary:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        files.frombytes(data)
    try:
        return json.loads(exactly(connection, int.from_bytes(size) if size else 1)), list(files)
    except ConnectionError:
        for file in files:
            os.close(file)
        raise


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
