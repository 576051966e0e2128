"""`embrepro board`, and `compare` of three and more: models of many states and folders, each once, ranked on what they share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from embrepro.files import write_json
from embrepro.regression import board, revisions, sides
from embrepro.regression.revisions import RevisionError
from embrepro.tasks import samples
from revision_project import PAIRS, QUERIES, SUMMARIES, Project, _frame, drawn

pytest_plugins = ["revision_project"]
Run = Callable[..., Result]
DATA = "a0d554a64d88156834ff5ae9920b964011b16384"


def read(result: Result) -> dict[str, Any]:
    """What is printed as JSON, a board's entries by their label."""
    assert result.exit_code == 0, result.output
    found = dict(json.loads(result.stdout))
    return found | {"entries": {entry["label"]: entry for entry in found.get("entries", [])}}


def results_of(folder: Path, model: str, found: dict[str, np.ndarray | float], revision: str = "1") -> Path:
    """A folder of mteb's results of one model; per-sample scores beside those that have any."""
    there = folder / model / revision
    there.mkdir(parents=True, exist_ok=True)
    for task, value in found.items():
        score = float(np.mean(value))
        entry = {"hf_subset": "default", "languages": ["eng-Latn"], "main_score": score}
        write_json(there / f"{task}.json", {"task_name": task, "dataset_revision": DATA, "scores": {"test": [entry]}})
        if isinstance(value, np.ndarray):
            samples.write(samples.path_of(there, task), samples.Samples("mean", [_frame(value)]))
    return folder


class TestCompareOfMore:
    def test_each_model_is_there_once_and_the_order_is_that_of_the_means(self, program: Run) -> None:
        found = read(program("compare", "regression", "base", "improvement", "--json"))
        order = list(found["entries"])
        assert order == [
            "small",
            *[
                f"static ({next(s for s in found['sides'] if s.startswith(name))})"
                for name in ("improvement", "base", "regression")
            ],
        ]
        assert len(found["entries"]["small"]["sides"]) == 3
        means = [entry["mean_task"] for entry in found["entries"].values()]
        assert means == sorted(means, reverse=True)

    def test_ranks_have_intervals_that_keep_true_differences_apart(self, program: Run) -> None:
        """Every query of `improvement` is 0.03 better than `base`'s, and 0.06 better than `regression`'s."""
        models = read(program("compare", "regression", "base", "improvement", "--json"))["ranking"]["models"]
        assert [(one["rank"], one["rank_low"], one["rank_high"]) for one in models] == [
            (place, place, place) for place in (1, 2, 3, 4)
        ]

    def test_a_task_that_one_side_lacks_or_that_has_other_data_does_not_count(self, program: Run) -> None:
        found = read(program("compare", "base", "vanished", "repinned", "--json"))
        assert PAIRS not in found["tasks"]
        assert "not asked for in vanished" in found["left_out"][PAIRS]
        found = read(program("compare", "base", "regression", "repinned", "--json"))
        assert found["left_out"] == {PAIRS: "not comparable: other data"}

    def test_a_lost_score_leaves_its_model_without_mean_and_rank(self, program: Run) -> None:
        found = read(program("compare", "base", "lost", "regression", "improvement", "--json"))
        (lost,) = [label for label, entry in found["entries"].items() if entry["mean_task"] is None]
        assert lost.startswith("static (lost")
        assert found["ranking"]["unranked"] == {lost: "1 of 3 tasks missing"}
        assert found["entries"][lost]["status"][PAIRS] == "the download stage failed: no such revision"

    def test_a_score_without_samples_counts_without_uncertainty_and_says_so(self, program: Run) -> None:
        found = read(program("compare", "base", "regression", "improvement", "--json"))
        assert SUMMARIES in found["ranking"]["untested"]

    def test_the_page_says_who_leads(self, program: Run) -> None:
        for style in ("table", "markdown", "html"):
            said = program("compare", "base", "regression", "improvement", "--format", style).output
            assert "small has the highest mean over tasks" in " ".join(said.split())


class TestBoard:
    def test_it_shows_the_working_tree_the_last_commit_and_every_experiment(self, program: Run) -> None:
        found = read(program("board", "--json"))
        assert [side.split(" ")[0] for side in found["sides"]] == ["workspace", "HEAD", "faster"]
        assert len(found["entries"]) == 3

    def test_what_shares_no_task_with_the_newest_experiment_is_named_and_left_out(
        self, states: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last commit's recorded run often has other tasks than a sweep."""
        folder = results_of(tmp_path, "org__other", {"STS12": 0.5})
        monkeypatch.setattr(board, "names", lambda _: [str(folder), "base", "faster"])
        found = board.load_all(states.root)
        assert [side.split(" ")[0] for side in found.sides] == ["base", "faster"]
        assert found.notes[-1].endswith("is not on this board: the others share no task with it.")

    def test_what_dvc_remembers_of_an_applied_experiment_is_none(self, states: Project) -> None:
        """`dvc exp apply` leaves two commits beside the experiments, the last commit and what it replaced."""
        before = revisions.experiments(states.root)
        states.git("update-ref", "refs/exps/apply/ORIG_HEAD", "HEAD")
        try:
            assert revisions.experiments(states.root) == before
        finally:
            states.git("update-ref", "-d", "refs/exps/apply/ORIG_HEAD")

    def test_two_models_are_shown_without_ranks(self, program: Run) -> None:
        found = read(program("board", "base", "--json"))
        assert (list(found["entries"]), found["ranking"]) == (["small", "static"], None)
        assert "A ranking needs three models" in program("board", "base").output

    def test_nothing_in_common_is_refused(self, states: Project, tmp_path: Path) -> None:
        folder = results_of(tmp_path, "org__other", {"STS12": 0.5})
        with pytest.raises(RevisionError, match="No task was asked for in all of"):
            board.load(states.root, ["base", str(folder)])


class TestFolders:
    def test_models_of_folders_are_ranked_by_their_results_and_samples(self, states: Project, tmp_path: Path) -> None:
        folder = tmp_path / "results"
        for place, name in enumerate(("org__worst", "org__middle", "org__best")):
            results_of(folder, name, {"STS12": drawn(0.5, 1) + 0.05 * place})
        found = board.load(states.root, [str(folder)])
        assert found.tasks == {"STS12": "STS"}
        assert found.ranking is not None
        assert [(one.key, one.rank_low, one.rank_high) for one in found.ranking.models] == [
            ("org__best", 1, 1),
            ("org__middle", 2, 2),
            ("org__worst", 3, 3),
        ]

    def test_results_without_samples_are_shown_and_said_to_be_so(self, states: Project, tmp_path: Path) -> None:
        one = results_of(tmp_path / "one", "org__model", {"STS12": 0.5, "STS13": 0.4})
        other = results_of(tmp_path / "other", "org__model", {"STS12": 0.6, "STS14": 0.4})
        found = board.load(states.root, [str(one), str(other)])
        assert [entry.mean_task for entry in found.entries] == [0.6, 0.5]
        assert set(found.left_out) == {"STS13", "STS14"}
        assert any("holds no per-sample scores (STS12)" in note for note in found.notes)

    def test_models_without_any_samples_have_an_order_and_no_ranks(self, program: Run, tmp_path: Path) -> None:
        for place, name in enumerate(("org__worst", "org__middle", "org__best")):
            results_of(tmp_path, name, {"STS12": 0.5 + 0.1 * place})
        found = read(program("board", str(tmp_path), "--json"))
        assert (list(found["entries"]), found["ranking"]) == (["org__best", "org__middle", "org__worst"], None)
        said = " ".join(program("board", str(tmp_path)).output.split())
        assert "There are no ranks: no task has per-sample scores" in said and "beyond doubt" not in said

    def test_what_result_files_do_not_say_is_no_change(self, program: Run, states: Project, tmp_path: Path) -> None:
        results_of(tmp_path, "org__static", {QUERIES: 0.4})
        found = json.loads(program("compare", str(tmp_path), "base", "--json").stdout)
        assert {(one["kind"], one["name"].rpartition(", ")[2]) for one in found["changes"]} == {
            ("model", "revision"),
            ("data", "revision"),
        }

    def test_two_folders_are_compared_by_the_models_names(self, program: Run, tmp_path: Path) -> None:
        one = results_of(tmp_path / "one", "org__model", {"STS12": drawn(0.5, 1)})
        other = results_of(tmp_path / "other", "org__model", {"STS12": drawn(0.5, 1) - 0.03}, revision="2")
        (row,) = read(program("compare", str(one), str(other), "--json"))["rows"]
        assert row["difference"] == pytest.approx(-0.03)
        assert row["interval"]["high"] < 0
        assert row["incomparable"] == ""

    def test_two_revisions_of_a_model_in_a_folder_are_two(self, tmp_path: Path) -> None:
        results_of(tmp_path, "org__model", {"STS12": 0.5}, revision="first")
        results_of(tmp_path, "org__model", {"STS12": 0.6}, revision="second")
        assert set(sides.load(tmp_path, str(tmp_path)).run.models) == {"org__model@first", "org__model@second"}

    def test_an_empty_folder_and_a_damaged_file_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RevisionError, match="holds no result files"):
            sides.load(tmp_path, str(tmp_path))
        (tmp_path / "STS12.json").write_text("{")
        with pytest.raises(RevisionError, match="STS12.json cannot be read"):
            sides.load(tmp_path, str(tmp_path))

    def test_a_score_that_is_not_what_its_samples_give_is_refused(self, program: Run, tmp_path: Path) -> None:
        folder = results_of(tmp_path, "org__model", {"STS12": drawn(0.5, 1)})
        path = next(folder.rglob("STS12.json"))
        path.write_text(path.read_text().replace('"main_score": 0.', '"main_score": 0.9'))
        result = program("board", str(folder))
        assert result.exit_code == 2
        assert "its per-sample scores give" in " ".join(result.stderr.split())

    def test_another_project_is_a_folder_too(self, states: Project, tmp_path: Path) -> None:
        found = sides.load(tmp_path, str(states.root))
        assert set(found.run.models) == {"small", "static"}
        assert not isinstance(found.samples("static", QUERIES), str)


class TestFiles:
    def test_one_result_file_is_a_side_under_the_name_of_its_folders(self, program: Run, tmp_path: Path) -> None:
        before = results_of(tmp_path / "a", "org__model", {"STS12": 0.5, "STS14": 0.6})
        after = results_of(tmp_path / "b", "org__model", {"STS12": 0.7})
        file = before / "org__model" / "1" / "STS12.json"
        result = program("compare", str(file), str(after / "org__model" / "1"), "--json")
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)["rows"]
        assert (row["model"], row["task"], row["old"], row["new"]) == ("org__model", "STS12", 0.5, 0.7)

    def test_the_results_repositorys_layout_names_model_and_revision_wherever_reading_begins(
        self, tmp_path: Path
    ) -> None:
        """results/<model>/<revision>/<Task>.json, and below a revision experiments/<settings>."""
        results_of(tmp_path / "results", "org__model", {"STS12": 0.5}, "f" * 40)
        results_of(tmp_path / "results", "org__model", {"STS12": 0.4}, f"{'f' * 40}/experiments/dim_8")
        for start in ("results/org__model", f"results/org__model/{'f' * 40}", "results"):
            run = sides.read_results(tmp_path / start).run
            assert set(run.models) == {"org__model@ffffffff", "org__model@ffffffff dim_8"}, start
            assert {model.name for model in run.models.values()} == {"org/model"}
        cut = sides.read_results(tmp_path / "results" / "org__model" / ("f" * 40) / "experiments" / "dim_8")
        assert cut.run.models["org__model"].revision == f"{'f' * 40} dim_8"

    def test_a_summary_of_the_kit_is_a_side(self, program: Run, states: Project) -> None:
        file = states.root / "reports" / "summary.json"
        found = json.loads(program("compare", str(file), "regression", "--json").stdout)
        assert {row["task"]: row["difference"] for row in found["rows"] if row["model"] == "static"}[
            QUERIES
        ] == pytest.approx(-0.03, abs=1e-9)
        assert f"no per-sample scores of {QUERIES} in {file}" in " ".join(found["notes"])

    def test_what_mteb_says_of_a_run_beside_its_results_is_read(self, tmp_path: Path) -> None:
        folder = results_of(tmp_path, "org__model", {"STS12": 0.5, "STS14": 0.5}) / "org__model" / "1"
        write_json(folder / "model_meta.json", {"embed_dim": 8, "max_tokens": 24, "similarity_fn_name": "dot"})
        lines = [
            {
                "task": task,
                "version": {"torch": "2.1", "transformers": version, "flash-attn": None},
                "encode_kwargs": {"batch_size": 16},
            }
            for task, version in (("STS12", "5.0"), ("STS14", "5.1"))
        ]
        (folder / "run_settings.jsonl").write_text("\n".join(map(json.dumps, lines)))
        run = sides.read_results(tmp_path).run
        (model,) = run.models.values()
        assert (model.dimensions, model.max_seq_length, model.similarity, model.recipe) == (
            8,
            24,
            "dot",
            {"batch_size": 16},
        )
        assert run.packages == {"torch": "2.1"}  # two versions of transformers are none

    def test_any_other_file_is_refused(self, program: Run, tmp_path: Path) -> None:
        for content, why in (
            ("{", "not a JSON file"),
            ('{"name": "a"}', "neither a result file of mteb's nor a summary"),
        ):
            (tmp_path / "file.json").write_text(content)
            refused = program("compare", str(tmp_path / "file.json"))
            assert refused.exit_code == 2
            assert why in " ".join(refused.stderr.split())
