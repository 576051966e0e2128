"""The doctor: what is wrong with a folder of mteb results, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mteb
import numpy as np
import polars as pl
import pytest
from mteb.mocks import MockClassificationTask, MockMultilingualSTSTask, MockRetrievalTask, MockSTSTask
from mteb.models.model_meta import ModelMeta
from typer.testing import CliRunner

from embrepro.cli import app
from embrepro.doctor.examination import Finding, examine
from embrepro.errors import KitError

if TYPE_CHECKING:
    from collections.abc import Callable

MOCKS = {
    task.metadata.name: task
    for task in (MockClassificationTask, MockMultilingualSTSTask, MockRetrievalTask, MockSTSTask)
}


def mock(name: str) -> mteb.AbsTask:
    return MOCKS[name]()


class Words:
    """A small encoder: hashed bags of words; `sign` 0 maps every text to zeros."""

    def __init__(self, name: str, *, seed: int = 1, scale: float = 1.0) -> None:
        self.seed, self.scale = seed, scale
        self.mteb_model_meta = ModelMeta.create_empty(overwrites={"name": name, "revision": "1"})

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        texts = [text for batch in inputs for text in batch["text"]]
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> np.ndarray:
        seeds = [self.seed * 1000 + sum(word.encode()) for word in text.split() or ["-"]]
        return self.scale * np.mean([np.random.default_rng(s).normal(size=16) for s in seeds], axis=0)

    def similarity(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.asarray(mteb.similarity_functions.cos_sim(left, right))

    def similarity_pairwise(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.asarray(mteb.similarity_functions.pairwise_cos_sim(left, right))


@pytest.fixture(scope="module")
def written_by_mteb(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Results that mteb 2.x itself wrote for two models, copied afresh for every test."""
    cache = tmp_path_factory.mktemp("cache")
    for seed, name in enumerate(("org/one", "org/two"), 1):
        tasks = [MockClassificationTask(), MockRetrievalTask(), MockSTSTask(), MockMultilingualSTSTask()]
        mteb.evaluate(
            Words(name, seed=seed),
            tasks,
            cache=mteb.ResultCache(cache),
            show_progress_bar=False,
            co2_tracker=False,
        )

    def copy(target: Path) -> Path:
        for path in (cache / "results").rglob("*.json"):
            place = target / path.relative_to(cache / "results")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
        return target

    return copy


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields), encoding="utf-8")


def only(findings: list[Finding], text: str) -> Finding:
    (found,) = [finding for finding in findings if text in finding.what]
    return found


# The analysis's seven tasks as mteb 1.39.7 wrote them under languages=["en"]: scores, seconds, data revision.
SIGNATURE: dict[str, tuple[float | None, float, str]] = {
    "Banking77Classification": (0.800422, 22.4, "0fd18e25b25c072e09e0d92ab615fda904d66300"),
    "NFCorpus": (0.31594, 5.9, "ec0fa4fe99da2ff19ca1214b7966684033a58814"),
    "SciFact": (0.64508, 8.2, "0228b52cf27578f30900b9e5271d331663a030d7"),
    "SICK-R": (None, 4.7e-06, "20a6d6f312dd54037fe07a32d58e5e168867909d"),
    "STSBenchmark": (None, 5.2e-06, "b0fddb56ed78048fa8b90373c8a3cfc37b684831"),
    "SprintDuplicateQuestions": (None, 4.5e-06, "d66bd1f72af766a5cc4b0ca5e00c162f89e8cc46"),
    "TwentyNewsgroupsClustering": (None, 4.7e-06, "6125ec4e24fa026cec8a478383ee943acfbd5449"),
}


def write_signature(root: Path, model: str, factor: float = 1.0) -> Path:
    folder = root / model / "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    folder.mkdir(parents=True)
    for task, (score, seconds, revision) in SIGNATURE.items():
        entry = {"hf_subset": "default", "languages": ["eng-Latn"], "main_score": (score or 0) * factor}
        content = {
            "dataset_revision": revision,
            "task_name": task,
            "mteb_version": "1.39.7",
            "scores": {} if score is None else {"test": [entry]},
            "evaluation_time": seconds,
            "kg_co2_emissions": None,
        }
        (folder / f"{task}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    (folder / "model_meta.json").write_text(json.dumps({"name": model.replace("__", "/")}), encoding="utf-8")
    return folder


class TestTheAnalysis:
    """Four tasks with empty scores after microseconds, three scored: what happened there."""

    def test_the_language_code_is_named_as_the_cause(self, tmp_path: Path) -> None:
        write_signature(tmp_path, "sentence-transformers__all-MiniLM-L6-v2")
        first = examine(tmp_path)[0]
        assert first.severity == "error"
        assert first.what == (
            "4 of 7 tasks have empty scores (SICK-R, STSBenchmark, SprintDuplicateQuestions, "
            "TwentyNewsgroupsClustering), while 3 of type Classification and Retrieval are scored"
        )
        assert "languages=['en']" in first.cause
        assert "ISO 639-3 codes such as 'eng'" in first.cause
        assert "languages=['eng']" in first.advice

    def test_every_empty_file_is_named_with_its_time(self, tmp_path: Path) -> None:
        write_signature(tmp_path, "sentence-transformers__all-MiniLM-L6-v2")
        found = only(examine(tmp_path), "SICK-R: empty scores")
        assert found.what == "SICK-R: empty scores after 4.7e-06 s"
        assert found.file.endswith("c9745ed1d9f207416be6d2e6f8de32d1f16199bf/SICK-R.json")
        assert "'en' where mteb expects 'eng'" in found.cause

    def test_nothing_is_said_against_the_tasks_that_were_scored(self, tmp_path: Path) -> None:
        write_signature(tmp_path, "sentence-transformers__all-MiniLM-L6-v2")
        severe = [finding for finding in examine(tmp_path) if finding.severity != "note"]
        assert [finding.severity for finding in severe] == ["error"] * 5
        assert all("empty scores" in finding.what for finding in severe)

    def test_two_models_with_the_same_gap_clear_each_other(self, tmp_path: Path) -> None:
        write_signature(tmp_path, "sentence-transformers__all-MiniLM-L6-v2")
        write_signature(tmp_path, "tss-deposium__qwen25-deposium-1024d", factor=0.3)
        summaries = [finding for finding in examine(tmp_path) if "of 7 tasks" in finding.what]
        assert len(summaries) == 2
        assert "the same tasks as tss-deposium__qwen25-deposium-1024d, so it is not this model's doing" in (
            summaries[0].what
        )

    def test_the_flat_layout_of_the_script_is_read_as_well(self, tmp_path: Path) -> None:
        nested = write_signature(tmp_path / "nested", "org__model")
        flat = tmp_path / "mteb_results"
        nested.rename(flat)
        assert "languages=['en']" in examine(flat)[0].cause

    def test_empty_retrieval_has_another_cause(self, tmp_path: Path) -> None:
        folder = write_signature(tmp_path, "org__model")
        change(folder / "SciFact.json", scores={})
        first = examine(tmp_path)[0]
        assert "5 of 7 tasks" in first.what
        assert "language" in first.cause
        assert "hf_subsets=[]" in first.cause


class TestResultsOfMteb2:
    def test_whole_results_have_no_findings(self, tmp_path: Path, written_by_mteb: Callable[[Path], Path]) -> None:
        assert examine(written_by_mteb(tmp_path), lookup=mock) == []

    def test_empty_subsets_that_mteb_2_lets_through_are_found(self, tmp_path: Path) -> None:
        task = MockSTSTask()
        task.hf_subsets = []
        mteb.evaluate(
            Words("org/one"),
            [task],
            cache=mteb.ResultCache(tmp_path),
            show_progress_bar=False,
            co2_tracker=False,
        )
        found = examine(tmp_path, lookup=mock)
        assert only(found, "MockSTSTask: empty scores").severity == "error"

    @pytest.mark.filterwarnings("ignore:An input array is constant")
    def test_zero_embeddings_end_in_a_nan_that_is_found(self, tmp_path: Path) -> None:
        """Constant similarities leave Spearman's correlation undefined; mteb stores the NaN and keeps it."""
        model = Words("org/zero", scale=0.0)
        mteb.evaluate(
            model,
            [MockSTSTask()],
            cache=mteb.ResultCache(tmp_path),
            show_progress_bar=False,
            co2_tracker=False,
        )
        found = only(examine(tmp_path, lookup=mock), "is NaN")
        assert (found.severity, "all equal, zero or NaN" in found.cause) == ("error", True)

    def test_missing_subsets_and_splits_are_found(
        self, tmp_path: Path, written_by_mteb: Callable[[Path], Path]
    ) -> None:
        folder = written_by_mteb(tmp_path) / "org__one" / "1"
        scores = json.loads((folder / "MockMultilingualSTSTask.json").read_text())["scores"]
        change(folder / "MockMultilingualSTSTask.json", scores={"test": scores["test"][:1]})
        assert "1 of 2 subsets have no scores" in only(examine(tmp_path, lookup=mock), "subsets").what
        change(folder / "MockMultilingualSTSTask.json", scores={"dev": scores["test"]})
        assert "no scores for split test (there: dev)" in only(examine(tmp_path, lookup=mock), "for split").what

    @pytest.mark.parametrize(
        ("score", "what"), [(80.04, "is 80.04, outside -1 to 1"), (None, "is none"), (float("nan"), "is NaN")]
    )
    def test_impossible_scores_are_errors(
        self, tmp_path: Path, written_by_mteb: Callable[[Path], Path], score: float | None, what: str
    ) -> None:
        path = written_by_mteb(tmp_path) / "org__one" / "1" / "MockSTSTask.json"
        change(path, scores={"test": [{"hf_subset": "default", "languages": [], "main_score": score}]})
        assert only(examine(tmp_path, lookup=mock), what).severity == "error"

    def test_a_missing_model_meta_is_found(self, tmp_path: Path, written_by_mteb: Callable[[Path], Path]) -> None:
        (written_by_mteb(tmp_path) / "org__one" / "1" / "model_meta.json").unlink()
        (found,) = examine(tmp_path, lookup=mock)
        assert (found.severity, found.file) == ("warning", "org__one/1")

    def test_a_task_that_one_model_lacks_is_found(
        self, tmp_path: Path, written_by_mteb: Callable[[Path], Path]
    ) -> None:
        (written_by_mteb(tmp_path) / "org__two" / "1" / "MockSTSTask.json").unlink()
        (found,) = examine(tmp_path, lookup=mock)
        assert (found.file, found.what) == (
            "org__two/1",
            "no result for MockSTSTask, which other models here have",
        )

    def test_an_instant_score_and_another_data_revision_are_noticed(
        self, tmp_path: Path, written_by_mteb: Callable[[Path], Path]
    ) -> None:
        path = written_by_mteb(tmp_path) / "org__one" / "1" / "MockSTSTask.json"
        change(path, evaluation_time=2e-6, dataset_revision="0" * 40)
        found = examine(tmp_path, lookup=mock)
        assert only(found, "scored in 2e-06 s").severity == "warning"
        assert only(found, "data revision").severity == "note"


def test_a_retrieval_score_of_exactly_zero_hints_at_the_qrels(tmp_path: Path) -> None:
    folder = write_signature(tmp_path, "org__model")
    change(folder / "NFCorpus.json", scores={"test": [{"hf_subset": "default", "main_score": 0.0}]})
    assert "qrels" in only(examine(tmp_path), "is exactly 0").cause


def test_identical_scores_of_two_models_are_an_error(tmp_path: Path) -> None:
    for model in ("org__one", "org__two"):
        write_signature(tmp_path, model)
    found = only(examine(tmp_path), "the same scores as org__two/")
    assert (found.severity, "result cache" in found.cause) == ("error", True)
    assert "on Banking77Classification, NFCorpus, SciFact" in found.what


def test_different_scores_are_not_called_identical(tmp_path: Path) -> None:
    write_signature(tmp_path, "org__one")
    write_signature(tmp_path, "org__two", factor=0.999)
    assert not [finding for finding in examine(tmp_path) if "the same scores" in finding.what]


def test_queries_that_were_dropped_are_found(tmp_path: Path) -> None:
    """NFCorpus has 323 test queries by mteb's own descriptive statistics."""
    folder = write_signature(tmp_path, "org__model")
    scored = pl.DataFrame({"sample": [f"q{n}" for n in range(300)]})
    scored = scored.with_columns(split=pl.lit("test"), subset=pl.lit("default"))
    scored.write_parquet(folder / "NFCorpus.samples.parquet")
    found = only(examine(tmp_path), "queries scored")
    assert found.what == "NFCorpus test: 300 queries scored of 323"
    assert "qrels" in found.cause


def test_results_from_before_1_11_are_read(tmp_path: Path) -> None:
    """{split: {metric: {...}}} with mteb_dataset_name, as mteb 1.0 wrote them."""
    folder = tmp_path / "all-MiniLM-L6-v2"
    folder.mkdir()
    content = {
        "dataset_revision": "20a6d6f312dd54037fe07a32d58e5e168867909d",
        "mteb_dataset_name": "SICK-R",
        "mteb_version": "1.0.0",
        "test": {"cos_sim": {"pearson": 0.83, "spearman": 0.7758}, "evaluation_time": 3.2},
    }
    (folder / "SICK-R.json").write_text(json.dumps(content), encoding="utf-8")
    assert [finding.what for finding in examine(tmp_path)] == ["no model_meta.json beside the results"]


def test_an_unknown_task_is_a_note(tmp_path: Path) -> None:
    folder = write_signature(tmp_path, "org__model")
    change(folder / "SciFact.json", task_name="NoSuchTaskAtAll")
    assert only(examine(tmp_path), "mteb does not know NoSuchTaskAtAll").severity == "note"


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    folder = write_signature(tmp_path, "org__model")
    whole = (folder / "SciFact.json").read_text()
    (folder / "SciFact.json").write_text(whole[: len(whole) // 2])
    found = only(examine(tmp_path), "not a JSON file")
    assert found.file.endswith("SciFact.json")


def test_a_folder_without_results_is_an_error_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert [finding.what for finding in examine(tmp_path)] == ["no result file of mteb in this folder"]
    with pytest.raises(KitError, match="no-such"):
        examine(tmp_path / "no-such")


@pytest.mark.parametrize("name", [None, "", "no_model_name/available"])
def test_a_model_without_a_name_is_an_error(tmp_path: Path, name: str | None) -> None:
    folder = write_signature(tmp_path, "org__model")
    change(folder / "model_meta.json", name=name)
    assert only(examine(tmp_path), "without a name").severity == "error"


def test_mtebs_stand_in_for_a_name_is_an_error(tmp_path: Path) -> None:
    folder = write_signature(tmp_path, "no_model_name_available")
    (folder / "model_meta.json").unlink()
    assert only(examine(tmp_path), "without a name").severity == "error"


def test_two_scores_of_one_task_are_an_error(tmp_path: Path) -> None:
    folder = write_signature(tmp_path, "org__model")
    assert not [finding for finding in examine(tmp_path) if "scores:" in finding.what]
    (folder / "copy.json").write_bytes((folder / "SciFact.json").read_bytes())
    assert not [finding for finding in examine(tmp_path) if "scores:" in finding.what]
    entries = [{"hf_subset": "default", "languages": ["eng-Latn"], "main_score": 0.7}]
    change(folder / "copy.json", scores={"test": entries})
    found = only(examine(tmp_path), "SciFact test/default of org__model has 2 scores: 0.64508 and 0.7")
    assert found.severity == "error"
    (folder / "copy.json").unlink()
    change(folder / "SciFact.json", scores={"test": [entries[0], entries[0] | {"main_score": 0.1}]})
    assert only(examine(tmp_path), "has 2 scores: 0.7 and 0.1")


def test_notes_are_not_counted_as_warnings(tmp_path: Path) -> None:
    folder = write_signature(tmp_path, "org__model")
    for path in folder.glob("*.json"):
        if path.stem not in ("SciFact", "model_meta"):
            path.unlink()
    change(folder / "SciFact.json", dataset_revision="0" * 40)
    said = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert said.output.splitlines()[-1] == "0 errors, 0 warnings, 1 note"
