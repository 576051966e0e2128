"""`embrepro verify`: published scores, how far a run is off, and the page that shows it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from embrepro.cli import app
from embrepro.errors import ConfigError, KitError
from embrepro.files import write_json
from embrepro.layout import Layout
from embrepro.regression import published, reproduced
from embrepro.regression.published import ExpectedFile
from embrepro.regression.reproduced import Judged, MeasuredRun, reproduced_page
from embrepro.rendering import render_markdown
from embrepro.results import summary as sm
from embrepro.results.summary import metrics

REPOSITORY = Path(__file__).parents[1]
EXPECTED = REPOSITORY / "conf" / "expected"
MINILM, REVISION, DATA = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    "d" * 40,
)

CONTENT: dict[str, Any] = {
    "model": {"name": MINILM, "revisions": [REVISION]},
    "source": {"name": "a table", "url": "https://example.org"},
    "tolerances": {"default": 0.0005, "metrics": {"v_measure": 0.005}},
    "scores": {
        "SciFact": {"score": 0.64508, "metric": "ndcg_at_10", "revision": DATA},
        "Newsgroups": {"score": 0.4649, "metric": "v_measure"},
        "STS22": {"score": 0.6771, "metric": "cosine_spearman", "subset": "en"},
    },
}


def summary(
    tasks: dict[str, tuple[float | str, str]], *, name: str = MINILM, revision: str = REVISION, **more: object
) -> sm.Summary:
    """A run of one model; each task is a score or a reason, and its metric."""
    rows = [
        sm.TaskRow(
            **(
                {
                    "name": task,
                    "type": "Retrieval",
                    "metric": metric,
                    "splits": ["test"],
                    "subsets": ["default"],
                    "revision": DATA,
                }
                | more
            ),
            cells={"m": sm.Cell(status=found) if isinstance(found, str) else sm.Cell(status="scored", score=found)},
        )
        for task, (found, metric) in tasks.items()
    ]
    card = sm.ModelCard(
        key="m",
        name=name,
        role="baseline",
        family="dense",
        revision=revision,
        source="package",
        content_hash="b" * 64,
    )
    means = {"m": sm.Means(mean_task=None, mean_type=None, by_type={})}
    return sm.Summary(
        baseline="m",
        candidate="m",
        models={"m": card},
        tasks=rows,
        means=means,
        packages={"mteb": "2"},
        recipe={"device": "cpu"},
    )


def lay(root: Path, found: sm.Summary) -> None:
    write_json(root / "reports" / "summary.json", found.model_dump())
    write_json(root / "reports" / "metrics.json", metrics(found))


def judge(tmp_path: Path, found: sm.Summary) -> dict[str, Judged]:
    lay(tmp_path, found)
    file = ExpectedFile.model_validate(CONTENT)
    return {each.task: each for each in reproduced.judge([file], reproduced.last_run(Layout(tmp_path)))}


class TestVerdicts:
    @pytest.mark.parametrize(
        ("score", "verdict"),
        [
            (0.64508, "OK"),
            (0.64558, "OK"),  # 0.0005 off, the tolerance itself
            (0.64457, "close"),
            (0.64658, "close"),  # 0.0015 off, three times the tolerance
            (0.64660, "FAIL"),
            (0.64300, "FAIL"),
        ],
    )
    def test_it_follows_from_the_distance_and_the_tolerance(self, tmp_path: Path, score: float, verdict: str) -> None:
        assert judge(tmp_path, summary({"SciFact": (score, "ndcg_at_10")}))["SciFact"].verdict == verdict

    def test_a_metric_has_its_own_tolerance(self, tmp_path: Path) -> None:
        found = judge(tmp_path, summary({"Newsgroups": (0.4690, "v_measure")}))["Newsgroups"]
        assert (found.verdict, found.tolerance) == ("OK", 0.005)

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (summary({"Other": (0.5, "accuracy")}), "the task was not requested"),
            (summary({"SciFact": ("out of memory", "ndcg_at_10")}), "out of memory"),
            (
                summary({"SciFact": (0.64508, "map")}),
                "the run scored map, the published number is ndcg_at_10",
            ),
            (summary({"SciFact": (0.64508, "ndcg_at_10")}, name="org/other"), "the model is not in this run"),
            (
                summary({"SciFact": (0.64508, "ndcg_at_10")}, splits=["dev"]),
                "the run scored dev/default, the published number is of test/default",
            ),
        ],
    )
    def test_what_cannot_be_compared_is_not_run_and_says_why(self, tmp_path: Path, found: sm.Summary, why: str) -> None:
        judged = judge(tmp_path, found)["SciFact"]
        assert (judged.verdict, judged.measured, judged.note) == ("not run", None, why)

    def test_a_subset_must_be_the_published_one(self, tmp_path: Path) -> None:
        whole = judge(tmp_path, summary({"STS22": (0.6771, "cosine_spearman")}))["STS22"]
        assert whole.verdict == "not run"
        one = judge(tmp_path, summary({"STS22": (0.6771, "cosine_spearman")}, subsets=["en"]))["STS22"]
        assert one.verdict == "OK"

    def test_another_model_or_data_revision_is_judged_and_named(self, tmp_path: Path) -> None:
        found = summary({"SciFact": (0.64508, "ndcg_at_10")}, revision="e" * 40)
        found = found.model_copy(
            update={"tasks": [row.model_copy(update={"revision": "f" * 40}) for row in found.tasks]}
        )
        judged = judge(tmp_path, found)["SciFact"]
        assert judged.verdict == "OK"
        assert judged.note == (
            "measured at model revision eeeeeeee, published for another; data revision ffffffff, published for dddddddd"
        )


class TestTheProgram:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
        monkeypatch.chdir(tmp_path)
        shutil.copytree(EXPECTED, tmp_path / "conf" / "expected")
        return lambda *arguments: CliRunner().invoke(app, ["verify", *arguments])

    def test_it_ends_with_0_where_nothing_fails_and_prints_every_number(self, tmp_path: Path, run: Callable) -> None:
        lay(tmp_path, summary({"SciFact": (0.64508, "ndcg_at_10"), "SICK-R": (0.7768, "cosine_spearman")}))
        result = run()
        assert result.exit_code == 0, result.output
        assert re.search(r"SciFact\s+ndcg_at_10\s+0\.64508\s+0\.64508\s+0\.00000\s+0\.0005\s+OK", result.stdout)
        assert re.search(
            r"SICK-R\s+cosine_spearman\s+0\.77582\s+0\.77680\s+\+0\.00098\s+0\.0005\s+close", result.stdout
        )
        assert "282 published scores: 1 OK, 1 close, 0 FAIL, 280 not run" in result.stdout

    def test_it_ends_with_1_where_a_number_fails(self, tmp_path: Path, run: Callable) -> None:
        lay(tmp_path, summary({"SciFact": (0.55, "ndcg_at_10")}))
        result = run("conf/expected/minilm.yaml")
        assert (result.exit_code, "FAIL" in result.stdout) == (1, True)

    def test_a_run_that_compares_nothing_says_so(self, tmp_path: Path, run: Callable) -> None:
        lay(tmp_path, summary({"Own": (0.5, "accuracy")}))
        result = run()
        assert (result.exit_code, "Nothing was compared" in result.stdout) == (0, True)
        assert "without a published score to hold it against: Own 0.50000" in result.stdout

    def test_every_number_that_was_not_run_has_a_line_on_request(self, tmp_path: Path, run: Callable) -> None:
        lay(tmp_path, summary({"SciFact": (0.64508, "ndcg_at_10")}))
        lines = run("--all").stdout.splitlines()
        assert sum("not run" in line and "potion-base-8M" in line for line in lines) == 82

    @pytest.mark.parametrize("argument", ["conf/expected/none.yaml", "conf"])
    def test_a_wrong_file_ends_with_2(self, tmp_path: Path, run: Callable, argument: str) -> None:
        lay(tmp_path, summary({"SciFact": (0.64508, "ndcg_at_10")}))
        assert run(argument).exit_code == 2

    def test_without_a_run_it_ends_with_2_and_says_what_makes_one(self, run: Callable) -> None:
        result = run()
        assert (result.exit_code, "`dvc repro` makes it" in result.stderr) == (2, True)

    def test_reports_of_two_different_runs_are_refused(self, tmp_path: Path, run: Callable) -> None:
        lay(tmp_path, summary({"SciFact": (0.64508, "ndcg_at_10")}))
        write_json(tmp_path / "reports" / "metrics.json", metrics(summary({"SciFact": (0.6, "ndcg_at_10")})))
        result = run()
        assert (result.exit_code, "disagree on m" in result.stderr) == (2, True)

    def test_the_page_and_the_recorded_run_make_each_other(self, tmp_path: Path, run: Callable) -> None:
        lay(tmp_path, summary({"SciFact": (0.64508, "ndcg_at_10")}))
        assert run("--write", "docs/reproduced.md").exit_code == 0
        record = reproduced.recorded(tmp_path / "docs" / "reproduced.json")
        assert record == reproduced.last_run(Layout(tmp_path))
        assert (tmp_path / "docs" / "reproduced.md").read_text(encoding="utf-8") == page_of(record)


class TestFiles:
    @pytest.mark.parametrize(
        ("where", "value", "message"),
        [
            (("tolerence",), {}, "tolerence: unknown key; did you mean tolerances"),
            (
                ("scores", "SciFact", "metrc"),
                "x",
                r"scores\.SciFact\.metrc: unknown key; did you mean metric",
            ),
            (
                ("scores", "SciFact", "score"),
                64.5,
                r"scores\.SciFact\.score: .*less than or equal to 1; got 64\.5",
            ),
            (
                ("tolerances", "tasks"),
                {"SciFct": 0.1},
                "no expected score is of task 'SciFct'; did you mean SciFact",
            ),
            (("tolerances", "metrics"), {"ndcg": 0.1}, "no expected score is of metric 'ndcg'"),
            (("model", "name"), "minilm", "model.name"),
            (("scores",), {}, "scores"),
        ],
    )
    def test_a_wrong_one_is_refused_by_key(
        self, tmp_path: Path, where: tuple[str, ...], value: object, message: str
    ) -> None:
        content = json.loads(json.dumps(CONTENT))
        target = content
        for key in where[:-1]:
            target = target[key]
        target[where[-1]] = value
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            published.load([path])

    def test_two_files_about_one_model_are_refused(self, tmp_path: Path) -> None:
        for name in ("one.yaml", "two.yaml"):
            (tmp_path / name).write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
        with pytest.raises(ConfigError, match="both about"):
            published.load([], tmp_path)

    def test_a_folder_without_any_leaves_those_of_the_kit(self, tmp_path: Path) -> None:
        assert published.load([], tmp_path) == published.load([], EXPECTED) != []


class TestWhatIsExpected:
    def test_the_published_scores_are_there(self) -> None:
        """Scores of mteb's results repository at commit f4cc6c8b365a3c779dbc708d6affe0b0355b2ddf."""
        files = {file.model.name: file for file in published.load([], EXPECTED)}
        assert {name: len(file.scores) for name, file in files.items()} == {
            MINILM: 82,
            "sentence-transformers/all-mpnet-base-v2": 77,
            "minishlab/potion-base-8M": 82,
            "minishlab/potion-retrieval-32M": 41,
        }
        minilm = {task: score.score for task, score in files[MINILM].scores.items()}
        assert (minilm["SciFact"], minilm["Banking77Classification"]) == (0.64508, 0.8004220779220779)
        assert round(minilm["SICK-R"], 4) == 0.7758
        assert {file.source.commit for file in files.values()} == {"f4cc6c8b365a3c779dbc708d6affe0b0355b2ddf"}

    @pytest.mark.slow
    def test_every_task_is_one_that_mteb_knows_by_its_main_score_split_and_subset(self) -> None:
        import mteb

        for file in published.load([], EXPECTED):
            for name, score in file.scores.items():
                task = mteb.get_task(name)
                assert task.metadata.main_score == score.metric, name
                assert score.split in {*task.metadata.eval_splits, "dev"}, name
                assert score.subset in {*task.metadata.hf_subsets, "default"}, name

    @pytest.mark.slow
    def test_the_two_english_benchmarks_are_whole_for_minilm(self) -> None:
        import mteb

        known = published.load([EXPECTED / "minilm.yaml"])[0].scores
        for benchmark in ("MTEB(eng, v1)", "MTEB(eng, v2)"):
            assert {task.metadata.name for task in mteb.get_benchmark(benchmark).tasks} <= known.keys()


def page_of(record: MeasuredRun) -> str:
    files = published.load([], EXPECTED)
    return render_markdown.render(reproduced_page(files, reproduced.judge(files, record), record))


class TestThePage:
    def test_it_is_what_its_recorded_run_and_the_expected_scores_make(self) -> None:
        record = reproduced.recorded(REPOSITORY / "docs" / "reproduced.json")
        shown = (REPOSITORY / "docs" / "reproduced.md").read_text(encoding="utf-8")
        assert shown == page_of(record), "stale: run `embrepro verify --write docs/reproduced.md` after a run"

    def test_nothing_on_it_fails(self) -> None:
        record = reproduced.recorded(REPOSITORY / "docs" / "reproduced.json")
        verdicts = {each.verdict for each in reproduced.judge(published.load([], EXPECTED), record)}
        assert "OK" in verdicts and "FAIL" not in verdicts

    def test_a_damaged_record_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "reproduced.json"
        path.write_text("{}", encoding="utf-8")
        with pytest.raises(KitError, match="holds no recorded run"):
            reproduced.recorded(path)


def test_the_documented_example_is_a_file_of_expected_scores(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "gate.md").read_text(encoding="utf-8")
    (tmp_path / "example.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    assert set(published.load([tmp_path / "example.yaml"])[0].scores) == {
        "SciFact",
        "TwentyNewsgroupsClustering",
    }
