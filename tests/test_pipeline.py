"""The pipeline as users run it: the `dvc` program on a clone of this repository, with tiny models and real mteb tasks."""

from __future__ import annotations

import json
import re

import pytest

from checkout import TASKS, Checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(project_that_ran: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A project that ran once, with one model more."""
    made = project_that_ran.copy(tmp_path_factory.mktemp("pipeline") / "kit with a space")
    made.write_model("middle", folder="models/16")
    made.commit("another model")
    # The report reads every model's file.
    made.run("dvc", "repro", "--quiet")
    made.commit("its report")
    return made


def restore(project: Checkout) -> None:
    """Lay out again what was committed."""
    project.run("git", "checkout", "--quiet", ".")
    project.run("dvc", "checkout", "--quiet", "--force")


def test_a_run_scores_every_requested_task(project: Checkout) -> None:
    for model in ("mine", "other"):
        scores = project.metrics["models"][model]
        assert set(scores["scores"]) == set(TASKS)
        assert scores["mean_task"] == pytest.approx(sum(scores["scores"].values()) / len(TASKS))
        assert set(project.metrics["status"][model].values()) == {"scored"}
    assert "mine" in (project.folder / "reports" / "report.md").read_text()


def test_a_second_run_does_nothing(project: Checkout) -> None:
    said = project.run("dvc", "repro")
    assert "Data and pipelines are up to date." in said
    assert "Running stage" not in said


def test_a_comment_runs_no_stage_and_code_exactly_those_that_import_it(project: Checkout) -> None:
    module = project.folder / "src" / "embrepro" / "rendering" / "render_html.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(f"{text}# a comment\n", encoding="utf-8")
    assert re.findall(r"Running stage '([\w@]+)'", project.run("dvc", "repro")) == ["code"]
    module.write_text(f"{text}changed = True\n", encoding="utf-8")
    project.run("dvc", "repro", "code")
    assert set(json.loads(project.run("dvc", "status", "--json"))) == {"report"}
    restore(project)


def test_another_candidate_leaves_the_baseline_alone(project: Checkout) -> None:
    said = project.run("dvc", "exp", "run", "-S", "model=middle")
    assert "encode middle" in said
    assert "Stage 'encode@other' didn't change" in said
    assert "evaluate@other' didn't change" in said
    assert set(project.metrics["models"]) == {"middle", "other"}
    assert "middle" in project.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert project.run("dvc", "metrics", "diff", "--md").count("|") > 4
    restore(project)


def test_a_queue_runs_one_experiment_for_each_candidate(project: Checkout) -> None:
    project.run("dvc", "exp", "run", "--queue", "-S", "model=middle,other")
    project.run("dvc", "exp", "run", "--run-all")
    shown = json.loads(project.run("dvc", "exp", "show", "--json"))
    experiments = [experiment for commit in shown for experiment in commit.get("experiments") or []]
    assert len(experiments) >= 2


def test_an_experiment_takes_what_one_that_failed_had_made(project: Checkout) -> None:
    """DVC deletes the folder of a queued experiment that fails."""
    words = ["dvc", "exp", "run", "--temp", "-S", "tasks.names=[EmbreproSemanticSimilarity,STS12]"]
    assert "1 task without a score" in project.run(*words, code=None)
    said = project.run(*words, "-n", "whole", "-S", "tasks.allow_missing=true")
    assert len(re.findall(r"EmbreproSemanticSimilarity: .* \(from another experiment\)", said)) == 3
    shown = project.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert "whole" in shown


def test_a_baseline_that_cannot_be_had_leaves_the_candidate_its_report(project: Checkout) -> None:
    words = ("-S", "baseline=mpnet", "-S", "tasks.names=[EmbreproCodeUnderstanding]", "-S", "tasks.allow_missing=true")
    said = project.run("dvc", "exp", "run", *words)
    assert "model mpnet: model sentence-transformers/all-mpnet-base-v2 at revision" in said
    assert "Running stage 'benchmark@mine'" in said
    scores = {key: each["scores"]["EmbreproCodeUnderstanding"] for key, each in project.metrics["models"].items()}
    assert scores["mpnet"] is None
    assert scores["mine"] > 0
    assert "all-mpnet-base-v2" in (project.folder / "reports" / "report.md").read_text()
    restore(project)


def test_tasks_by_name_on_the_command_line(project: Checkout) -> None:
    project.run("dvc", "exp", "run", "-S", "tasks.names=[EmbreproCodeUnderstanding]")
    assert list(project.metrics["models"]["mine"]["scores"]) == ["EmbreproCodeUnderstanding"]
    assert [path.name for path in (project.folder / "data" / "tasks").iterdir()] == ["EmbreproCodeUnderstanding"]
    restore(project)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model=mime", "did you mean mine"),
        ("tasks=custon", "custom"),
        ("tasks.nmaes=[STS12]", "tasks.nmaes"),
        ("tasks.names=[EmbreproCodeUnderstandin]", "did you mean EmbreproCodeUnderstanding"),
        ("tasks.languages=[en]", "did you mean eng?"),
        ("device=cuda", "there is no GPU to use"),
    ],
)
def test_a_wrong_word_is_refused_before_any_work(project: Checkout, override: str, hint: str) -> None:
    before = project.metrics
    said = project.run("dvc", "exp", "run", "-S", override, code=None)
    assert hint in said
    assert "encode mine" not in said
    project.run("git", "checkout", "-q", ".")
    assert project.metrics == before


def test_a_task_that_cannot_be_had_is_a_row_with_its_reason(project: Checkout) -> None:
    said = project.run("dvc", "exp", "run", "-S", "tasks.names=[EmbreproCodeUnderstanding,STS12]", code=None)
    assert "STS12: data set mteb/sts12-sts" in said
    assert "1 task without a score" in said
    assert "STS12 (other, mine): " in said
    metrics = project.metrics
    assert metrics["models"]["mine"]["scores"]["EmbreproCodeUnderstanding"] is not None
    assert metrics["models"]["mine"]["mean_task"] is None
    assert "HF_HUB_OFFLINE" in metrics["status"]["mine"]["STS12"]
    assert "STS12" in (project.folder / "reports" / "report.md").read_text()
    again = project.run("dvc", "repro", code=None)
    assert "Running stage 'download'" in again, "the lost task must be tried again"
    assert "EmbreproCodeUnderstanding: " in again
    project.run(
        "dvc",
        "exp",
        "run",
        "-S",
        "tasks.names=[EmbreproCodeUnderstanding,STS12]",
        "-S",
        "tasks.allow_missing=true",
    )
    restore(project)
