"""Processes by what tells them from any other: their namespace, their number, and when they started."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import psutil

OWNER_VARIABLE = "EMBREPRO_OWNER"
"""Names, in a container, the process outside that runs the container and ends with it."""

_NAMESPACE = Path("/proc/self/ns/pid")
# PR_SET_PDEATHSIG of <linux/prctl.h>
_SET_PARENT_DEATH_SIGNAL = 1


def owner() -> str:
    """Identity of this process, in a container of the one outside that runs it."""
    return os.environ.get(OWNER_VARIABLE) or identity(os.getpid())


def identity(number: int) -> str:
    """A process as `<namespace> <number> <start>`; raises psutil.NoSuchProcess."""
    return f"{_namespace()} {number} {_start(number)}"


def number(owner: str) -> str:
    """The process number in an identity."""
    return owner.rpartition(" ")[0].rpartition(" ")[2]


def runs(owner: str) -> bool | None:
    """Whether a process still runs; None where it is another machine's or container's and cannot be judged from here."""
    namespace, _, _ = owner.partition(" ")
    if namespace != _namespace():
        return None
    try:
        process = int(number(owner))
        return identity(process) == owner and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.NoSuchProcess):
        return False


def _namespace() -> str:
    return os.readlink(_NAMESPACE) if _NAMESPACE.exists() else "all"


def _start(number: int) -> str:
    """When a process started; in clock ticks since boot where Linux says so, since the time of day may be set anew."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return f"{psutil.Process(number).create_time():.2f}"


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends; does nothing but on Linux."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent ended before the kernel knew.
        os.kill(os.getpid(), signal.SIGKILL)
