"""The README's excerpt is the committed run's; the commands, files and pages that the documents name exist."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conftest import REPOSITORY
from embrepro.cli import app

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_excerpt_holds_the_scores_of_the_committed_run() -> None:
    models = json.loads((REPOSITORY / "reports" / "metrics.json").read_text())["models"]
    table = [line.split("|") for line in README.splitlines() if line.startswith("> | Embrepro")]
    rows = {cells[1].split()[0]: cells for cells in table}
    for task, score in models["minilm"]["scores"].items():
        baseline, candidate = rows[task][4], rows[task][5]
        assert baseline.split()[0] == f"{100 * score:.2f}", task
        assert candidate.split()[0] == f"{100 * models['static_minilm']['scores'][task]:.2f}", task


def test_every_command_it_names_exists() -> None:
    commands = CliRunner().invoke(app, ["--help"]).output
    for command in set(re.findall(r"`embrepro ([a-z]+)", README)):
        assert re.search(rf"^\W*{command}\b", commands, re.MULTILINE), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_and_file_that_a_page_links_to_exists(page: Path) -> None:
    linked = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in linked if "://" not in link and not (page.parent / link).exists()] == []


def test_every_file_that_the_contributors_guide_names_exists() -> None:
    named = re.findall(r"`((?:[\w.]+/)*[\w.-]+\.(?:py|md|yaml|toml))`", (REPOSITORY / "CONTRIBUTING.md").read_text())
    roots = (REPOSITORY, REPOSITORY / "src" / "embrepro")
    assert len(named) > 20
    assert [name for name in named if not any((root / name).is_file() for root in roots)] == []


def test_the_hooks_before_a_commit_are_the_checks_of_make_lint() -> None:
    (local,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["id"]: hook["entry"] for hook in local["hooks"]}
    makefile = (REPOSITORY / "Makefile").read_text()
    for name in ("ruff-check", "ruff-format", "mypy"):
        assert hooks[name] in makefile.split("\nlint:")[1].split("\n\n")[0]


def test_the_citation_names_the_version_that_is_built() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"] == version
