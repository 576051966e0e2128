"""The README's excerpt is the committed run's, and the commands it names exist."""

from __future__ import annotations

import json
import re

from typer.testing import CliRunner

from conftest import REPOSITORY
from embrepro.cli import app

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_excerpt_holds_the_scores_of_the_committed_run() -> None:
    models = json.loads((REPOSITORY / "reports" / "metrics.json").read_text())["models"]
    table = [line.split("|") for line in README.splitlines() if line.startswith("> | Embrepro")]
    rows = {cells[1].split()[0]: cells for cells in table}
    for task, score in models["minilm"]["scores"].items():
        baseline, candidate = rows[task][4], rows[task][5]
        assert baseline.split()[0] == f"{100 * score:.2f}", task
        assert candidate.split()[0] == f"{100 * models['static_minilm']['scores'][task]:.2f}", task


def test_every_command_and_page_it_names_exists() -> None:
    commands = CliRunner().invoke(app, ["--help"]).output
    for command in set(re.findall(r"`embrepro ([a-z]+)", README)):
        assert re.search(rf"^\W*{command}\b", commands, re.MULTILINE), command
    for page in re.findall(r"\]\(([\w/.-]+)\)", README):
        assert (REPOSITORY / page).is_file(), page
