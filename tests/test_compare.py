"""`embrepro compare`: every score at two revisions of a git and DVC repository, and what else changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from embrepro.regression import diff, revisions
from embrepro.regression.revisions import RevisionError
from revision_project import BASE, CHANGES, PAIRS, QUERIES, SUMMARIES, Project, copied

pytest_plugins = ["revision_project"]
Run = Callable[..., Result]


def rows(result: Result) -> dict[tuple[str, str], dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return {(row["model"], row["task"]): row for row in json.loads(result.stdout)["rows"]}


def changed(result: Result) -> dict[str, tuple[str, str]]:
    return {f"{one['kind']}: {one['name']}": (one["old"], one["new"]) for one in json.loads(result.stdout)["changes"]}


class TestScores:
    def test_a_fall_has_its_size_and_a_paired_interval_around_it(self, program: Run) -> None:
        row = rows(program("compare", "base", "regression", "--json"))["static", QUERIES]
        assert row["difference"] == pytest.approx(-0.03, abs=1e-9)  # every query lost 0.03
        assert row["interval"]["low"] == pytest.approx(-0.03, abs=1e-6)
        assert row["interval"]["high"] == pytest.approx(-0.03, abs=1e-6)
        assert (row["samples"], row["p_adjusted"] < 0.001) == (300, True)

    def test_the_interval_is_that_of_the_pairs_not_of_the_scores(self, program: Run) -> None:
        found = rows(program("compare", "base", "noise", "--json"))["static", QUERIES]["interval"]
        # Mean and standard error of the 300 paired differences: seven of -0.5, three of +0.5, the rest 0.
        pairs = np.array([-0.5] * 7 + [0.5] * 3 + [0.0] * 290)
        reach = 1.96 * pairs.std(ddof=1) / np.sqrt(300)
        assert found["low"] == pytest.approx(pairs.mean() - reach, abs=0.002)
        assert found["high"] == pytest.approx(pairs.mean() + reach, abs=0.002)

    def test_what_did_not_change_differs_by_exactly_nothing(self, program: Run) -> None:
        row = rows(program("compare", "base", "regression", "--json"))["small", PAIRS]
        assert (row["difference"], row["interval"], row["p_value"]) == (0.0, {"low": 0.0, "high": 0.0}, 1.0)

    def test_only_what_changed_is_shown_where_asked_for(self, program: Run) -> None:
        everything = rows(program("compare", "base", "regression", "--json"))
        shown = rows(program("compare", "base", "regression", "--json", "--changed"))
        assert ("small", PAIRS) in everything.keys() - shown.keys()
        assert shown[("static", QUERIES)] == everything[("static", QUERIES)]

    def test_a_score_that_is_gone_says_why(self, program: Run) -> None:
        lost = rows(program("compare", "base", "lost", "--json"))["static", PAIRS]
        assert (lost["new"], lost["new_status"]) == (None, "the download stage failed: no such revision")
        gone = rows(program("compare", "base", "vanished", "--json"))["static", PAIRS]
        assert (gone["new"], gone["new_status"], gone["old_status"]) == (None, "not requested", "scored")

    def test_scores_on_other_data_are_not_tested(self, program: Run) -> None:
        row = rows(program("compare", "base", "repinned", "--json"))["static", PAIRS]
        assert (row["incomparable"], row["interval"]) == ("other data", None)
        assert row["difference"] is not None

    def test_a_score_without_samples_has_no_interval_and_says_so(self, program: Run) -> None:
        result = program("compare", "base", "untested", "--json")
        assert rows(result)["static", SUMMARIES]["interval"] is None
        assert f"{SUMMARIES} (static)" in json.loads(result.stdout)["notes"][0]

    def test_a_replaced_candidate_is_compared_with_the_one_it_replaces(self, program: Run) -> None:
        found = rows(program("compare", "base", "replaced", "--json"))
        assert found["static → tiny", QUERIES]["difference"] == 0.0
        assert {model for model, _ in found} == {"small", "static → tiny"}


class TestWhatElseChanged:
    def test_a_harmless_change_names_the_package_and_the_lock(self, program: Run) -> None:
        found = changed(program("compare", "base", "harmless", "--json"))
        assert found["package: numpy"] == ("2.4.6", "2.4.7")
        assert set(found) == {"package: numpy", "input: requirements/cpu.lock"}

    def test_a_model_setting_is_named_where_it_was_set(self, program: Run) -> None:
        found = changed(program("compare", "base", "regression", "--json"))
        assert found["configuration: models.static.batch_size"] == ("8", "16")
        assert found["model: static, recipe.batch_size"] == ("8", "16")

    def test_data_is_named_by_task_revision_and_hash(self, program: Run) -> None:
        assert set(changed(program("compare", "base", "tampered", "--json"))) == {f"data: {PAIRS}, data_hash"}
        found = changed(program("compare", "base", "repinned", "--json"))
        assert {name for name in found if name.startswith("data")} == {
            f"data: {PAIRS}, data_hash",
            f"data: {PAIRS}, revision",
        }

    def test_nothing_changed_between_a_revision_and_itself(self, program: Run) -> None:
        assert changed(program("compare", "base", "base", "--json")) == {}


class TestRevisions:
    def test_an_experiment_goes_by_its_name(self, program: Run, states: Project) -> None:
        row = rows(program("compare", "base", "faster", "--json"))["static", QUERIES]
        assert row["difference"] == pytest.approx(-0.03, abs=1e-9)
        assert row["interval"] is not None
        assert ("faster", states.git("rev-parse", "base").strip()) not in revisions.experiments(states.root)

    def test_the_working_tree_is_the_default_for_the_new_side(
        self, program: Run, states: Project, tmp_path: Path
    ) -> None:
        copy = copied(states, tmp_path)
        copy.write(CHANGES["improvement"])
        row = rows(program("compare", "base", "--json", root=copy.root))["static", QUERIES]
        assert row["difference"] == pytest.approx(0.03, abs=1e-9)
        assert row["interval"] is not None

    def test_a_commit_goes_by_its_hash_short_or_long(self, program: Run, states: Project) -> None:
        commit = states.git("rev-parse", "regression").strip()
        for name in (commit, commit[:9], "try-regression", "regression~0"):
            assert rows(program("compare", "base", name, "--json"))["static", QUERIES]["difference"] < -0.02

    def test_an_unknown_revision_is_refused_with_the_nearest_known(self, program: Run) -> None:
        result = program("compare", "base", "regresion")
        assert result.exit_code == 2
        assert "No git revision and no DVC experiment is called 'regresion'; did you mean" in result.stderr
        assert "regression" in result.stderr

    @pytest.mark.parametrize("name", ["--help-me", "-n", "base:reports", "base..regression"])
    def test_what_is_no_single_revision_is_refused(self, states: Project, name: str) -> None:
        with pytest.raises(RevisionError):
            revisions.resolve(states.root, name)

    def test_a_revision_without_reports_is_refused_and_says_what_to_commit(
        self, program: Run, states: Project, tmp_path: Path
    ) -> None:
        copy = copied(states, tmp_path)
        copy.git("rm", "--quiet", "--cached", "-r", "reports")
        copy.git("commit", "--quiet", "-m", "Forget the reports")
        result = program("compare", "HEAD", root=copy.root)
        assert result.exit_code == 2
        assert "holds no reports/summary.json; commit reports/ together with dvc.lock" in result.stderr

    def test_a_missing_cache_costs_the_interval_and_says_so(
        self, program: Run, states: Project, tmp_path: Path
    ) -> None:
        copy = copied(states, tmp_path)
        shutil.rmtree(copy.root / ".dvc" / "cache")
        result = program("compare", "base", "regression", "--json", root=copy.root)
        row = rows(result)["static", QUERIES]
        assert (row["interval"], round(row["difference"], 4)) == (None, -0.03)
        assert row["why_no_interval"] == f"the per-sample scores of {label('base', copy)} are not in DVC's cache"
        assert any("not in DVC's cache" in note for note in json.loads(result.stdout)["notes"])

    def test_a_summary_of_another_version_of_the_kit_is_read_as_far_as_it_goes(
        self, states: Project, tmp_path: Path
    ) -> None:
        copy = copied(states, tmp_path)
        path = copy.root / "reports" / "summary.json"
        content = json.loads(path.read_text(encoding="utf-8")) | {"invented_later": 1}
        del content["histograms"]
        path.write_text(json.dumps(content), encoding="utf-8")
        old, new = (revisions.load(copy.root, name) for name in ("base", "workspace"))
        assert all(row.difference == 0 for row in diff.compare(old, new).rows)


class TestForms:
    def test_the_table_is_readable(self, program: Run) -> None:
        text = program("compare", "base", "regression").stdout
        line = next(line for line in text.splitlines() if line.startswith("static") and QUERIES in line)
        assert "-0.0300" in line and "[-0.0300, -0.0300]" in line and "< 0.001" in line

    def test_markdown_is_a_table_whose_names_cannot_break_it(self, program: Run) -> None:
        text = program("compare", "base", "lost", "--format", "markdown").stdout
        scores = text[text.index("Main scores") : text.index("Size and memory")]
        table = [line for line in scores.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table if line.startswith("| s")}) == 1
        assert "now: the download stage failed: no such revision" in text

    def test_html_loads_nothing_and_runs_no_script(self, program: Run) -> None:
        text = program("compare", "base", "regression", "--format", "html").stdout
        assert "default-src 'none'" in text
        assert "<script" not in text and "http://" not in text.replace("http-equiv", "")
        assert re.search(r'<span class="bad-text">-0\.0300\s*</span>', text)


def test_the_program_itself_exits_as_documented(states: Project) -> None:
    command = [sys.executable, "-m", "embrepro.cli", "compare", "base", "nonsense"]
    done = subprocess.run(command, cwd=states.root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("embrepro: No git revision")


def label(name: str, where: Project) -> str:
    return f"{name} ({where.git('rev-parse', name)[:8]})"


def test_the_base_is_what_it_says(states: Project) -> None:
    summary = revisions.load(states.root, "base").run
    assert summary.models["static"].name == "org/static"
    assert {task.name for task in summary.tasks} == set(BASE.found["small"])
