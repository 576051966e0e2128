"""`embrepro gate`: what fails a change, on a git and DVC repository with one commit for each kind of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml
from typer.testing import Result

from embrepro.errors import ConfigError
from embrepro.regression import gate, revisions
from embrepro.regression.gate import GateOutcome, MeasureTolerances
from embrepro.regression.revisions import Side
from revision_project import BASE, CHANGES, PAIRS, QUERIES, SUMMARIES, Project, benchmarked, copied

pytest_plugins = ["revision_project"]
Run = Callable[..., Result]
RULES = Path(__file__).parents[1] / "conf" / "gate" / "default.yaml"


@pytest.fixture
def judged(states: Project) -> Callable[..., GateOutcome]:
    def judge(revision: str, **changes: object) -> GateOutcome:
        rules = gate.rules(RULES).model_copy(update=changes)
        return gate.judge(revisions.load(states.root, "base"), revisions.load(states.root, revision), rules)

    return judge


def found(outcome: GateOutcome) -> set[tuple[str, str, bool]]:
    return {(note.finding, note.task, note.fails) for note in outcome.notes}


class TestWhatFails:
    @pytest.mark.parametrize(
        ("revision", "finding", "task"),
        [
            ("regression", "regression", QUERIES),
            ("faster", "regression", QUERIES),
            ("vanished", "task gone", PAIRS),
            ("lost", "score lost", PAIRS),
            ("tampered", "data changed", PAIRS),
            ("untested", "regression", SUMMARIES),
        ],
    )
    def test_each_kind_is_named_and_ends_with_1(
        self, program: Run, judged: Callable, revision: str, finding: str, task: str
    ) -> None:
        assert (finding, task, True) in found(judged(revision))
        result = program("gate", "--against", "base", "--revision", revision)
        assert result.exit_code == 1, result.output
        assert "The change fails" in result.stdout
        assert any(finding in line and task in line for line in result.stdout.splitlines())

    def test_a_fall_without_an_interval_is_a_regression_unless_the_rules_say_otherwise(self, judged: Callable) -> None:
        assert not judged("untested").passes
        lenient = judged("untested", without_samples="note")
        assert lenient.passes
        assert found(lenient) == {("not tested", SUMMARIES, False)}

    def test_a_model_that_is_gone_fails(self, states: Project) -> None:
        old, new = revisions.load(states.root, "base"), revisions.load(states.root, "replaced")
        back = gate.judge(new, old, gate.rules(RULES))
        assert ("candidate replaced", "", False) in found(back)
        run_of_one = new.run.model_copy(
            update={
                "models": {"small": new.run.models["small"]},
                "candidate": "small",
                "tasks": new.run.tasks,
            }
        )
        alone = gate.judge(old, revisions.Side(new.root, new.revision, run_of_one), gate.rules(RULES))
        assert ("model gone", "", True) in found(alone)

    def test_a_subset_left_out_is_not_a_comparable_score(self, states: Project) -> None:
        old = revisions.load(states.root, "base")
        narrowed = [task.model_copy(update={"subsets": ["deu"]}) for task in old.run.tasks]
        new = revisions.Side(old.root, old.revision, old.run.model_copy(update={"tasks": narrowed}))
        outcome = gate.judge(old, new, gate.rules(RULES))
        assert ("not comparable", QUERIES, True) in found(outcome)
        assert "subsets default before, deu now" in outcome.failures[0].words


class TestWhatPasses:
    @pytest.mark.parametrize(
        ("revision", "expected"),
        [
            ("base", set()),
            ("harmless", set()),
            ("noise", {("within noise", QUERIES, False)}),
            ("improvement", {("improvement", QUERIES, False)}),
            ("repinned", {("data pin changed", PAIRS, False)}),
            ("replaced", {("candidate replaced", "", False)}),
        ],
    )
    def test_it_ends_with_0_and_notes_what_is_worth_knowing(
        self,
        program: Run,
        judged: Callable,
        revision: str,
        expected: set,
    ) -> None:
        assert found(judged(revision)) == expected
        result = program("gate", "--against", "base", "--revision", revision)
        assert result.exit_code == 0, result.output
        assert "The change passes" in result.stdout

    def test_a_new_task_is_a_note(self, states: Project) -> None:
        old, new = (revisions.load(states.root, name) for name in ("vanished", "base"))
        assert {note.finding for note in gate.judge(old, new, gate.rules(RULES)).notes} == {"new task"}

    def test_the_working_tree_is_judged_by_default(self, program: Run, states: Project, tmp_path: Path) -> None:
        copy = copied(states, tmp_path)
        assert program("gate", "--against", "base", root=copy.root).exit_code == 0
        copy.write(CHANGES["regression"])
        result = program("gate", "--against", "base", root=copy.root)
        assert result.exit_code == 1
        assert "fell by more than 0.002: -0.0300 [-0.0300, -0.0300]" in result.stdout


class TestRules:
    def test_noise_is_what_the_rules_say(self, judged: Callable) -> None:
        assert judged("noise", noise="interval").passes
        assert judged("noise", noise="corrected").passes
        assert not judged("noise", noise="never").passes

    def test_a_greater_tolerance_lets_the_same_fall_pass(self, judged: Callable) -> None:
        for tolerance in (
            {"default": 0.002, "tasks": {QUERIES: 0.04}},
            {"default": 0.002, "metrics": {"ndcg_at_10": 0.04}},
            {"default": 0.002, "types": {"Retrieval": 0.04}},
            {"default": 0.04},
        ):
            assert judged("regression", tolerance=gate.GateTolerances(**tolerance)).notes == []
        stricter = gate.GateTolerances(default=0.04, types={"Retrieval": 0.04}, tasks={QUERIES: 0.001})
        assert not judged("regression", tolerance=stricter).passes

    def test_a_changed_pin_can_be_made_to_fail(self, judged: Callable) -> None:
        assert not judged("repinned", changed_pin="fail").passes

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"tolerence": {}}, r"tolerence: unknown key; did you mean tolerance"),
            (
                {"tolerance": {"default": 0.1, "typs": {}}},
                r"tolerance\.typs: unknown key; did you mean types",
            ),
            ({"tolerance": {"default": -1}}, r"tolerance\.default: .*greater than or equal to 0.*-1"),
            (
                {"tolerance": {"default": 0, "types": {"Clustring": 0.1}}},
                "no task type 'Clustring'; did you mean Clustering",
            ),
            (
                {"tolerance": {"default": 0}, "noise": "test"},
                "noise: .*'interval', 'corrected' or 'never'.*'test'",
            ),
            ({"alpha": 0.05}, "tolerance: this key is needed"),
            (None, "valid dictionary"),
        ],
    )
    def test_wrong_rules_are_refused_by_key(self, tmp_path: Path, content: object, message: str) -> None:
        path = tmp_path / "rules.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            gate.rules(path)

    def test_the_task_types_are_those_of_mteb(self) -> None:
        from mteb.abstasks.task_metadata import TaskType

        assert set(gate.TASK_TYPES) <= set(get_args(TaskType))


class TestExitCode2:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--against", "nowhere"], "No git revision and no DVC experiment is called 'nowhere'"),
            (["--against", "base", "--rules", "none.yaml"], "found no file"),
            (["--against", "base", "--revision", "empty"], "'empty'"),
        ],
    )
    def test_what_cannot_be_judged_is_not_a_failure(self, program: Run, arguments: list[str], message: str) -> None:
        result = program("gate", *arguments)
        assert (result.exit_code, message in result.stderr) == (2, True), result.output

    def test_a_missing_option_is_a_usage_error(self, program: Run) -> None:
        assert program("gate").exit_code == 2

    def test_a_revision_without_metrics_cannot_be_held_against(
        self, program: Run, states: Project, tmp_path: Path
    ) -> None:
        copy = copied(states, tmp_path)
        copy.git("rm", "--quiet", "--cached", "-r", "reports")
        copy.git("commit", "--quiet", "-m", "Forget the reports")
        result = program("gate", "--against", "HEAD", root=copy.root)
        assert (result.exit_code, "holds no reports/summary.json" in result.stderr) == (2, True)


class TestPullRequestSummary:
    def test_the_first_line_is_the_marker_and_the_second_the_verdict(self, program: Run, tmp_path: Path) -> None:
        page = tmp_path / "gate.md"
        program("gate", "--against", "base", "--revision", "regression", "--markdown", str(page))
        lines = page.read_text(encoding="utf-8").splitlines()
        assert lines[0] == "<!-- embrepro gate -->"
        assert lines[1] == "## Regression gate: fails for 1 reason"
        assert any(line.startswith(f"| regression | static | {QUERIES} |") for line in lines)

    def test_it_is_the_same_for_the_same_revisions(self, program: Run, tmp_path: Path) -> None:
        pages = [tmp_path / "one.md", tmp_path / "two.md"]
        for page in pages:
            assert (
                program("gate", "--against", "base", "--revision", "harmless", "--markdown", str(page)).exit_code == 0
            )
        assert pages[0].read_bytes() == pages[1].read_bytes()

    def test_text_from_a_run_cannot_become_markup_or_a_mention(self, states: Project, tmp_path: Path) -> None:
        from embrepro.rendering import render_markdown

        old = revisions.load(states.root, "base")
        status = "<img src=x> | @everyone `rm` [link](http://example.org)"
        tasks = [
            task.model_copy(update={"cells": {key: revisions.RecordedScore(status=status) for key in task.cells}})
            for task in old.run.tasks
        ]
        new = revisions.Side(old.root, old.revision, old.run.model_copy(update={"tasks": tasks}))
        text = render_markdown.render(gate.gate_page(gate.judge(old, new, gate.rules(RULES))), marker="x")
        assert "<img" not in text and "@everyone" not in text and "[link](" not in text
        table = [line for line in text.splitlines() if line.startswith("| score lost")]
        assert {line.replace("\\|", "").count("|") for line in table} == {5}


class TestMeasures:
    """Size, memory and speed, by rules of their own."""

    def test_a_larger_model_fails_where_the_rules_say_so_and_is_noted_else(
        self, states: Project, program: Run, tmp_path: Path
    ) -> None:
        copy = copied(states, tmp_path)
        copy.write(replace(BASE, size_mb=12.0))
        noted = program("gate", "--against", "base", root=copy.root)
        assert noted.exit_code == 0, noted.output
        said = " ".join(noted.stdout.split())
        assert "larger or slower" in said and "size_mb 10 before, 12 now: 20 % worse" in said
        rules = yaml.safe_load(RULES.read_text(encoding="utf-8")) | {"measures": {"size_mb": 0.1}}
        (copy.root / "rules.yaml").write_text(yaml.safe_dump(rules))
        failed = program("gate", "--against", "base", "--rules", "rules.yaml", root=copy.root)
        assert failed.exit_code == 1
        rules["measures"] = {"size_mb": 0.25}
        (copy.root / "rules.yaml").write_text(yaml.safe_dump(rules))
        assert program("gate", "--against", "base", "--rules", "rules.yaml", root=copy.root).exit_code == 0

    @pytest.mark.parametrize(
        ("ratios", "peak", "worse"),
        [
            ((8.0, 7.8, 8.2), 500.0, {"throughput_ratio"}),
            ((8.0, 7.0, 9.9), 500.0, set()),
            ((12.0, 11.8, 12.2), 500.0, set()),
            ((10.0, 9.8, 10.2), 650.0, {"peak_memory_mb"}),
        ],
    )
    def test_speed_is_worse_where_the_ratios_intervals_are_apart(
        self, states: Project, tmp_path: Path, ratios: tuple[float, float, float], peak: float, worse: set[str]
    ) -> None:
        old, new = Side(**vars(revisions.load(states.root, "base"))), Side(**vars(revisions.load(states.root, "base")))
        vars(old)["speed"], vars(new)["speed"] = benchmarked((10.0, 9.8, 10.2), 500.0), benchmarked(ratios, peak)
        rules = gate.rules(RULES).model_copy(
            update={"measures": MeasureTolerances(throughput_ratio=0.1, peak_memory_mb=0.1)}
        )
        outcome = gate.judge(old, new, rules)
        assert {note.words.split()[0] for note in outcome.failures} == worse
        assert len(outcome.comparison.measures) == 2 + 1 + 2

    def test_another_baseline_makes_ratios_say_nothing(self, states: Project) -> None:
        old, new = Side(**vars(revisions.load(states.root, "base"))), Side(**vars(revisions.load(states.root, "base")))
        small = new.run.models["small"].model_copy(update={"content_hash": "c" * 64})
        new = replace(new, run=new.run.model_copy(update={"models": {**new.run.models, "small": small}}))
        for side in (old, new):
            vars(side)["speed"] = benchmarked((10.0, 9.8, 10.2), 500.0)
        measured = {each.measure for each in gate.judge(old, new, gate.rules(RULES)).comparison.measures}
        assert measured == {"size_mb", "peak_memory_mb"}


class TestPage:
    def test_it_leads_with_verdict_mean_and_what_changed(self, program: Run, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        program("gate", "--against", "base", "--revision", "regression", "--markdown", str(page))
        text = page.read_text(encoding="utf-8")
        verdict = next(line for line in text.splitlines() if "The change fails" in line)
        # Queries fell by 0.03, one of three tasks
        assert "static: mean" in verdict and "-0.0100" in verdict
        order = ["Why it fails", "Means over tasks", "Main scores that changed", "Main scores that did not change"]
        places = [text.index(caption) for caption in order]
        assert places == sorted(places)
        assert text[places[2] : places[3]].count(f"| static | {QUERIES} |") == 1
        assert "<details>" in text[places[2] : places[3]]

    def test_the_page_with_charts_shows_the_changed_model_with_its_intervals(
        self, program: Run, tmp_path: Path
    ) -> None:
        page = tmp_path / "page.html"
        program("gate", "--against", "base", "--revision", "noise", "--html", str(page))
        text = page.read_text(encoding="utf-8")
        # One for a wide screen and one for a phone; the model that did not change has none.
        assert text.count("<svg ") == 2
        assert "static: change by task from base" in text and "small: change" not in text
        assert f"{QUERIES} -0.0067" in text
        assert text.index("Means over tasks") < text.index("<svg ") < text.index("Main scores that changed")

    def test_no_mean_is_said_to_have_changed_where_a_task_is_gone(self, judged: Callable) -> None:
        (mean,) = [mean for mean in judged("vanished").comparison.means if mean.model == "static"]
        assert (mean.difference, mean.why) == (None, "1 of 3 tasks have no two scores that measure the same")

    def test_the_mean_of_tasks_with_samples_has_a_paired_interval(self, states: Project) -> None:
        tasks = [QUERIES, PAIRS]
        old, new = (revisions.load(states.root, name) for name in ("base", "regression"))
        sides = [
            replace(
                side, run=side.run.model_copy(update={"tasks": [task for task in side.run.tasks if task.name in tasks]})
            )
            for side in (old, new)
        ]
        (mean,) = [mean for mean in gate.judge(*sides, gate.rules(RULES)).comparison.means if mean.model == "static"]
        # Every query lost 0.03, so the mean of the two tasks lost 0.015 without any doubt
        assert mean.difference == pytest.approx(-0.015, abs=1e-9)
        assert mean.interval is not None
        assert (mean.interval.low, mean.interval.high) == pytest.approx((-0.015, -0.015), abs=1e-6)
