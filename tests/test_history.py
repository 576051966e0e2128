"""`embrepro history`: every metric over the commits that changed it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from embrepro.files import write_json
from embrepro.regression import history
from embrepro.regression.revisions import RevisionError
from revision_project import BASE, CHANGES, PAIRS, QUERIES, Project, begin, benchmarked, copied

pytest_plugins = ["revision_project"]
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Base, a commit that changes no metric, a fall, a lost score; an improvement is not committed."""
    made = begin(tmp_path_factory.mktemp("history") / "walk")
    made.commit(BASE, "first")
    (made.root / "README.md").write_text("words", encoding="utf-8")
    made.git("add", "-A")
    made.git("commit", "--quiet", "-m", "Words only")
    made.commit(CHANGES["regression"], "fall")
    made.commit(CHANGES["lost"], "loss")
    made.write(CHANGES["improvement"])
    return made


def test_only_commits_that_changed_a_metric_count_and_the_working_tree_comes_last(walked: Project) -> None:
    points = history.read(walked.root)
    assert [point.subject for point in points] == [
        "Make it first",
        "Make it fall",
        "Make it loss",
        "not committed",
    ]
    assert [point.label for point in points][-1] == "workspace"


def test_a_series_has_a_value_for_every_commit_and_none_where_the_score_is_missing(walked: Project) -> None:
    found = history.series(history.read(walked.root))
    queries = [mark.value for mark in found["static", QUERIES] if mark]
    assert [round(value - queries[0], 4) for value in queries] == [0.0, -0.03, 0.0, 0.03]
    assert [value is None for value in found["static", PAIRS]] == [False, False, True, False]


def test_it_can_end_at_an_older_revision(walked: Project) -> None:
    assert [point.subject for point in history.read(walked.root, "fall")] == ["Make it first", "Make it fall"]


def test_the_table_shows_the_newest_commits_and_the_change_since_the_first(walked: Project, program: Run) -> None:
    result = program("history", "--last", "2", root=walked.root)
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("static") and QUERIES in line)
    values = re.findall(r"[-+]?0\.\d{4}", line)
    assert len(values) == 3 and values[-1] == "+0.0300"
    assert "workspace" in result.stdout and walked.git("rev-parse", "loss")[:8] in result.stdout


def test_the_page_draws_every_task_and_needs_nothing_but_itself(walked: Project, program: Run, tmp_path: Path) -> None:
    page = tmp_path / "history.html"
    assert program("history", "--html", str(page), root=walked.root).exit_code == 0
    text = page.read_text(encoding="utf-8")
    # One a task, and one of the size; the means are null, so there is nothing to draw.
    assert text.count("<svg ") == len(BASE.found["static"]) + 1
    assert "<script" not in text and "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="(?!#|data:,")', text)
    program("history", "--html", str(page), root=walked.root)
    assert page.read_text(encoding="utf-8") == text


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two commits and a working tree, each with a benchmark, whose file DVC's cache has; scores of the last have intervals."""
    made = begin(tmp_path_factory.mktemp("measured") / "walk")
    made.commit(replace(BASE, speed=benchmarked((10.0, 9.8, 10.2), 500.0)), "first")
    slower = replace(CHANGES["regression"], size_mb=12.0, speed=benchmarked((8.0, 7.8, 8.2), 650.0))
    made.commit(slower, "slower")
    made.write(replace(CHANGES["improvement"], speed=benchmarked((9.0, 8.5, 9.5), 600.0)))
    summary = made.root / "reports" / "summary.json"
    found = json.loads(summary.read_text("utf-8"))
    (row,) = [row for row in found["tasks"] if row["name"] == QUERIES]
    row["cells"]["static"]["interval"] = {"low": 0.4, "high": 0.6}
    write_json(summary, found)
    return made


def test_size_memory_and_speed_have_a_value_with_its_interval_for_every_commit(measured: Project) -> None:
    points = history.read(measured.root)
    found = history.measures(points)
    speed = [(mark.value, mark.low, mark.high) for mark in found["static", "throughput_ratio"] if mark]
    assert speed == [(10.0, 9.8, 10.2), (8.0, 7.8, 8.2), (9.0, 8.5, 9.5)]
    assert [mark and mark.value for mark in found["static", "peak_memory_mb"]] == [500.0, 650.0, 600.0]
    # The size is a single reading.
    assert [mark and (mark.value, mark.low) for mark in found["static", "size_mb"]] == [
        (10.0, None),
        (12.0, None),
        (10.0, None),
    ]
    assert [mark and mark.low for mark in history.series(points)["static", QUERIES]] == [None, None, 0.4]


def test_what_the_cache_lacks_is_left_out(measured: Project, tmp_path: Path) -> None:
    copy = copied(measured, tmp_path)
    shutil.rmtree(copy.root / ".dvc" / "cache")
    found = history.measures(history.read(copy.root))
    assert [mark is None for mark in found["static", "throughput_ratio"]] == [True, True, False]
    assert None not in found["static", "size_mb"]


def test_the_page_draws_measures_and_tells_their_intervals(measured: Project, program: Run, tmp_path: Path) -> None:
    page = tmp_path / "history.html"
    shown = program("history", "--html", str(page), root=measured.root)
    assert "[7.8, 8.2]" in shown.stdout and "[0.4000, 0.6000]" in shown.stdout
    text = page.read_text(encoding="utf-8")
    for measure in ("size_mb", "peak_memory_mb", "throughput_ratio", "latency_ratio"):
        assert f'id="figure-history-{measure}"' in text


def test_a_damaged_or_removed_file_is_a_point_with_its_reason(tmp_path: Path) -> None:
    made = begin(tmp_path / "damaged")
    made.commit(BASE, "first")
    path = made.root / history.METRICS
    path.write_text("{", encoding="utf-8")
    made.git("commit", "--quiet", "-am", "Damage it")
    path.unlink()
    made.git("commit", "--quiet", "-am", "Remove it")
    problems = [point.problem for point in history.read(made.root)]
    assert problems[0] == "" and problems[1].startswith("unreadable") and problems[2] == "removed in this commit"


def test_no_metrics_anywhere_is_an_error_that_says_what_to_commit(tmp_path: Path, program: Run) -> None:
    made = begin(tmp_path / "empty")
    with pytest.raises(RevisionError, match=r"commit reports/ together with dvc\.lock"):
        history.read(made.root)
    assert program("history", root=made.root).exit_code == 2
    assert program("history", "nonsense", root=made.root).exit_code == 2
