"""The case of the language code runs mteb 1.39.7 itself, in its own environment, and records what it did."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from conftest import REPOSITORY
from embrepro import kit
from embrepro.cases import environment, languages
from embrepro.cases.records import CaseRecord, CaseRun, read_record
from embrepro.claims.known_values import KnownValues
from embrepro.claims.metrics import CaseTasksMetric
from embrepro.config.compose import compose_values
from embrepro.config.schema import parse_config
from embrepro.doctor import examination
from embrepro.errors import ConfigError
from embrepro.layout import Layout
from embrepro.pipeline import case
from embrepro.tasks import registry


def test_the_committed_record_is_of_that_version_and_shows_the_silence() -> None:
    record = read_record(Layout(REPOSITORY))
    assert record is not None
    assert record.mteb == "1.39.7"
    for run in record.runs:
        assert run.error is None
        assert (run.score is None) == (run.language == "en")
        assert run.seconds is not None
        assert (run.seconds < 1e-3) == (run.language == "en")


def test_it_scores_minilm_as_published_once_the_code_is_right() -> None:
    """Scores of all-MiniLM-L6-v2 in mteb's results repository: SICK-R 0.7758, STSBenchmark 0.8203."""
    record = read_record(Layout(REPOSITORY))
    assert record is not None
    scores = {run.task: run.score for run in record.runs if (run.model, run.language) == ("minilm", "eng")}
    assert scores == {"SICK-R": pytest.approx(0.7758, abs=5e-5), "STSBenchmark": pytest.approx(0.8203, abs=5e-5)}


def test_runs_of_the_same_model_on_the_same_data_are_kept() -> None:
    runs = [
        CaseRun(model=model, language="en", task="SICK-R", score=None, seconds=1e-5, error=None)
        for model in ("one", "two")
    ]
    before = CaseRecord(mteb="1.39.7", models={"one": "a", "two": "b"}, data={"SICK-R": "d"}, runs=runs)
    assert languages._kept(before, {"one": "a", "two": "other"}, {"SICK-R": "d"}) == {"one": runs[:1]}
    assert languages._kept(before, {"one": "a"}, {"SICK-R": "other"}) == {}
    assert languages._kept(None, {"one": "a"}, {}) == {}


def test_a_case_that_cannot_be_run_leaves_its_reason_for_the_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = parse_config(compose_values(["+experiment=analysis"], REPOSITORY / "conf"), "conf/")
    assert chosen.cases == ["languages"]
    monkeypatch.setattr(kit, "ROOT", tmp_path)
    case.run(chosen, Layout(tmp_path), "languages")
    record = read_record(Layout(tmp_path))
    assert record is not None
    assert record.problem is not None
    assert "mteb1.lock is missing" in record.problem
    metric = CaseTasksMetric(kind="case_tasks", case="languages", models=["minilm"], tasks=["SICK-R"], language="en")
    assert "mteb1.lock is missing" in metric.resolve(KnownValues(cases={"languages": record})).reason
    with pytest.raises(ConfigError, match="No case 'nothing'"):
        case.run(chosen, Layout(tmp_path), "nothing")


@pytest.mark.slow
def test_en_scores_nothing_without_a_word_and_eng_scores(tmp_path: Path, static_folder: Path) -> None:
    """Made in seconds on top of the test's own environment; only the data, thirty pairs, is not the task's."""
    python = environment.make(REPOSITORY)
    table = tmp_path / "pairs.parquet"
    words = ["one two", "two three", "three four", "four five", "five six"] * 6
    columns = {"sentence1": words, "sentence2": words[1:] + words[:1], "score": [float(n % 6) for n in range(30)]}
    pl.DataFrame(columns).write_parquet(table)
    results = tmp_path / "results"
    job = tmp_path / "job.json"
    languages.write_json(
        job,
        {
            "languages": languages.CODES,
            "models": {"static": str(static_folder)},
            "tasks": {"SICK-R": str(table)},
            "results": str(results),
        },
    )
    languages._start(python, job)
    lost, scored = (languages._read(results, "static", code, "SICK-R") for code in languages.CODES)
    assert (lost.score, lost.error) == (None, None)
    assert lost.seconds is not None
    assert lost.seconds < 1e-3
    assert scored.score is not None
    assert scored.seconds is not None
    assert scored.seconds > 100 * lost.seconds
    found = examination.examine(results / "en", lookup=registry.find)
    assert any("language" in finding.cause for finding in found if finding.severity == "error")
