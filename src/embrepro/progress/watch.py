"""A running pipeline seen from another terminal: what the state files of `console.work` say, as a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from embrepro.progress import processes
from embrepro.progress.console import STATE_FOLDER, duration

REFRESH_SECONDS = 0.5
PIPE_WIDTH = 240
QUEUE_FOLDER = Path(".dvc") / "tmp" / "exps"
"""DVC runs queued and temporary experiments in workspaces below this folder."""
SILENT_SECONDS = 60
IDLE = "Nothing is running here."


class State(BaseModel):
    """One piece of work under way, as its process last wrote it; times in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    stage: str
    task: str
    total: int
    unit: str
    owner: str
    done: int
    started: float
    updated: float
    experiment: str = ""

    @property
    def rate(self) -> float | None:
        """Units a second; None before the first is done."""
        elapsed = self.updated - self.started
        return self.done / elapsed if self.done and elapsed > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the end at the rate so far; None where there is no rate yet."""
        if self.rate is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (now - self.updated))


def states(root: Path = Path()) -> list[State]:
    """Work under way in a checkout and in the workspaces of its queued experiments, the oldest first.

    Files that are damaged, or of processes that ended, are passed over.
    """
    found = []
    for folder in _state_folders(root):
        for path in folder.glob("*.json"):
            # A process may end, and take its file along, at any moment
            with suppress(OSError, ValidationError):
                found.append(State.model_validate_json(path.read_bytes()))
    return sorted((state for state in found if _alive(state)), key=lambda state: (state.started, state.owner))


def _state_folders(root: Path) -> list[Path]:
    queue = root / QUEUE_FOLDER
    return [root / STATE_FOLDER, *queue.glob(f"*/{STATE_FOLDER}"), *queue.glob(f"*/*/{STATE_FOLDER}")]


def table(found: Sequence[State], now: float) -> Table | str:
    """One row for each piece of work."""
    if not found:
        return IDLE
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    experiments = any(state.experiment for state in found)
    for title in (*(["Experiment"] if experiments else []), "Stage", "Task"):
        drawn.add_column(title, overflow="fold")
    for title in ("Done", "", "Rate", "Running", "Left", "Last step"):
        drawn.add_column(title, justify="right", no_wrap=True)
    for state in found:
        drawn.add_row(*([state.experiment] if experiments else []), *_row(state, now))
    return drawn


def watch(root: Path = Path(), *, once: bool = False) -> None:
    """Show work under way until Ctrl-C; print it once where asked to, or where the output is no terminal."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, markup=False, file=sys.stdout, width=width)
    if once or not console.is_terminal:
        console.print(table(states(root), time.time()))
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(table(states(root), time.time()), refresh=True)
            time.sleep(REFRESH_SECONDS)


def _alive(state: State) -> bool:
    """Whether the process that wrote the state still runs; one that cannot be judged from here is taken at its word."""
    running = processes.is_running(state.owner)
    return time.time() - state.updated < SILENT_SECONDS if running is None else running


def _row(state: State, now: float) -> list[str]:
    left = state.seconds_left(now)
    return [
        state.stage,
        state.task,
        f"{state.done}/{state.total} {state.unit}",
        f"{100 * state.done / state.total:.0f} %" if state.total else "",
        "" if state.rate is None else f"{state.rate:.{0 if state.rate >= 10 else 2}f}/s",
        duration(max(0.0, now - state.started)),
        "" if left is None else duration(left),
        f"{duration(max(0.0, now - state.updated))} ago",
    ]
