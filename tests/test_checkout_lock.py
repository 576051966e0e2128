"""One run at a time in a checkout: who comes second is told who was first; a holder that was killed holds nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embrepro.errors import KitError
from embrepro.progress import checkout_lock

HOLD = """
import sys, time
from embrepro.progress import checkout_lock
with checkout_lock.holding(sys.argv[1:], shared="--shard" in sys.argv):
    print("held", flush=True)
    sys.stdin.readline()
"""


class Holders:
    """Processes that hold the lock of a checkout until they are told to end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *command], cwd=self.root, env={**os.environ, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def hold(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        process = self.start(*command, **environment)
        assert process.stdout
        assert process.stdout.readline() == "held\n", process.communicate()[1]
        return process

    def refusal(self, *command: str, **environment: str) -> str:
        process = self.start(*command, **environment)
        out, errors = process.communicate("\n", timeout=60)
        assert "held" not in out
        return errors.strip().splitlines()[-1]


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    started = Holders(tmp_path)
    yield started
    for process in started.started:
        process.kill()
        process.communicate()


def test_the_second_is_told_who_the_first_is(holders: Holders) -> None:
    first = holders.hold("embrepro", "encode", "x y")
    said = holders.refusal("embrepro", "download")
    assert f"Another run works in {holders.root}: `embrepro encode 'x y'` (process {first.pid} on " in said
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\)", said)
    first.communicate("\n", timeout=60)
    holders.hold("embrepro", "download")


def test_a_killed_holder_holds_nothing_and_what_it_left_is_cleared(holders: Holders) -> None:
    first = holders.hold("embrepro", "download")
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = holders.root / "data" / "tasks" / ".STS12.x.unfinished"
    left.mkdir(parents=True)
    holders.hold("embrepro", "download")
    assert not left.exists()


def test_parts_of_a_stage_work_side_by_side_but_beside_no_whole_one(holders: Holders) -> None:
    parts = [holders.hold("embrepro", "encode", "x", "--shard", f"{number}/2") for number in (1, 2)]
    assert "--shard" in holders.refusal("embrepro", "encode", "x")
    for part in parts:
        part.communicate("\n", timeout=60)
    holders.hold("embrepro", "encode", "x")
    assert "`embrepro encode x`" in holders.refusal("embrepro", "encode", "x", "--shard", "1/2")


RUN = """
import os, subprocess, sys
os.environ["DVC_STAGE"] = "a stage"
for stage in ("download", "encode"):
    subprocess.run(f"{sys.executable} -c {sys.argv[1]!r} embrepro {stage} </dev/null", shell=True, check=True)
    print("between", flush=True)
    sys.stdin.readline()
"""


def test_a_run_of_dvc_is_one_holder_from_its_first_stage_to_its_end(holders: Holders, tmp_path: Path) -> None:
    hold = tmp_path / "hold.py"
    hold.write_text(HOLD)
    code = f"exec(open({str(hold)!r}).read())".replace("'", '"')
    with ExitStack() as stack:
        run = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", RUN, code],
                cwd=tmp_path,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        assert run.stdin
        assert run.stdout
        for _ in range(2):
            assert [run.stdout.readline() for _ in range(2)] == ["held\n", "between\n"]
            assert f"of the `dvc` run of process {run.pid}" in holders.refusal("embrepro", "check")
            run.stdin.write("\n")
            run.stdin.flush()
    holders.hold("embrepro", "check")


def test_a_lock_file_that_was_cut_short_still_locks(tmp_path: Path, holders: Holders) -> None:
    holders.hold("embrepro", "download")
    (tmp_path / checkout_lock.LOCK).write_text('{"command": "embr')
    assert f"Another run works in {tmp_path}; wait" in holders.refusal("embrepro", "check")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".embrepro").write_text("in the way")
    with pytest.raises(KitError, match=r"Cannot write to .*\.embrepro"), checkout_lock.holding([], tmp_path):
        pass
