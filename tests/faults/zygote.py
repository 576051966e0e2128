"""Commands of the kit in forked processes of one that has imported everything: a stage costs its work and no imports.

The parent never computes anything, since threads of numeric libraries do not survive a fork.
"""

from __future__ import annotations

import fcntl
import gc
import multiprocessing.context
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil

LIMIT_SECONDS = 120.0
NO_END = 70
PIPE_SIZE = 2**20
LIBRARIES = (
    "datasets",
    "mteb",
    "sentence_transformers",
    "sklearn.linear_model",
    "model2vec",
    "altair",
    "hydra",
    "dvc.cli",
    "dvc.repo",
)


def warm_up() -> None:
    """Import what stages import, and read the kit's own code, once for all."""
    import importlib

    from embrepro import numerics
    from embrepro.progress import console
    from embrepro.source_code import STAGES, code_hash

    console.silence_libraries()
    console.go_offline()
    numerics.pin("portable")
    for name in LIBRARIES:
        importlib.import_module(name)
    for module in ("embrepro.cli", *STAGES.values(), "embrepro.embeddings.encoding", "embrepro.embeddings.replay"):
        importlib.import_module(module)
        code_hash(module)
    # Forks then share the pages of all these objects, which the collector would write to.
    gc.collect()
    gc.freeze()


@dataclass
class Ended:
    """How a command ended: its exit code, negative for a signal, None where it hung; what it printed."""

    command: tuple[str, ...]
    code: int | None
    output: str
    left: list[str] = field(default_factory=list)
    """Processes that it left behind."""


class Running:
    """A command under way in a forked process, in a session of its own."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        prepare: Callable[[], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.command = tuple(command)
        # A pipe and no file, whose size would be limited with all others where there is no room.
        self._output, output = os.pipe()
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._output)
            _run(folder, self.command, output, prepare, environment or {})
        os.close(output)
        self._code: int | None = None
        self._ended = False

    def poll(self) -> bool:
        """Whether it has ended."""
        if not self._ended:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended, self._code = True, os.waitstatus_to_exitcode(status)
        return self._ended

    def send(self, number: int, *, group: bool = False) -> None:
        """Send it a signal, or its whole group, as a terminal does."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def finish(self, seconds: float = LIMIT_SECONDS) -> Ended:
        """Wait for its end, and for that of whatever it started."""
        until = time.monotonic() + seconds
        while not self.poll() and time.monotonic() < until:
            time.sleep(0.002)
        hung = not self._ended
        left = _session(self.pid)
        patience = time.monotonic() + 5
        while left and not hung and time.monotonic() < patience:
            time.sleep(0.01)
            left = _session(self.pid)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if hung:
            os.waitpid(self.pid, 0)
        output = _drain(self._output)
        names = [] if hung else [str(process.pid) for process in left]
        return Ended(self.command, None if hung else self._code, output, names)


def run(
    folder: Path,
    *command: str,
    prepare: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
    seconds: float = LIMIT_SECONDS,
) -> Ended:
    """Run a command of the kit, or of DVC, in a project folder."""
    return Running(folder, command, prepare, environment).finish(seconds)


def call(function: Callable[[], None]) -> None:
    """Run a function in a forked process; raises RuntimeError where it fails."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise RuntimeError(f"{function} failed")


def limit_files(size: int) -> Callable[[], None]:
    """Prepares a command whose files may not grow beyond `size` bytes: the errors of a full disk, without one."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return prepare


def _drain(pipe: int) -> str:
    """What was written to a pipe."""
    os.set_blocking(pipe, False)
    found = b""
    with suppress(BlockingIOError):
        while part := os.read(pipe, PIPE_SIZE):
            found += part
    os.close(pipe)
    return found.decode("utf-8", errors="replace")


def _session(leader: int) -> list[psutil.Process]:
    """Processes of a session that still run."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if name.isdigit() and os.getsid(int(name)) == leader:
                process = psutil.Process(int(name))
                found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return found


def _run(
    folder: Path,
    command: tuple[str, ...],
    output: int,
    prepare: Callable[[], None] | None,
    environment: dict[str, str],
) -> NoReturn:
    code = NO_END
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for number in (1, 2):
            os.dup2(output, number)
        os.close(output)
        os.chdir(folder)
        os.environ.update(environment)
        sys.argv = ["embrepro", *command]
        use_forks()
        if prepare:
            prepare()
        code = _program(command)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
        code = 1
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _program(command: tuple[str, ...]) -> int:
    """Run the kit's program, or DVC's where the command says `dvc`."""
    if command[0] == "dvc":
        from dvc.cli import main as dvc

        return dvc(list(command[1:]))
    from embrepro.cli import main

    main()
    return 0


def use_forks() -> None:
    """Workers come from a fork server or a fresh Python, which would import mteb anew; a fork of this process has it."""
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    contexts["spawn"] = contexts["forkserver"] = contexts["fork"]
