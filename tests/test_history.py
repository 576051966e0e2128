"""`embrepro history`: every metric over the commits that changed it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from embrepro.regression import history
from embrepro.regression.revisions import RevisionError
from revision_project import BASE, CHANGES, PAIRS, QUERIES, Project, begin

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
    queries = found["static", QUERIES]
    assert [round(value - queries[0], 4) for value in queries] == [0.0, -0.03, 0.0, 0.03]  # type: ignore[operator]
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
    assert text.count("<svg ") == len(BASE.found["static"])  # the means are null, so there is nothing to draw
    assert "<script" not in text and "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="(?!#|data:,")', text)
    program("history", "--html", str(page), root=walked.root)
    assert page.read_text(encoding="utf-8") == text


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
