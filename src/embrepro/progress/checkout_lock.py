"""One run at a time in a checkout: who writes holds its lock, and everybody else is told who that is. Readers need none.

The lock is the kernel's (`flock`), so it ends with its holder however that ends. A run of `dvc repro` is one holder from
its first stage to its last, although each stage takes and leaves the lock: what the file says about the run counts for
as long as its process lives. Parts of one stage (`--shard`) share the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from embrepro.errors import KitError
from embrepro.files import UNFINISHED, clear_leftovers, make_folder
from embrepro.progress import processes

LOCK = Path(".embrepro") / "lock"
SWEPT = ("conf", "data", "embeddings", "reports", "results")
"""Folders that stages write to, where a killed one may have left something."""
SHELLS = ("ash", "bash", "dash", "fish", "ksh", "sh", "tcsh", "zsh")


@contextmanager
def holding(command: list[str], root: Path = Path(), *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a checkout while the block runs; what an earlier, killed holder left is cleared away first.

    Args:
        command: what this process runs, for others to read.
        root: the checkout.
        shared: beside others that share it too.

    Raises:
        KitError: somebody else holds it; says who, on which machine, running what, and since when.
    """
    path = root / LOCK
    make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KitError(_busy(root, _read(descriptor))) from None
        run, holder = _run(), _read(descriptor)
        if holder.get("run") not in (None, run) and processes.is_running(str(holder["run"])):
            raise KitError(_busy(root, holder))
        _write(descriptor, command, run)
        if not shared:
            _clear(root)
        yield
    finally:
        os.close(descriptor)


def _run() -> str | None:
    """The process of DVC whose stage this is; None where nobody but this process is at work."""
    if "DVC_STAGE" not in os.environ:
        return None
    parent = psutil.Process().parent()
    while parent and parent.name() in SHELLS:
        parent = parent.parent()
    return processes.identity(parent.pid) if parent else None


def _write(descriptor: int, command: list[str], run: str | None) -> None:
    holder = {
        "command": shlex.join(command),
        "host": platform.node(),
        "pid": os.getpid(),
        "run": run,
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    text = json.dumps(holder, sort_keys=True).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)


def _read(descriptor: int) -> dict[str, Any]:
    """What the file says about its holder; empty where it says nothing, or was cut short by a kill."""
    try:
        found = json.loads(os.pread(descriptor, 65536, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _busy(root: Path, holder: dict[str, Any]) -> str:
    place = root.resolve()
    if not holder:
        return f"Another run works in {place}; wait for it to end."
    run = f" of the `dvc` run of process {processes.pid_in(str(holder['run']))}" if holder.get("run") else ""
    return (
        f"Another run works in {place}: `{holder.get('command')}`{run} (process {holder.get('pid')} on "
        f"{holder.get('host')}, since {holder.get('since')}). Wait for it to end, or stop it; `embrepro watch` shows "
        "what it does."
    )


def _clear(root: Path) -> None:
    for name in SWEPT:
        clear_leftovers(root / name)
    for path in root.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)
