"""Sparse models and cross-encoders go through all stages."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_mirror
from embrepro import suite
from embrepro.config.schema import parse_config
from embrepro.layout import Layout
from embrepro.pipeline import benchmark, download, report
from embrepro.results.quantities import QUANTITIES, Measurements
from embrepro.tasks import freezing
from stage_project import run, times, values
from tiny_mirror import RETRIEVAL

pytest_plugins = ["stage_project"]


@pytest.mark.slow
@pytest.mark.usefixtures("preloaded_workers")
def test_a_sparse_model_goes_through_all_stages(sources: Path, sparse_folder: Path, tmp_path: Path) -> None:
    changed = values(
        sources,
        models__small={"org": "test", "name": "small", "family": "sparse", "folder": str(sparse_folder)},
        benchmark={"repeats": 6, "batch_sizes": [4], "seconds": 0.01, "longest_batch": 5, "queries": 2},
    )
    changed["tasks"]["names"] += list(suite.CATEGORIES)
    chosen, layout = parse_config(changed, "test"), Layout(tmp_path)
    scores = run(chosen, layout)["models"]["small"]["scores"]
    assert all(score is not None for score in scores.values())
    speed = benchmark.run(chosen, layout, "small").models["small"]
    summary, _ = report.read(layout)
    card = summary.models["small"]
    assert (card.family, card.similarity, card.dimensions) == ("sparse", "dot", speed.dimensions)
    assert set(card.active_dimensions) == {"", "query", "document"}
    assert all(0 < active < 0.5 * speed.dimensions for active in card.active_dimensions.values())
    assert {row.category for row in summary.legacy if row.model == "small"} > {"topic clustering"}
    report.run(chosen, layout)
    assert "Dimensions that are not zero" in (layout.reports / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("preloaded_workers")
def test_a_cross_encoder_goes_through_all_stages_beside_an_embedding_model(
    sources: Path, cross_encoder_folder: Path, tmp_path: Path
) -> None:
    """It ranks what the task brings, or what BM25 finds; a task with nothing to rank is a row with its reason."""
    changed = values(
        sources,
        models__small={"org": "test", "name": "small", "family": "cross-encoder", "folder": str(cross_encoder_folder)},
        tasks__names=[tiny_mirror.RERANKING, RETRIEVAL],
        benchmark={"repeats": 6, "batch_sizes": [4], "seconds": 0.01, "longest_batch": 5, "queries": 2},
    )
    chosen, layout = parse_config(changed, "test"), Layout(tmp_path)
    metrics = run(chosen, layout)
    assert metrics["models"]["small"]["scores"][tiny_mirror.RERANKING] > 0
    assert "a cross-encoder scores documents that are ranked already" in metrics["status"]["small"][RETRIEVAL]
    assert metrics["models"]["big"]["scores"][RETRIEVAL] is not None
    speed = benchmark.run(chosen, layout, "small")
    assert (speed.models["small"].dimensions, speed.models["small"].pairs) == (None, True)
    measured = Measurements(speed=speed.models["small"]), Measurements(speed=speed.models["big"])
    assert [QUANTITIES["pairs_per_second_long"].take(each) is None for each in measured] == [False, True]
    summary, _ = report.read(layout)
    row = next(row for row in summary.tasks if row.name == tiny_mirror.RERANKING)
    assert row.difference is not None
    assert row.difference.interval is not None
    assert (summary.models["small"].dimensions, summary.models["small"].similarity) == (None, None)
    report.run(chosen, layout)
    before = run(chosen, layout)
    assert before == metrics
    written = times(layout.embeddings("big"))
    listed = {path: path.read_bytes() for path in layout.tasks.rglob("*") if path.is_file()}
    (tmp_path / "nothing").mkdir()
    changed |= {"tasks": changed["tasks"] | {"rerank": 5}, "source": {"mirror": str(tmp_path / "nothing")}}
    behind = run(parse_config(changed, "test"), layout)
    assert times(layout.embeddings("big")) == written
    assert 0 < behind["models"]["small"]["scores"].pop(RETRIEVAL) <= 1
    assert behind["models"]["small"]["scores"].items() <= metrics["models"]["small"]["scores"].items()
    summary, _ = report.read(layout)
    cells = next(row.cells for row in summary.tasks if row.name == RETRIEVAL)
    assert cells["big"].first_stage is None
    bm25 = freezing.read_manifest(layout.tasks / RETRIEVAL).first_stage
    assert cells["small"].first_stage == bm25
    assert bm25 is not None
    assert bm25.score is not None
    report.run(chosen, layout)
    assert f"reranks BM25's first 5; BM25 alone {100 * bm25.score:.2f}" in (layout.reports / "report.md").read_text()
    changed["tasks"]["rerank"] = None
    download.run(parse_config(changed, "test"), layout)
    assert {path: path.read_bytes() for path in layout.tasks.rglob("*") if path.is_file()} == listed
