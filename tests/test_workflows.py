"""The workflows: safe by zizmor's rules and ours, valid by GitHub's schema, made of commands for any machine.

The regression workflow is also run: its steps, taken from the file, on clones of a small project, for changes
whose effect is known. One thing is replaced: `make env` finds the environment that runs these tests, so that
it need not build one.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from local_workflow import (
    TASKS,
    Clone,
    Expression,
    Inputs,
    JobResult,
    LocalRunner,
    UnknownExpressionError,
    Value,
    make_project,
)

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
REGRESSION = REPOSITORY / ".github" / "workflows" / "regression.yml"
# The commits of these versions; a new one is looked at before it is entered here.
KNOWN_ACTIONS = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "actions/cache": ("0057852bfaa89a56745cba8c7296529d2fc39830", "v4"),
    "actions/upload-artifact": ("ea165f8d65b6e75b540449e92b4886f43607fa02", "v4.6.2"),
    "actions/download-artifact": ("d3f86a106a0bac45b974a628896c90dbdf5c8093", "v4.3.0"),
}
JOBS = [
    pytest.param(workflow, job, id=f"{workflow.stem}-{job}")
    for workflow in WORKFLOWS
    for job in yaml.safe_load(workflow.read_text())["jobs"]
]
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.stem)
each_job = pytest.mark.parametrize(("workflow", "job"), JOBS)


def _program(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / name
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def _zizmor(folder: Path) -> subprocess.CompletedProcess[str]:
    return _program("zizmor", "--offline", "--persona", "pedantic", "--no-progress", folder)


def _read(workflow: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(workflow.read_text())
    loaded["on"] = loaded.pop(True)  # YAML 1.1 reads the key `on` as a truth value
    return loaded


def _job(workflow: Path, job: str) -> dict[str, Any]:
    return _read(workflow)["jobs"][job]


def _scripts(workflow: Path) -> Iterator[str]:
    for job in _read(workflow)["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)


class TestChecks:
    def test_zizmor_finds_nothing(self) -> None:
        done = _zizmor(REPOSITORY / ".github")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_zizmor_would_find_something(self, tmp_path: Path) -> None:
        workflow = shutil.copytree(REPOSITORY / ".github", tmp_path / ".github") / "workflows" / "regression.yml"
        workflow.write_text(workflow.read_text().replace("  pull_request:\n", "  pull_request_target:\n"))
        assert "dangerous-triggers" in _zizmor(tmp_path / ".github").stdout

    def test_github_knows_every_key(self) -> None:
        done = _program("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
        assert done.returncode == 0, done.stdout

    def test_dependabot_knows_every_key(self) -> None:
        file = REPOSITORY / ".github" / "dependabot.yml"
        done = _program("check-jsonschema", "--builtin-schema", "vendor.dependabot", file)
        assert done.returncode == 0, done.stdout


class TestRules:
    @each_workflow
    def test_actions_are_known_ones_pinned_by_commit_with_their_version_beside(self, workflow: Path) -> None:
        text = workflow.read_text()
        pinned = re.findall(r"^ *-? ?uses: ([\w-]+/[\w-]+)(?:/\w+)?@([0-9a-f]{40}) # (v[\d.]+)$", text, re.MULTILINE)
        assert len(pinned) == text.count("uses:")
        for action, commit, version in pinned:
            assert KNOWN_ACTIONS[action] == (commit, version)

    @each_workflow
    def test_permissions_start_from_none(self, workflow: Path) -> None:
        assert _read(workflow)["permissions"] == {}

    @each_job
    def test_a_job_may_read_the_code_or_write_the_comment_and_nothing_else(self, workflow: Path, job: str) -> None:
        may = {"pull-requests": "write"} if job == "comment" else {"contents": "read"}
        assert _job(workflow, job)["permissions"] == may

    @each_job
    def test_a_job_ends_some_time(self, workflow: Path, job: str) -> None:
        assert _job(workflow, job)["timeout-minutes"] <= 360

    @each_workflow
    def test_newer_pushes_do_not_run_beside_older_ones(self, workflow: Path) -> None:
        assert "${{ github.ref }}" in _read(workflow)["concurrency"]["group"]

    @each_workflow
    def test_no_secrets_and_no_trigger_that_gives_a_fork_more_than_reading(self, workflow: Path) -> None:
        assert "secrets." not in workflow.read_text()
        assert set(_read(workflow)["on"]) <= {"push", "pull_request", "schedule", "workflow_dispatch"}

    @each_workflow
    def test_a_checkout_leaves_no_token_behind(self, workflow: Path) -> None:
        for job in _read(workflow)["jobs"].values():
            for step in job["steps"]:
                if "actions/checkout" in step.get("uses", ""):
                    assert step["with"]["persist-credentials"] is False

    @each_workflow
    def test_no_expression_is_pasted_into_a_script(self, workflow: Path) -> None:
        assert not [script for script in _scripts(workflow) if "${{" in script]


class TestThinness:
    @each_workflow
    def test_every_make_target_exists(self, workflow: Path) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
        used = {word for script in _scripts(workflow) for word in re.findall(r"\bmake ([a-z-]+)", script)}
        assert used
        assert used <= targets

    @each_workflow
    def test_every_embrepro_command_exists(self, workflow: Path) -> None:
        from embrepro.cli import app

        known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
        used = {word for script in _scripts(workflow) for word in re.findall(r"\bembrepro ([a-z]+)", script)}
        assert used <= known

    def test_the_scheduled_matrix_is_made_of_files_of_conf(self) -> None:
        matrix = _job(REGRESSION.with_name("scheduled.yml"), "run")["strategy"]["matrix"]
        for key, group in (("model", "model"), ("tasks", "tasks")):
            names = json.loads(re.search(r"\|\| '(.*)'", matrix[key]).group(1))  # type: ignore[union-attr]
            assert len(names) > 1
            for name in names:
                assert (REPOSITORY / "conf" / group / f"{name}.yaml").is_file()


class TestExpressions:
    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("github.event_name == 'push'", True),
            ("github.event_name != 'push' || !cancelled()", True),
            ("!(github.event_name == 'push' && !cancelled())", False),
            ("github.nothing || 'other'", "other"),
        ],
    )
    def test_they_come_to_what_github_makes_of_them(self, source: str, value: str | bool) -> None:
        given: dict[str, Value] = {"github.event_name": "push", "github.nothing": "", "cancelled()": False}
        assert Expression(source, given).value() == value

    @pytest.mark.parametrize("source", ["github.actor", "hashFiles('dvc.lock')", "github.a +", "('a'", "'a' 'b'"])
    def test_what_is_not_known_is_refused(self, source: str) -> None:
        with pytest.raises(UnknownExpressionError):
            Expression(source, {"github.event_name": "push"}).value()


class TestComment:
    @pytest.mark.parametrize(
        ("event", "head", "wanted"),
        [("pull_request", "us/kit", True), ("pull_request", "them/kit", False), ("push", "", False)],
    )
    def test_it_is_for_pull_requests_from_this_repository(self, event: str, head: str, wanted: bool) -> None:
        condition = _job(REGRESSION, "comment")["if"].strip().removeprefix("${{").removesuffix("}}")
        values: dict[str, Value] = {
            "cancelled()": False,
            "github.event_name": event,
            "github.repository": "us/kit",
            "github.event.pull_request.head.repo.full_name": head,
        }
        assert bool(Expression(condition, values).value()) is wanted

    def test_the_job_that_may_write_runs_nothing_of_the_change(self) -> None:
        steps = _job(REGRESSION, "comment")["steps"]
        assert [step["uses"].split("@")[0] for step in steps if "uses" in step] == ["actions/download-artifact"]
        assert not re.search(r"\b(make|embrepro|dvc|git|python|bash|sh|source|eval)\b\s", steps[-1]["run"])

    @pytest.mark.parametrize(
        ("existing", "request_line"),
        [
            ("", "--method POST repos/us/kit/issues/7/comments"),
            ("41\n52\n", "--method PATCH repos/us/kit/issues/comments/41"),
        ],
    )
    def test_it_is_written_once_and_then_written_anew(self, tmp_path: Path, existing: str, request_line: str) -> None:
        # A stand-in for `gh`, which only works with GitHub: it lists the given comments and notes requests.
        folder, tools = tmp_path / "work", tmp_path / "tools"
        folder.mkdir()
        tools.mkdir()
        (tools / "listed").write_text(existing)
        (tools / "gh").write_text(
            '#!/bin/bash\n[[ "$*" != *--paginate* ]] || exec cat "${0%gh}listed"\necho "$*" >>"${0%gh}requests"\n'
        )
        (tools / "gh").chmod(0o755)

        def get(_: Inputs) -> None:
            (folder / "gate.md").write_text("| `$(touch bad)` |\n" * 9999)

        runner = LocalRunner(
            folder,
            values={
                "github.token": "token",
                "github.event.pull_request.number": "7",
                "github.server_url": "https://host",
                "github.repository": "us/kit",
                "github.run_id": "1",
            },
            actions={"actions/download-artifact": get},
            environment={"PATH": f"{tools}:/usr/bin:/bin", "GITHUB_REPOSITORY": "us/kit"},
        )
        done = runner.run(REGRESSION, "comment")
        assert done.outcome == "success", done.log
        assert request_line in (tools / "requests").read_text()
        body = (folder / "comment.md").read_text()
        assert body.startswith("<!-- regression -->\n| `$(touch bad)` |")
        assert body.endswith("[Report and numbers](https://host/us/kit/actions/runs/1)\n")
        assert len(body) < 65536, "longer ones are refused"
        assert not (folder / "bad").exists()


@dataclass
class Site:
    """What a hosting site does: it holds the repository and a cache, and runs the regression workflow."""

    folder: Path
    origin: Clone
    cache: dict[str, Path] = field(default_factory=dict)
    runs: int = 0

    def push(self) -> JobResult:
        """Run the workflow for the tip of the main branch."""
        clone = self._working_copy()
        return self._run(
            clone,
            {"github.event_name": "push", "github.base_ref": "", "github.event.pull_request.base.sha": ""},
        )

    def pull_request(self, change: Callable[[Clone], None]) -> JobResult:
        """Run the workflow for a change, merged into the main branch as GitHub merges it for a trial."""
        author = self.origin.clone(self.folder / f"author{self.runs}" / "kit")
        author.run("git checkout --quiet -b change")
        change(author)
        author.commit("A change")
        clone = self._working_copy()
        clone.run(f"git fetch --quiet '{author.folder}' change")
        clone.run("git checkout --quiet --detach main")
        clone.run("git merge --quiet --no-ff --message merge FETCH_HEAD")
        base = clone.run("git rev-parse origin/main").strip()
        values = {
            "github.event_name": "pull_request",
            "github.base_ref": "main",
            "github.event.pull_request.base.sha": base,
        }
        return self._run(clone, values)

    @property
    def artifact(self) -> Path:
        """Where the last run's artifact lies."""
        return self.folder / f"run{self.runs}" / "artifact"

    def _working_copy(self) -> Clone:
        self.runs += 1
        return self.origin.clone(self.folder / f"run{self.runs}" / "kit with a space")

    def _run(self, clone: Clone, values: dict[str, str]) -> JobResult:
        commit = clone.run("git rev-parse HEAD").strip()

        def restore(inputs: Inputs) -> None:
            kept = self.cache.get(inputs["key"]) or next(
                (kept for key, kept in reversed(self.cache.items()) if key.startswith(inputs["restore-keys"])),
                None,
            )
            if kept:
                shutil.copytree(kept, clone.folder, dirs_exist_ok=True)

        def save(inputs: Inputs) -> None:
            kept = self.folder / f"cache{len(self.cache)}"
            for path in inputs["path"].split():
                source, target = clone.folder / path, kept / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
            self.cache[inputs["key"]] = kept

        def upload(inputs: Inputs) -> None:
            self.artifact.mkdir()
            for path in inputs["path"].split():
                if (clone.folder / path).is_file():
                    shutil.copy2(clone.folder / path, self.artifact)

        def nothing(_: Inputs) -> None:
            pass

        actions = {
            "actions/checkout": nothing,  # the clone is there
            "actions/setup-python": nothing,  # so is the environment
            "actions/cache/restore": restore,
            "actions/cache/save": save,
            "actions/upload-artifact": upload,
        }
        runner = LocalRunner(
            clone.folder,
            {**values, "github.sha": commit},
            actions,
            clone.environment | {"GITHUB_SHA": commit},
        )
        return runner.run(REGRESSION, "regression")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose main branch ran once, with a candidate of 32 dimensions."""
    folder = tmp_path_factory.mktemp("site")
    made = Site(folder, make_project(folder / "origin" / "kit", dimensions=(32, 2, 256)))
    first = made.push()
    assert first.outcome == "success", first.log
    assert first.step("Compare with the base").outcome == "skipped"
    assert "installing" not in first.log, "the steps must find the environment of the tests"
    return made


@pytest.mark.slow
class TestRegressionWorkflow:
    def test_a_second_run_of_the_same_commit_computes_nothing_anew(self, site: Site) -> None:
        done = site.push()
        assert done.outcome == "success", done.log
        ran = re.findall(r"Running stage '([\w@]+)'", done.log)
        assert set(ran) <= {"aggregate", "report", "check"}, "only what writes the reports anew"

    def test_a_harmless_change_passes(self, site: Site) -> None:
        done = site.pull_request(lambda author: author.set(model={"folder": "models/32", "dtype": "float16"}))
        assert done.outcome == "success", done.log
        assert "Regression gate: passes" in done.summary
        assert "mine, dtype" in done.summary, "the page says what else changed"
        affected = re.findall(r"Running stage '([\w@]+)'", done.step("Run the affected stages").output)
        assert "encode@mine" in affected
        assert not {"encode@other", "evaluate@other"} & set(affected), "the baseline is not affected"
        made = {file.name for file in site.artifact.iterdir()}
        assert made == {"gate.md", "metrics.json", "report.html", "report.md"}
        assert (site.artifact / "gate.md").read_text() == done.summary

    def test_a_real_regression_fails_and_is_named(self, site: Site) -> None:
        done = site.pull_request(lambda author: author.set(model={"folder": "models/2"}))
        assert done.step("Compare with the base").outcome == "failure", done.log
        assert done.step("Run the affected stages").outcome == "success"
        assert done.outcome == "failure"
        assert "Regression gate: fails" in done.summary
        assert "EmbreproInstructionAwareness" in done.summary

    def test_an_improvement_passes_with_a_note(self, site: Site) -> None:
        done = site.pull_request(lambda author: author.set(model={"folder": "models/256"}))
        assert done.outcome == "success", done.log
        assert "improvement" in done.summary

    def test_a_vanished_task_fails_and_is_named(self, site: Site) -> None:
        done = site.pull_request(lambda author: author.set(tasks=TASKS[:1]))
        assert done.step("Compare with the base").outcome == "failure", done.log
        assert done.outcome == "failure"
        assert TASKS[1] in done.summary

    def test_a_run_that_breaks_off_shows_no_older_numbers(self, site: Site) -> None:
        def break_it(author: Clone) -> None:
            (author.folder / "src" / "embrepro" / "stages" / "encode.py").write_text("raise SystemExit('broken')\n")

        done = site.pull_request(break_it)
        assert done.step("Run the affected stages").outcome == "failure", done.log
        assert done.outcome == "failure"
        assert "ended before there was anything to compare" in done.summary
        assert not (site.artifact / "metrics.json").exists()
