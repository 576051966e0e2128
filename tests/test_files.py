"""Writing to disk: whole or not at all, whatever comes in between, with the modes that the user's umask says."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from embrepro import files
from embrepro.errors import KitError, TaskError


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file, to be replaced."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old").write_text("old")
    return tmp_path / "kept"


def test_a_replacement_is_in_place_before_the_old_folder_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    remove = shutil.rmtree

    def look(path: Path, **settings: bool) -> None:
        seen.append(content(folder))
        remove(path, **settings)

    monkeypatch.setattr(shutil, "rmtree", look)
    with files.replacing_folder(folder) as unfinished:
        (unfinished / "new").write_text("new")
    assert seen
    assert all(found == {"new": b"new"} for found in seen)
    assert [path.name for path in folder.parent.iterdir()] == ["kept"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_replacement_that_fails_at_any_step_leaves_the_old_folder(
    step: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, calls = Path.rename, []

    def fail(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == step:
            raise OSError(errno.EIO, "Input/output error", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output"), files.replacing_folder(folder) as unfinished:
        (unfinished / "new").write_text("new")
    assert content(folder.parent) == {"kept/old": b"old"}


KILLED = """
import os, signal, sys
from pathlib import Path
from embrepro import files
calls, rename = [], Path.rename
def strike(path, target):
    calls.append(path)
    if len(calls) == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
Path.rename = strike
with files.replacing_folder(Path(sys.argv[1])) as unfinished:
    (unfinished / "new").write_text("new")
"""


@pytest.mark.parametrize("step", ["1", "2"])
def test_a_folder_whose_replacement_was_killed_is_put_back(step: str, folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, step], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    files.clear_leftovers(folder.parent)
    assert content(folder.parent) == {"kept/old": b"old"}


def test_a_killed_writer_leaves_nothing_that_the_next_run_does_not_clear(tmp_path: Path) -> None:
    for name in (".scores.json.123.unfinished", ".STS12.abc.unfinished/data/one.parquet", ".STS12.abc.replaced/old"):
        path = tmp_path / "reports" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    (tmp_path / "reports" / "STS12").mkdir()
    (tmp_path / "reports" / "STS12" / "whole").write_text("whole")
    files.clear_leftovers(tmp_path)
    assert content(tmp_path) == {"reports/STS12/whole": b"whole"}


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_modes_follow_the_umask(mask: int, file: int, folder: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        files.write_text(tmp_path / "file", "text")
        with files.replacing_folder(tmp_path / "folder") as unfinished:
            (unfinished / "inner").write_text("text")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder", "folder/inner")]
    assert modes == [file, folder, file]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, as far as Python knows."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_scratch_of_a_killed_run_is_removed_by_the_next_and_that_of_a_live_one_is_not(temporary: Path) -> None:
    program = (
        f"import sys, time, tempfile; tempfile.tempdir = {str(temporary)!r}\nfrom embrepro import files\n"
        "with files.scratch_folder() as folder:\n    (folder / 'teacher').write_text('large')\n    print(folder, flush=True)\n"
        "    time.sleep(60)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [Path(str(process.stdout and process.stdout.readline().strip())) for process in processes]
    processes[0].kill()
    processes[0].wait()
    assert (folders[0] / "teacher").is_file()
    (temporary / "embrepro-results").mkdir()
    with files.scratch_folder() as own:
        assert own.is_dir()
        assert [folder.exists() for folder in folders] == [False, True]
    processes[1].kill()
    processes[1].wait()
    assert (temporary / "embrepro-results").is_dir(), "no folder of the user's own"
    assert not own.exists()


def on_full_disk(path: Path) -> Iterator[Path]:
    """A small file system, filled up; skips where this user may mount none."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    try:
        with suppress(OSError):
            (path / "filler").write_bytes(b"x" * 2**17)
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    yield from on_full_disk(tmp_path / "full")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_temporary_folder_is_named_and_not_the_target(
    wrapped: bool, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    with (
        pytest.raises(KitError, match=f"No room in the temporary folder {full}.*TMPDIR"),
        files.replacing_folder(tmp_path / "target"),
        files.scratch_folder() as scratch,
    ):
        try:
            (scratch / "large").write_bytes(b"x" * 2**17)
        except OSError as error:
            raise (TaskError("mteb cannot load it") if wrapped else error) from error
    assert not list(tmp_path.glob("target"))


def test_a_full_target_is_named_and_not_the_temporary_folder(full: Path, temporary: Path) -> None:
    (full / "filler").write_bytes(b"")
    with (
        pytest.raises(KitError, match=f"No room to write {full / 'target'}"),
        files.replacing_folder(full / "target") as unfinished,
        files.scratch_folder(),
    ):
        (unfinished / "large").write_bytes(b"x" * 2**17)


def test_json_that_no_writer_of_the_kit_writes_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for spoilt in (b"[" * 100_000, b"9" * 10_000, b"\xff", b"", b"{"):
        path.write_bytes(spoilt)
        with pytest.raises(KitError, match=r"record\.json is damaged"):
            files.read_json(path)


def test_clearing_takes_little_time(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.json").touch()
    started = time.monotonic()
    files.clear_leftovers(tmp_path)
    assert time.monotonic() - started < 2


def test_a_full_disk_that_names_no_file_is_one_clear_line() -> None:
    """As the operating system says it of shared memory, which pools of processes need."""
    from embrepro.cli import program

    said = program.message(OSError(errno.EFBIG, "File too large"))
    assert said.startswith("No room to write in a temporary folder or shared memory (/dev/shm): File too large.")
    # What `multiprocessing.Lock()` raises where a part of its semaphore did fit
    assert program.message(OSError(0, "Error")).startswith("No room to write in a temporary folder or shared memory")
    with pytest.raises(OSError, match="Input/output"):
        program.message(OSError(errno.EIO, "Input/output error"))
