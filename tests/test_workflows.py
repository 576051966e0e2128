"""The workflows: safe by zizmor's rules and ours, valid by GitHub's schema, made of commands for any machine.

The regression workflow is also run: its steps, taken from the file, on clones of a small project, for changes
whose effect is known. One thing is replaced: `make env` finds the environment that runs these tests, so that
it need not build one.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import TASKS, Checkout
from conftest import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
NUMBERS = REPOSITORY / ".github" / "workflows" / "numbers.yml"
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")
"""What `shell: bash` means on a runner."""
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


def _called(job: dict[str, Any]) -> dict[str, Any]:
    """The jobs of the workflow of this repository that a job calls."""
    return _read(REPOSITORY / job["uses"])["jobs"]


def _scripts(workflow: Path) -> Iterator[str]:
    for job in _read(workflow)["jobs"].values():
        yield from (step["run"] for step in job.get("steps", []) if "run" in step)


class TestChecks:
    def test_zizmor_finds_nothing(self) -> None:
        done = _zizmor(REPOSITORY / ".github")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_zizmor_would_find_something(self, tmp_path: Path) -> None:
        workflow = shutil.copytree(REPOSITORY / ".github", tmp_path / ".github") / "workflows" / "regression.yml"
        workflow.write_text(workflow.read_text().replace("  pull_request:\n", "  pull_request_target:\n", 1))
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
        assert len(pinned) == text.count("uses:") - text.count("uses: ./.github/workflows/")
        for action, commit, version in pinned:
            assert KNOWN_ACTIONS[action] == (commit, version)

    @each_workflow
    def test_permissions_start_from_none(self, workflow: Path) -> None:
        assert _read(workflow)["permissions"] == {}

    @each_job
    def test_a_job_may_read_the_code_or_write_the_comment_and_nothing_else(self, workflow: Path, job: str) -> None:
        found = _job(workflow, job)
        may = {"pull-requests": "write"} if job == "comment" else {"contents": "read"}
        if "uses" in found:
            may = {name: right for each in _called(found).values() for name, right in each["permissions"].items()}
        assert found["permissions"] == may

    @each_job
    def test_a_job_ends_some_time(self, workflow: Path, job: str) -> None:
        found = _job(workflow, job)
        for each in _called(found).values() if "uses" in found else [found]:
            assert each["timeout-minutes"] <= 360

    @each_workflow
    def test_newer_pushes_do_not_run_beside_older_ones(self, workflow: Path) -> None:
        assert "${{ github.ref }}" in _read(workflow)["concurrency"]["group"]

    @each_workflow
    def test_no_secrets_and_no_trigger_that_gives_a_fork_more_than_reading(self, workflow: Path) -> None:
        assert "secrets." not in workflow.read_text()
        assert set(_read(workflow)["on"]) <= {"push", "pull_request", "schedule", "workflow_dispatch", "workflow_call"}

    @each_workflow
    def test_a_checkout_leaves_no_token_behind(self, workflow: Path) -> None:
        for job in _read(workflow)["jobs"].values():
            for step in job.get("steps", []):
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
        assert used <= targets

    @each_workflow
    def test_every_script_exists(self, workflow: Path) -> None:
        used = {word for script in _scripts(workflow) for word in re.findall(r"\b(scripts/[\w-]+)", script)}
        calls = any("uses" in job for job in _read(workflow)["jobs"].values())
        assert used or calls or any("make " in script for script in _scripts(workflow))
        assert [name for name in used if not os.access(REPOSITORY / name, os.X_OK)] == []

    def test_the_comparison_is_one_call_of_a_script(self) -> None:
        steps = {step["name"]: step for step in _job(NUMBERS, "regression")["steps"]}
        on_push, on_change = steps["Run the main branch"], steps["Run the base and the change, and compare"]
        assert (on_push["run"], on_push["if"]) == (
            '"${KIT:-.}/scripts/regression-check" main',
            "${{ github.event_name == 'push' }}",
        )
        assert on_change["run"] == '"${KIT:-.}/scripts/regression-check" pull-request "$BRANCH"'
        assert on_change["if"] == "${{ github.event_name == 'pull_request' }}"
        assert on_change["env"]["BRANCH"] == "origin/${{ github.base_ref }}"

    @each_workflow
    def test_every_embrepro_command_exists(self, workflow: Path) -> None:
        from embrepro.cli import app

        known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
        used = {word for script in _scripts(workflow) for word in re.findall(r"\bembrepro ([a-z]+)", script)}
        assert used <= known

    def test_the_scheduled_matrix_is_made_of_files_of_conf(self) -> None:
        matrix = _job(NUMBERS.with_name("scheduled.yml"), "run")["strategy"]["matrix"]
        for key, group in (("model", "model"), ("tasks", "tasks")):
            names = json.loads(re.search(r"\|\| '(.*)'", matrix[key]).group(1))  # type: ignore[union-attr]
            assert len(names) > 1
            for name in names:
                assert (REPOSITORY / "conf" / group / f"{name}.yaml").is_file()


class TestComment:
    def test_it_is_for_pull_requests_from_this_repository(self) -> None:
        assert set(re.split(r"\s*&&\s*", _job(NUMBERS, "comment")["if"].removeprefix("${{ ").removesuffix(" }}"))) == {
            "!cancelled()",
            "github.event_name == 'pull_request'",
            "github.event.pull_request.head.repo.full_name == github.repository",
        }

    def test_the_job_that_may_write_runs_nothing_of_the_change(self) -> None:
        steps = _job(NUMBERS, "comment")["steps"]
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
        (folder / "gate.md").write_text("| `$(touch bad)` |\n" * 9999)
        step = _job(NUMBERS, "comment")["steps"][-1]
        given = {
            "github.token": "token",
            "github.event.pull_request.number": "7",
            "github.server_url": "https://host",
            "github.repository": "us/kit",
            "github.run_id": "1",
        }
        fill = functools.partial(re.sub, r"\$\{\{ (.*?) \}\}", lambda found: given[found[1]])
        environment = {name: fill(text) for name, text in step["env"].items()}
        environment |= {"PATH": f"{tools}:/usr/bin:/bin", "GITHUB_REPOSITORY": "us/kit"}
        subprocess.run([*BASH, step["run"]], cwd=folder, env=environment, check=True)
        assert request_line in (tools / "requests").read_text()
        body = (folder / "comment.md").read_text()
        assert body.startswith("<!-- regression -->\n| `$(touch bad)` |")
        assert body.endswith("[Report and numbers](https://host/us/kit/actions/runs/1)\n")
        assert len(body) < 65536, "longer ones are refused"
        assert not (folder / "bad").exists()


@dataclass
class Site:
    """What a hosting site does: it holds the repository and a cache, and runs the regression workflow's scripts."""

    folder: Path
    origin: Checkout
    cache: Path
    runs: int = 0

    def push(self) -> str:
        """Run the main branch and return what was printed."""
        return self._working_copy().run("scripts/regression-check", "main")

    def pull_request(self, change: Callable[[Checkout], None], code: int = 0) -> Judged:
        """Run a change, merged into the main branch as GitHub merges it for a trial; it must end with `code`."""
        author = self.origin.clone(self.folder / f"author{self.runs}" / "kit")
        author.run("git", "checkout", "--quiet", "-b", "change")
        change(author)
        author.commit("A change")
        clone = self._working_copy()
        clone.run("git", "fetch", "--quiet", str(author.folder), "change")
        clone.run("git", "checkout", "--quiet", "--detach", "main")
        clone.run("git", "merge", "--quiet", "--no-ff", "--message", "merge", "FETCH_HEAD")
        return Judged(clone, clone.run("scripts/regression-check", "pull-request", "origin/main", code=code))

    def _working_copy(self) -> Checkout:
        """A clone with what the main branch left in the cache, as `actions/cache/restore` lays it out."""
        self.runs += 1
        clone = self.origin.clone(self.folder / f"run{self.runs}" / "kit with a space")
        shutil.copytree(self.cache, clone.folder, dirs_exist_ok=True)
        return clone


@dataclass(frozen=True)
class Judged:
    """What came of a pull request."""

    clone: Checkout
    said: str

    @property
    def page(self) -> str:
        """The comparison, for the run's page and the comment."""
        return (self.clone.folder / "reports" / "gate.md").read_text(encoding="utf-8")

    @property
    def affected(self) -> set[str]:
        """The stages that ran on the change."""
        return _ran(self.said.split("regression-check: the change")[1])


def _ran(said: str) -> set[str]:
    return set(re.findall(r"Running stage '([\w@]+)'", said))


@pytest.fixture(scope="module")
def site(project_that_ran: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose main branch ran once, with a candidate of 32 dimensions."""
    folder = tmp_path_factory.mktemp("site")
    origin = project_that_ran.copy(folder / "origin" / "kit")
    said = origin.run("scripts/regression-check", "main")
    assert "installing" not in said, "make env must find the environment of the tests"
    cache = folder / "cache"
    steps = {step["name"]: step for step in _job(NUMBERS, "regression")["steps"]}
    for path in steps["Restore what the main branch computed"]["with"]["path"].split():
        source, target = origin.folder / path, cache / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    origin.run("git", "checkout", "--quiet", ".")
    return Site(folder, origin, cache)


@pytest.mark.slow
class TestRegressionCheck:
    def test_a_second_run_of_the_same_commit_computes_nothing_anew(self, site: Site) -> None:
        assert _ran(site.push()) <= {"code", "aggregate", "report", "check"}, "only what writes the reports anew"

    def test_a_harmless_change_passes(self, site: Site) -> None:
        done = site.pull_request(lambda author: author.write_candidate(dtype="float16"))
        assert "Regression gate: passes" in done.page
        assert "mine, dtype" in done.page, "the page says what else changed"
        assert "encode@mine" in done.affected
        assert not {"encode@other", "evaluate@other"} & done.affected, "the baseline is not affected"
        kept = _job(NUMBERS, "regression")["steps"][-1]["with"]["path"].split()
        assert [path for path in kept if not (done.clone.folder / path).is_file()] == []

    def test_a_real_regression_fails_and_is_named(self, site: Site) -> None:
        done = site.pull_request(lambda author: author.write_candidate(folder="models/2"), code=1)
        assert "failed to reproduce" not in done.said
        assert "Regression gate: fails" in done.page
        assert TASKS[0] in done.page

    def test_an_improvement_passes_with_a_note(self, site: Site) -> None:
        assert "improvement" in site.pull_request(lambda author: author.write_candidate(folder="models/256")).page

    def test_a_vanished_task_fails_and_is_named(self, site: Site) -> None:
        done = site.pull_request(lambda author: author.write_tasks(TASKS[:1]), code=1)
        assert "failed to reproduce" not in done.said
        assert TASKS[1] in done.page

    def test_a_run_that_breaks_off_shows_no_older_numbers(self, site: Site) -> None:
        def break_it(author: Checkout) -> None:
            (author.folder / "src" / "embrepro" / "pipeline" / "encode.py").write_text("raise SystemExit('broken')\n")

        done = site.pull_request(break_it, code=1)
        assert "failed to reproduce" in done.said
        assert "ended before there was anything to compare" in done.page
        assert not (done.clone.folder / "reports" / "metrics.json").exists()

    @pytest.mark.parametrize("words", [[], ["pull-request"], ["main", "other"]])
    def test_other_words_are_answered_with_the_usage(self, words: list[str]) -> None:
        script = REPOSITORY / "scripts" / "regression-check"
        done = subprocess.run([script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "usage: scripts/regression-check pull-request BRANCH" in done.stderr
