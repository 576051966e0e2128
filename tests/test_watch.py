"""`embrepro watch`: the state files of running processes as a table, stale ones passed over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embrepro.progress import console, processes, watch
from embrepro.progress.console import STATE_FOLDER

WORKER = """
import sys, time
from embrepro.progress.console import work
with work("encode", "minilm [bold]SciFact", 40, "texts") as under_way:
    time.sleep(1)
    under_way.advance(10)
    print("ready", flush=True)
    sys.stdin.read()
"""
Process = subprocess.Popen[str]
WATCH = [sys.executable, "-m", "embrepro.cli", "watch"]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Process]:
    """A real process in the middle of its work, in `tmp_path`."""
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_work_under_way_is_read_as_it_was_written(worker: Process, tmp_path: Path) -> None:
    (state,) = watch.states(tmp_path)
    assert (state.stage, state.task, state.unit) == ("encode", "minilm [bold]SciFact", "texts")
    assert (state.owner, state.done, state.total) == (processes.identity(worker.pid), 10, 40)
    assert state.rate == pytest.approx(10, rel=0.5)  # ten in the second before the step


def test_watch_once_prints_one_table_and_ends(worker: Process, tmp_path: Path) -> None:
    heading, row = _watch_once(tmp_path).splitlines()
    assert heading.split() == ["Stage", "Task", "Done", "Rate", "Running", "Left", "Last", "step"]
    assert row.startswith("encode  minilm [bold]SciFact  10/40 texts  25 %")


def test_a_killed_process_is_passed_over_with_its_file(worker: Process, tmp_path: Path) -> None:
    worker.kill()
    worker.wait()
    assert list((tmp_path / STATE_FOLDER).glob("*.json"))
    assert watch.states(tmp_path) == []


def test_a_number_given_to_a_later_process_does_not_revive_the_work(tmp_path: Path) -> None:
    this = processes.identity(os.getpid())
    _write(tmp_path, owner=this[:-1] + ("0" if this[-1] != "0" else "1"))
    assert watch.states(tmp_path) == []
    _write(tmp_path, owner=this)
    assert len(watch.states(tmp_path)) == 1


def test_work_in_a_container_is_that_of_the_process_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = processes.identity(os.getppid())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(processes.OWNER_VARIABLE, outside)
    with console.work("encode", "x", 9, "texts"):
        (state,) = watch.states()
    assert state.owner == outside
    assert not list((tmp_path / STATE_FOLDER).glob("*.json"))


@pytest.mark.parametrize(("silent", "shown"), [(1, 1), (3600, 0)])
def test_work_of_another_machine_is_shown_while_it_is_heard_of(tmp_path: Path, silent: int, shown: int) -> None:
    _write(tmp_path, owner="pid:[1] 2 3", updated=time.time() - silent)
    assert len(watch.states(tmp_path)) == shown


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": "encode"}'])
def test_a_damaged_state_file_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FOLDER).mkdir(parents=True)
    (tmp_path / STATE_FOLDER / "1.json").write_text(content, encoding="utf-8")
    assert watch.states(tmp_path) == []


def test_where_nothing_runs_it_says_so(tmp_path: Path) -> None:
    assert _watch_once(tmp_path) == "Nothing is running here.\n"


def test_time_left_follows_from_the_rate_and_runs_down() -> None:
    state = watch.State(
        stage="encode", task="x", total=100, unit="texts", owner="", done=20, started=1000.0, updated=1010.0
    )
    assert state.rate == 2.0
    assert state.seconds_left(now=1010.0) == 40.0
    assert state.seconds_left(now=1015.0) == 35.0
    assert state.seconds_left(now=9999.0) == 0.0
    begun = state.model_copy(update={"done": 0})
    assert begun.rate is None
    assert begun.seconds_left(now=1015.0) is None


def test_on_a_terminal_it_goes_on_until_ctrl_c(worker: Process, tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    shown = b""
    with subprocess.Popen(WATCH, cwd=tmp_path, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        until = time.monotonic() + 30
        while shown.count(b"10/40 texts") < 2 and time.monotonic() < until:
            shown += os.read(controller, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    os.close(controller)
    assert shown.count(b"10/40 texts") >= 2


def _watch_once(folder: Path) -> str:
    command = [*WATCH, "--once"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout


def _write(folder: Path, owner: str, updated: float = 0.0) -> None:
    state = {"stage": "encode", "task": "x", "total": 9, "unit": "texts", "done": 1, "started": 0.0}
    content = json.dumps(state | {"owner": owner, "updated": updated})
    (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / STATE_FOLDER / "1.json").write_text(content, encoding="utf-8")
