"""What a run says: a line for each finished piece of work, a bar while one is under way, and a state file to watch.

Lines go to standard output. Bars go to standard error and only to a terminal. The state file is what `embrepro watch`
reads from another terminal.
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from embrepro.progress import processes

STATE_FOLDER = Path(".embrepro") / "state"
STATE_SECONDS = 0.5

_out = Console(highlight=False, soft_wrap=True, markup=False)
_err = Console(highlight=False, soft_wrap=True, markup=False, stderr=True)


def say(line: str) -> None:
    """One line of what was done."""
    _out.print(line)


def say_error(line: str) -> None:
    """One line of what went wrong."""
    _err.print(line, style="bold red" if _err.is_terminal else None)


QUIET = {
    **dict.fromkeys(("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"), "1"),
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that wait for each other by spinning steal the cores they wait for: on a shared machine this is worth tenfold.
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Variables that keep the libraries' own bars and notices out of a run's output."""


def silence_libraries() -> None:
    """Keep the libraries' own bars and notices out of a run's output; must come before they are imported."""
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    warnings.filterwarnings("ignore")
    for name in (
        "mteb",
        "sentence_transformers",
        "datasets",
        "huggingface_hub",
        "model2vec",
        "transformers",
        "httpx",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)


OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def go_offline() -> None:
    """Switch the hub off for this process; must come before the libraries are imported."""
    os.environ.update(OFFLINE)


class Work:
    """Work of a known size under way: a bar on a terminal, a state file for watchers."""

    def __init__(self, stage: str, task: str, total: int, unit: str, bar: Progress) -> None:
        owner = processes.own_identity()
        experiment = os.environ.get("DVC_EXP_NAME", "")
        about = {"stage": stage, "task": task, "total": total, "unit": unit}
        self._state = about | {"owner": owner, "experiment": experiment}
        self._file = STATE_FOLDER / f"{processes.pid_in(owner)}.json"
        self._started = time.time()
        self._done = 0
        self._written = 0.0
        self._bar = bar
        self._bar_task = bar.add_task(f"{stage}  {task}", total=total)
        self._write_state()

    def advance(self, amount: int) -> None:
        """Say that `amount` more units are done."""
        self._done += amount
        self._bar.advance(self._bar_task, amount)
        if time.time() - self._written >= STATE_SECONDS:
            self._write_state()

    def end(self) -> None:
        """Take the state file away."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _write_state(self) -> None:
        self._written = time.time()
        state = {**self._state, "done": self._done, "started": self._started, "updated": self._written}
        unfinished = self._file.with_suffix(".unfinished")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            try:
                unfinished.write_text(json.dumps(state), encoding="utf-8")
                unfinished.replace(self._file)
            finally:
                # A signal may come between the two.
                unfinished.unlink(missing_ok=True)
        except OSError:
            # Watching is a convenience: a run on a read-only place must not die of it
            pass


@contextmanager
def work(stage: str, task: str, total: int, unit: str) -> Iterator[Work]:
    """Show work of `total` units until the block ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bar:
        under_way = Work(stage, task, total, unit, bar)
        try:
            yield under_way
        finally:
            under_way.end()


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 0.4 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
