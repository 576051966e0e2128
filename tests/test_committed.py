"""`embrepro confirm`: whether a run found the committed numbers to the byte, and what differs if not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from conftest import REPOSITORY
from embrepro import numerics
from embrepro.cli import app
from embrepro.regression import committed
from revision_project import BASE, Project, begin, copied

Run = Callable[..., Result]
SCORE = ("models", "small", "scores", "Queries")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository whose last commit holds the working tree's numbers."""
    project = begin(tmp_path_factory.mktemp("committed") / "a project")
    project.commit(BASE, "base")
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of it, free to be spoilt."""
    return copied(made, tmp_path)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program, in a folder."""

    def invoke(*arguments: str, root: Path) -> Result:
        monkeypatch.chdir(root)
        return CliRunner().invoke(app, list(arguments))

    return invoke


def change(path: Path, keys: tuple[str, ...], by: float) -> None:
    """Add to one number of a JSON file."""
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] += by
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def change_lock(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the stages of a dvc.lock."""
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    change(lock["stages"])
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))


def test_numbers_that_stand_are_equal(project: Project, program: Run) -> None:
    done = program("confirm", root=project.root)
    assert done.exit_code == 0, done.output
    assert "equal those of commit" in done.output


def test_a_number_that_moved_by_its_last_digit_is_named(project: Project, program: Run) -> None:
    change(project.root / "reports" / "metrics.json", SCORE, 2e-16)
    found = committed.confirm(project.root)
    assert found.verdict == "moved"
    assert [(each.file, each.path) for each in found.moved] == [("reports/metrics.json", ".".join(SCORE))]
    done = program("confirm", root=project.root)
    assert done.exit_code == 1
    assert ".".join(SCORE) in done.output


def test_what_was_made_otherwise_first_is_named(project: Project) -> None:
    change(project.root / "reports" / "metrics.json", SCORE, 0.01)

    def other(stages: dict[str, Any]) -> None:
        stages["evaluate"]["outs"][0]["md5"] = "0" * 32

    change_lock(project.root, other)
    found = committed.confirm(project.root)
    assert found.verdict == "moved"
    assert (
        found.made
        == f"{yaml.safe_load((project.root / 'dvc.lock').read_text())['stages']['evaluate']['outs'][0]['path']} (stage evaluate)"
    )


@pytest.mark.parametrize("what", ["requirements/cpu.lock", "seed in params.yaml"])
def test_a_run_of_other_settings_or_packages_is_another_run(what: str, project: Project, program: Run) -> None:
    change(project.root / "reports" / "metrics.json", SCORE, 0.01)

    def other(stages: dict[str, Any]) -> None:
        if what.startswith("seed"):
            stages["evaluate"]["params"]["params.yaml"]["seed"] = 7
        else:
            stages["evaluate"]["deps"][0]["md5"] = "0" * 32

    change_lock(project.root, other)
    assert committed.confirm(project.root).entered == [what]
    done = program("confirm", root=project.root)
    assert done.exit_code == 2
    assert "of another run" in done.output
    assert what in done.output


def test_the_code_of_a_stage_enters_and_its_neighbours_outputs_do_not() -> None:
    lock = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    stages = {
        name.replace("encode", "encode@x"): {
            "deps": [{"path": path, "md5": "1"} for path in stage.get("do", stage).get("deps", [])],
            "outs": [
                {"path": next(iter(out)) if isinstance(out, dict) else out}
                for out in stage.get("do", stage).get("outs", [])
            ],
        }
        for name, stage in lock.items()
    }
    entered = committed._entered(stages)
    assert {"code of download", "code of encode", "code of evaluate", "code of aggregate", "conf/pins"} <= set(entered)
    assert not {"reports/speed", "data/tasks", "src/embrepro", "code of report"} & set(entered)


def test_no_numbers_and_no_repository_cannot_be_judged(project: Project, tmp_path: Path, program: Run) -> None:
    (project.root / "reports" / "summary.json").unlink()
    done = program("confirm", root=project.root)
    assert done.exit_code == 2
    outside = tmp_path / "outside"
    shutil.copytree(project.root / "reports", outside / "reports")
    assert program("confirm", root=outside).exit_code == 2


def test_a_machine_without_portable_numerics_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    change(project.root / "reports" / "metrics.json", SCORE, 0.01)
    monkeypatch.setattr(numerics, "why_not_portable", lambda: "the processor has no AVX2")
    assert committed.confirm(project.root).remarks == [
        "Numerics are not portable on this machine: the processor has no AVX2."
    ]
