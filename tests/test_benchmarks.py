"""Each benchmark runs, at sizes that take seconds; and the page of results is what the results say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import against_mteb, encode_rate, measuring, pages, scale, search

import preloaded
from embrepro.files import read_json
from embrepro.rendering.formats import DASH

TASK = "EmbreproTopicClustering"


def test_the_page_is_what_the_results_say() -> None:
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(), "run: python -m benchmarks.pages"


def test_a_benchmark_that_was_not_run_is_named(tmp_path: Path) -> None:
    assert pages.page(tmp_path).count("Not measured yet: python -m benchmarks.") == len(pages.TITLES)


def test_a_page_of_all_results(tmp_path: Path) -> None:
    rows = [{"task": "STS12", "share": 0.853, "same": True, "seconds": None}]
    for name in pages.TITLES:
        measuring.keep(tmp_path / f"{name}.json", name, {"repeats": 3, "out": tmp_path}, rows, ["A note."])
    text = pages.page(tmp_path)
    assert f"| STS12 | 0.853 | yes | {DASH} |" in text
    assert "repeats 3" in text and str(tmp_path) not in text


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, preloaded_workers: None) -> None:
    """The processes that are timed have their libraries already, and are looked at often, as they take no second."""
    monkeypatch.setattr(sys, "executable", str(preloaded.programs() / "python-with-libraries"))
    monkeypatch.setattr(measuring, "LOOK_SECONDS", 0.05)


def test_memory_tells_what_is_mapped_from_what_is_not(tmp_path: Path) -> None:
    size = 64 * 2**20
    (tmp_path / "a").write_bytes(b"\1" * size)
    command = (
        "import mmap, sys; file = open(sys.argv[1], 'rb'); held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)"
    )
    command += f"; sum(held[::4096]); own = bytearray(b'x') * {size}; print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", command, str(tmp_path / "a")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        held, anonymous = measuring.memory(process.pid)
        assert process.stdin
        process.stdin.close()
    assert size <= anonymous < 1.5 * size
    assert 2 * size <= held < 2.5 * size


@pytest.mark.slow
def test_search(tmp_path: Path) -> None:
    search.main(f"--documents 300 --queries 5 --dimensions 8 --top-k 20 --repeats 1 --out {tmp_path}/s.json".split())
    rows = read_json(tmp_path / "s.json")["rows"]
    assert [row["search"] for row in rows] == ["mteb", "kit"]
    assert all(row["same_results"] for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("loaded")
def test_scale(tmp_path: Path) -> None:
    scale.main(f"--documents 300 --workers 1 2 --folder {tmp_path}/scratch --out {tmp_path}/s.json".split())
    rows = read_json(tmp_path / "s.json")["rows"]
    assert [(row["workers"], row["stage"]) for row in rows] == [
        *((1, stage) for stage in ("download", "encode", "evaluate", "aggregate")),
        *((2, stage) for stage in ("encode", "evaluate")),
    ]
    assert all(row["seconds"] > 0 and row["peak_GB"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("loaded")
def test_encode_rate(tmp_path: Path) -> None:
    words = f"--models minilm --tasks {TASK} --workers 1 --seconds 0.2 --repeats 1 --folder {tmp_path}/scratch"
    encode_rate.main([*words.split(), "--out", f"{tmp_path}/e.json"])
    (row,) = read_json(tmp_path / "e.json")["rows"]
    assert 0 < row["share"] < 2
    assert row["tokens_a_second"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("loaded")
def test_against_mteb(tmp_path: Path) -> None:
    words = f"--models minilm minilm --repeats 1 --folder {tmp_path}/scratch --out {tmp_path}/a.json"
    against_mteb.main([*words.split(), "--set", f"tasks.names=[{TASK}]"])
    whole, task = read_json(tmp_path / "a.json")["rows"]
    assert (whole["task"], task["task"]) == ("all", TASK)
    assert whole["largest_score_difference"] < 1e-6
    assert whole["times_as_fast"] > 0
    assert task["kit_seconds"] is not None
