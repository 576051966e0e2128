"""How processes begin and end, and the identity of one: its PID namespace, its PID, and its start, since PIDs are given again."""

from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import psutil

from embrepro import numerics

OWNER_VARIABLE = "EMBREPRO_OWNER"
"""Names, in a container, the process outside that runs the container and ends with it."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end."""
AGAIN_SECONDS = 0.01
COLLECT_AFTER = 10_000
"""Objects made, less those freed, after which the youngest are looked through."""
_NAMESPACE = Path("/proc/self/ns/pid")
_RECEIVED: list[int] = []
# PR_SET_PDEATHSIG of <linux/prctl.h>
_SET_PARENT_DEATH_SIGNAL = 1


def own_identity() -> str:
    """Identity of this process, in a container of the one outside that runs it."""
    return os.environ.get(OWNER_VARIABLE) or identity(os.getpid())


def identity(pid: int) -> str:
    """A process as `<namespace> <PID> <start time>`; raises psutil.NoSuchProcess."""
    return f"{_namespace()} {pid} {_start(pid)}"


def pid_in(process: str) -> str:
    """The PID in the identity of a process, as text."""
    return process.rpartition(" ")[0].rpartition(" ")[2]


def is_running(process: str) -> bool | None:
    """Whether the process of an identity still runs.

    Returns:
        None where it is another machine's or container's and cannot be judged from here.
    """
    namespace, _, _ = process.partition(" ")
    if namespace != _namespace():
        return None
    try:
        pid = int(pid_in(process))
        return identity(pid) == process and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.NoSuchProcess):
        return False


def _namespace() -> str:
    return os.readlink(_NAMESPACE) if _NAMESPACE.exists() else "all"


def _start(pid: int) -> str:
    """When a process started, in clock ticks since boot where Linux says so: the time of day can be changed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return f"{psutil.Process(pid).create_time():.2f}"


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def end_on_signals() -> None:
    """Have every signal that asks this process to end raise `Interrupted`, its worker processes killed before.

    What is under way is cleaned up alike, whoever stops it, and no pool waits for what its workers are at. A signal that
    the caller has switched off (SIGHUP under nohup, SIGINT in a script's background) stays off. One that comes while
    Python runs a destructor or the like, whose exceptions it prints and forgets, comes again a moment later.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        _RECEIVED.append(number)
        for worker in multiprocessing.active_children():
            worker.kill()
        raise Interrupted(number)

    def forgotten(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, Interrupted):
            sys.__unraisablehook__(what)
            return
        number = what.exc_value.number
        signal.signal(signal.SIGALRM, lambda _, frame: end(number, frame))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)

    sys.unraisablehook = forgotten
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def received() -> Interrupted | None:
    """The last signal that asked this process to end, whatever a library made of it."""
    return Interrupted(_RECEIVED[-1]) if _RECEIVED else None


def collect_rarely() -> None:
    """Have Python look for cycles in memory a tenth as often as by default, and not when the process ends.

    Libraries make millions of objects as they are imported, which all stay: looking through them again and again, and once
    more at the end, takes as long as importing does.
    """
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    atexit.register(gc.freeze)


def start_worker() -> None:
    """Begin a worker process: it ends with its parent, and leaves to it what Ctrl-C means."""
    collect_rarely()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent()
    numerics.follow()
    numerics.tokenize_in(1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends; does nothing but on Linux."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent ended before the kernel knew.
        os.kill(os.getpid(), signal.SIGKILL)
