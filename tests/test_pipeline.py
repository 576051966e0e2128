"""The pipeline as users run it: the `dvc` program on a clone of this repository, with tiny models and real mteb tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import build_static_model, copy_repository

pytestmark = pytest.mark.slow

TASKS = ["EmbreproTopicClustering", "EmbreproCodeUnderstanding"]


class Project:
    """A clone with two tiny static models, and the program's environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder.parent / "home"
        home.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("EMBREPRO", "HF_", "DVC"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "HF_HUB_OFFLINE": "1",
            "HOME": str(home),
            "OMP_WAIT_POLICY": "PASSIVE",
            **{
                f"GIT_{role}_{what}": f"test{'@test' if what == 'EMAIL' else ''}"
                for role in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def run(self, *command: str, code: int | None = 0, **variables: str) -> str:
        """Run a command and return all it printed; its exit code must be `code`, or not zero where that is None."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code if code is not None else done.returncode != 0, said
        return said

    @property
    def metrics(self) -> dict[str, Any]:
        """The DVC metric."""
        return json.loads((self.folder / "reports" / "metrics.json").read_text())


def _write_model(folder: Path, key: str, dimensions: int) -> None:
    build_static_model(folder / "models" / key, dimensions=dimensions, dtype="float32")
    definition = {"org": "test", "name": key, "family": "static", "folder": f"models/{key}"}
    text = yaml.safe_dump({"candidate": key, "models": {key: definition}})
    (folder / "conf" / "model" / f"{key}.yaml").write_text(f"# @package _global_\n{text}")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose default is two tiny models on two small tasks, run once."""
    folder = tmp_path_factory.mktemp("project") / "kit with a space"
    copy_repository(folder)
    for key, dimensions in (("small", 16), ("large", 64)):
        _write_model(folder, key, dimensions)
    defaults = (folder / "conf" / "config.yaml").read_text()
    defaults = defaults.replace("baseline: minilm", "baseline: large").replace("model: static_minilm", "model: small")
    for slow, quick in (
        ("repeats: 9", "repeats: 6"),
        ("[1, 8, 32, 128]", "[32]"),
        ("seconds: 0.05", "seconds: 0.001"),
    ):
        assert slow in defaults
        defaults = defaults.replace(slow, quick)
    (folder / "conf" / "config.yaml").write_text(defaults)
    (folder / "conf" / "tasks" / "custom.yaml").write_text(yaml.safe_dump({"names": TASKS}))
    made = Project(folder)
    made.run("git", "init", "-q", "-b", "main")
    (folder / ".dvc" / "site-cache").mkdir()
    made.run("dvc", "config", "--local", "core.site_cache_dir", str(folder / ".dvc" / "site-cache"))
    made.run("embrepro", "compose", "--write")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-qm", "start")
    made.run("dvc", "repro")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-qm", "results")
    return made


def test_a_run_scores_every_requested_task(project: Project) -> None:
    for model in ("small", "large"):
        scores = project.metrics["models"][model]
        assert set(scores["scores"]) == set(TASKS)
        assert scores["mean_task"] == pytest.approx(sum(scores["scores"].values()) / len(TASKS))
        assert set(project.metrics["status"][model].values()) == {"scored"}
    assert "small" in (project.folder / "reports" / "report.md").read_text()


def test_a_second_run_does_nothing(project: Project) -> None:
    said = project.run("dvc", "repro")
    assert "Data and pipelines are up to date." in said
    assert "Running stage" not in said


def test_another_candidate_leaves_the_baseline_alone(project: Project) -> None:
    _write_model(project.folder, "middle", 32)
    project.run("git", "add", "conf")
    said = project.run("dvc", "exp", "run", "-S", "model=middle")
    assert "encode middle" in said
    assert "Stage 'encode@large' didn't change" in said
    assert "evaluate@large' didn't change" in said
    assert set(project.metrics["models"]) == {"middle", "large"}
    assert "middle" in project.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert project.run("dvc", "metrics", "diff", "--md").count("|") > 4
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q", "--force")


def test_a_queue_runs_one_experiment_for_each_candidate(project: Project) -> None:
    _write_model(project.folder, "middle", 32)
    project.run("git", "add", "conf")
    project.run("git", "commit", "-qm", "another model")
    project.run("dvc", "exp", "run", "--queue", "-S", "model=middle,large")
    project.run("dvc", "exp", "run", "--run-all")
    shown = json.loads(project.run("dvc", "exp", "show", "--json"))
    experiments = [experiment for commit in shown for experiment in commit.get("experiments") or []]
    assert len(experiments) >= 2


def test_tasks_by_name_on_the_command_line(project: Project) -> None:
    project.run("dvc", "exp", "run", "-S", "tasks.names=[EmbreproTopicClustering]")
    assert list(project.metrics["models"]["small"]["scores"]) == ["EmbreproTopicClustering"]
    assert [path.name for path in (project.folder / "data" / "tasks").iterdir()] == ["EmbreproTopicClustering"]
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q", "--force")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model=smal", "small"),
        ("tasks=custon", "custom"),
        ("tasks.nmaes=[STS12]", "tasks.nmaes"),
        ("tasks.names=[EmbreproTopicClusterin]", "did you mean EmbreproTopicClustering"),
        ("tasks.languages=[en]", "did you mean eng?"),
        ("device=cuda", "there is no GPU to use"),
    ],
)
def test_a_wrong_word_is_refused_before_any_work(project: Project, override: str, hint: str) -> None:
    before = project.metrics
    said = project.run("dvc", "exp", "run", "-S", override, code=None)
    assert hint in said
    assert "encode small" not in said
    project.run("git", "checkout", "-q", ".")
    assert project.metrics == before


def test_a_task_that_cannot_be_had_is_a_row_with_its_reason(project: Project) -> None:
    said = project.run("dvc", "exp", "run", "-S", "tasks.names=[EmbreproTopicClustering,STS12]", code=None)
    assert "STS12: data set mteb/sts12-sts" in said
    assert "1 task without a score" in said
    assert "STS12 (large, small): " in said
    metrics = project.metrics
    assert metrics["models"]["small"]["scores"]["EmbreproTopicClustering"] is not None
    assert metrics["models"]["small"]["mean_task"] is None
    assert "HF_HUB_OFFLINE" in metrics["status"]["small"]["STS12"]
    assert "STS12" in (project.folder / "reports" / "report.md").read_text()
    again = project.run("dvc", "repro", code=None)
    assert "Running stage 'download'" in again, "the lost task must be tried again"
    assert "EmbreproTopicClustering: " in again
    project.run(
        "dvc",
        "exp",
        "run",
        "-S",
        "tasks.names=[EmbreproTopicClustering,STS12]",
        "-S",
        "tasks.allow_missing=true",
    )
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q", "--force")
