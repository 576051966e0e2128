"""The stages from download to metrics on made-up data: what comes out, the same to the byte each time."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import mteb
import numpy as np
import pytest
import yaml

from conftest import REPOSITORY
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, benchmark, check, report
from embrepro.tasks import encode_requests, freezing, registry, samples
from stage_project import MODELS, configuration, metrics_bytes, run
from tiny_mirror import RETRIEVAL, STS, TASKS

pytest_plugins = ["stage_project"]


def test_every_requested_task_has_a_score_for_every_model(done: Layout) -> None:
    metrics = json.loads(metrics_bytes(done))
    for key in MODELS:
        scores = metrics["models"][key]["scores"]
        assert list(scores) == sorted(TASKS)
        assert all(-1 <= score <= 1 for score in scores.values())
        assert metrics["status"][key] == dict.fromkeys(sorted(TASKS), "scored")
        assert metrics["models"][key]["mean_task"] == pytest.approx(np.mean(list(scores.values())), abs=1e-12)


def test_the_scores_are_those_of_mteb_on_the_same_data(done: Layout, sources: Path) -> None:
    """`mteb.evaluate` with the model itself, no replay; equal to the last bit for a static model."""
    from embrepro import models

    chosen = configuration(sources)
    model = chosen.models["big"]
    loaded = models.load(sources / "big", model, chosen.device)
    encoder = models.wrap(loaded, model, "1", models.describe(loaded))
    metrics = json.loads(metrics_bytes(done))
    for request in registry.resolve(chosen.tasks):
        task = freezing.load_frozen(request, done.tasks / request.name)
        result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
        assert metrics["models"]["big"]["scores"][request.name] == result.get_score()


def test_results_are_read_back_by_mteb(done: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = json.loads(metrics_bytes(done))
    monkeypatch.setenv("MTEB_CACHE", str(done.root))
    by_cache = mteb.ResultCache(done.root).load_results(include_remote=False, validate_and_filter=True)
    for found in (by_cache, mteb.load_results(download_latest=False)):
        by_model = {result.model_name: result for result in found.model_results}
        assert set(by_model) == {"test/big", "test/small"}
        for key in MODELS:
            read = {result.task_name: result.get_score() for result in by_model[f"test/{key}"].task_results}
            assert read == metrics["models"][key]["scores"]


def test_samples_lie_beside_every_result(done: Layout) -> None:
    for key in MODELS:
        folder = next(path for path in (done.root / "results" / f"test__{key}").iterdir())
        names = {path.name for path in folder.iterdir()}
        assert names == {"model_meta.json"} | {
            f"{task}{end}" for task in TASKS for end in (".json", ".samples.parquet")
        }
        assert len(samples.read(folder / f"{RETRIEVAL}.samples.parquet").frame) == 50
        assert len(samples.read(folder / f"{STS}.samples.parquet").frame) == 50


def test_check_ends_well_where_every_task_has_a_score(done: Layout, sources: Path) -> None:
    check.run(configuration(sources), done)


def test_two_runs_from_scratch_give_the_same_bytes(done: Layout, sources: Path, tmp_path: Path) -> None:
    again = Layout(tmp_path)
    run(configuration(sources), again)
    assert metrics_bytes(again) == metrics_bytes(done)
    for folder in ("data", "embeddings"):
        ours = {
            path.relative_to(again.root): path.read_bytes()
            for path in (again.root / folder).rglob("*")
            if path.is_file()
        }
        theirs = {
            path.relative_to(done.root): path.read_bytes() for path in (done.root / folder).rglob("*") if path.is_file()
        }
        assert ours == theirs


def test_listing_twice_gives_the_same_requests(done: Layout, sources: Path, tmp_path: Path) -> None:
    for request in registry.resolve(configuration(sources).tasks):
        folder = Path(shutil.copytree(done.tasks / request.name, tmp_path / request.name))
        before = freezing.read_manifest(folder)
        assert encode_requests.write(request, folder) == before


def test_a_run_that_measures_no_speed_reports_none(project: Layout, sources: Path) -> None:
    chosen = configuration(sources, benchmark__measure=False, claims=[], recommendation=None)
    for key in chosen.benchmarked:
        benchmark.run(chosen, project, key)
    aggregate.run(chosen, project)
    report.run(chosen, project)
    assert project.speed.is_file(), "DVC expects what a stage promises"
    text = project.report_markdown.read_text(encoding="utf-8")
    assert "no benchmark was run" in text
    assert "texts/s" not in text


def test_dvc_plots_one_bar_a_task_and_model(done: Layout) -> None:
    """Rows that share a bar are stacked."""
    drawn = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["aggregate"]["plots"][0]
    ((name, settings),) = drawn.items()
    with (done.root / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(MODELS) * len(TASKS)
    assert len({row[settings["y"]] for row in rows}) == len(rows)
    assert all(float(row[settings["x"]]) <= 1 for row in rows)
