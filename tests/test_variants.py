"""Variants of stored embeddings: the same scores as sentence-transformers' own truncation and quantisation, and no model."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb.models import CompressionWrapper, SentenceTransformerEncoderWrapper
from mteb.types import OutputDType
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import quantization

from conftest import build_sources
from embrepro import models
from embrepro.config.schema import parse_config
from embrepro.errors import ConfigError
from embrepro.layout import Layout
from embrepro.pipeline import variants
from embrepro.rendering import render_html, render_markdown, render_terminal
from embrepro.tasks import encode_requests, freezing, registry
from embrepro.variants import definition, searching, serving, timing
from embrepro.variants.comparing import VariantsReport
from embrepro.variants.definition import Precision, Variant
from embrepro.variants.pages import variants_page
from stage_project import run, values
from tiny_mirror import CLASSIFICATION, RERANKING, RETRIEVAL, STS

TASKS = [STS, CLASSIFICATION, RETRIEVAL, RERANKING]
KEY = "big"

# What faiss-cpu 1.15.1 and usearch 2.19.23 find under sentence-transformers 6.2.0 (semantic_search_faiss with uint8 and
# ubinary, semantic_search_usearch with int8; exact=True, top_k=5, ranges of the documents) for the vectors of `searched`.
FOUND: dict[tuple[Precision, bool], list[list[int]]] = {
    ("uint8", False): [
        [124, 33, 294, 100, 109],
        [150, 109, 83, 33, 124],
        [33, 124, 2, 294, 100],
        [124, 100, 294, 33, 109],
    ],
    ("uint8", True): [[167, 294, 68, 162, 109], [150, 83, 109, 101, 42], [2, 156, 5, 33, 294], [30, 241, 294, 5, 100]],
    ("binary", False): [[274, 0, 93, 108, 213], [1, 103, 88, 130, 193], [2, 15, 25, 152, 191], [3, 244, 80, 147, 155]],
    ("binary", True): [[274, 0, 294, 57, 213], [1, 193, 103, 88, 130], [2, 25, 254, 15, 85], [3, 155, 199, 245, 244]],
    ("int8", False): [[0, 274, 88, 13, 149], [1, 193, 218, 93, 58], [2, 220, 200, 73, 25], [3, 99, 231, 205, 96]],
    ("int8", True): [[0, 274, 88, 13, 53], [1, 193, 218, 293, 103], [2, 220, 73, 85, 200], [3, 231, 245, 155, 99]],
}
BEST_SCORES = {
    ("int8", False): 35431.0,
    ("int8", True): 0.7022,
    ("uint8", True): 0.1973,
    ("binary", False): -5.0,
    ("binary", True): 1.2117,
}


def normalised(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def searched() -> tuple[np.ndarray, np.ndarray]:
    """Four queries near the first four of 300 documents, in 24 dimensions."""
    rng = np.random.default_rng(5)
    documents = normalised(rng.standard_normal((300, 24)).astype(np.float32))
    noise = 0.9 * rng.standard_normal((4, 24)).astype(np.float32) / 24**0.5
    return normalised((documents[:4] + noise).astype(np.float32)), documents


@pytest.mark.parametrize(("precision", "rescored"), FOUND)
def test_a_search_finds_what_the_library_finds(precision: Precision, rescored: bool) -> None:
    queries, documents = searched()
    codes = serving.Codes(Variant(24, precision, rescored), documents)
    found = list(codes.best(queries, codes.of(documents), 5))
    assert [places.tolist() for places, _ in found] == FOUND[precision, rescored]
    if (precision, rescored) in BEST_SCORES:
        assert found[0][1][0] == pytest.approx(BEST_SCORES[precision, rescored], abs=5e-5)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_what_is_ranked_again_is_restored_as_the_library_restores_it(precision: Precision) -> None:
    _, documents = searched()
    ranges = np.stack([documents.min(axis=0), documents.max(axis=0)])
    codes = quantization.quantize_embeddings(documents, precision, ranges=ranges)
    expected = quantization._dequantize_embeddings(np.asarray(codes).astype(int), precision, ranges)
    ours = serving.Codes(Variant(24, precision, rescored=True), documents)
    assert np.array_equal(ours.of(documents), codes)
    assert np.allclose(ours.restored(ours.of(documents)), expected, rtol=0, atol=1e-7)


def test_chunks_of_a_corpus_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = searched()
    bits = (documents > 0).astype(np.uint8), (queries > 0).astype(np.uint8)
    whole = searching.DocumentIndex(bits[0], bits=True).nearest(bits[1], 20)
    monkeypatch.setattr(searching, "CHUNK", 7)
    parted = searching.DocumentIndex(bits[0], bits=True).nearest(bits[1], 20)
    assert all(np.array_equal(one, other) for one, other in zip(whole, parted, strict=True))


@pytest.mark.parametrize(("kind", "dimensions"), [("int8", 24), ("int8", 1100), ("uint8", 300), ("float16", 24)])
def test_a_search_sorts_by_the_inner_product_and_then_by_place(kind: str, dimensions: int) -> None:
    """Against whole numbers of Python's, with many that are equal; more dimensions than a 32-bit float can sum exactly."""
    rng = np.random.default_rng(1)
    low, high = (-3, 4) if kind == "float16" or dimensions == 24 else (np.iinfo(kind).max - 1, np.iinfo(kind).max + 1)
    documents, queries = (rng.integers(low, high, (rows, dimensions)).astype(kind) for rows in (400, 5))
    places, scores = searching.DocumentIndex(documents).nearest(queries, 50)
    products = queries.astype(np.int64) @ documents.astype(np.int64).T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :50]
    assert np.array_equal(places, expected)
    assert np.array_equal(scores, np.take_along_axis(products, expected, axis=1))


def test_bits_sort_by_their_distance_and_then_by_place() -> None:
    rng = np.random.default_rng(1)
    documents, queries = (rng.integers(0, 2, (rows, 100)) for rows in (400, 5))
    places, scores = searching.DocumentIndex(documents, bits=True).nearest(queries, 50)
    distances = (queries[:, None] != documents[None]).sum(axis=2)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :50]
    assert np.array_equal(places, expected)
    assert np.array_equal(scores, -np.take_along_axis(distances, expected, axis=1))


def test_bytes_are_those_of_an_index() -> None:
    assert Variant(100).bytes_per_vector(2) == 200
    assert [Variant(100, each).bytes_per_vector(4) for each in ("int8", "uint8", "binary")] == [100, 100, 13]


def test_every_combination_is_made_and_wrong_words_are_refused() -> None:
    made = [each.label for each in definition.variants(32, [8], ["int8"])]
    assert made == ["32 int8", "32 int8, rescored", "8", "8 int8", "8 int8, rescored"]
    for wrong, words in (
        (partial(definition.variants, 32, [32], []), "the model has 32 dimensions"),
        (partial(definition.variants, 32, [], []), "Say what to make"),
        (partial(definition.read_lengths, "8,x"), "'x' is no number of dimensions"),
        (partial(definition.read_precisions, "int7"), "did you mean int8"),
    ):
        with pytest.raises(ConfigError, match=words):
            wrong()


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A configuration over a mirror and two tiny static models."""
    root = build_sources(tmp_path_factory.mktemp("sources"))
    return values(root, tasks__names=TASKS, claims=[], recommendation=None)


@pytest.fixture(scope="module")
def done(chosen: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project after a whole run."""
    layout = Layout(tmp_path_factory.mktemp("done"))
    run(parse_config(chosen, "test"), layout)
    return layout


@pytest.fixture(scope="module")
def report(done: Layout, chosen: dict[str, Any]) -> VariantsReport:
    """What variants of the bigger model score."""
    return variants.run(parse_config(chosen, "test"), done, KEY, [8], ["binary"])


def directly(done: Layout, chosen: dict[str, Any], wrap: Any, tasks: list[str], **settings: Any) -> dict[str, float]:
    """Scores by mteb itself with the model loaded."""
    config = parse_config(chosen, "test")
    snapshot = done.models / KEY / "snapshot"
    loaded = models.load(snapshot, config.models[KEY], config.device)
    assert isinstance(loaded, SentenceTransformer)
    for name, value in settings.items():
        setattr(loaded, name, value)
    encoder = SentenceTransformerEncoderWrapper(loaded)
    scores = {}
    for request in registry.resolve(config.tasks):
        if request.name in tasks:
            task = freezing.load_frozen(request, done.tasks / request.name)
            found = mteb.evaluate(wrap(encoder), task, cache=None, co2_tracker=False, show_progress_bar=False)
            scores[request.name] = found.task_results[0].get_score()
    return scores


def scores_of(report: VariantsReport, label: str) -> dict[str, float | None]:
    return next(one.scores for one in report.variants if one.label == label)


@pytest.mark.slow
def test_cut_embeddings_score_as_a_model_that_cuts_them(
    report: VariantsReport, done: Layout, chosen: dict[str, Any]
) -> None:
    expected = directly(done, chosen, lambda encoder: encoder, TASKS, truncate_dim=8)
    assert scores_of(report, "8") == expected
    assert expected != report.scores


@pytest.mark.slow
def test_bits_score_as_mtebs_own_wrapper_has_them(report: VariantsReport, done: Layout, chosen: dict[str, Any]) -> None:
    """Tasks without a search, whose definition of bits is the same; cut and not cut."""
    plain = [STS, CLASSIFICATION]
    for label, settings in (("32 binary", {}), ("8 binary", {"truncate_dim": 8})):
        expected = directly(
            done, chosen, lambda encoder: CompressionWrapper(encoder, OutputDType.BINARY), plain, **settings
        )
        assert {task: scores_of(report, label)[task] for task in plain} == expected


@pytest.mark.slow
def test_rescoring_touches_searches_alone_and_every_row_is_tested(report: VariantsReport) -> None:
    coarse, again = (scores_of(report, f"32 binary{suffix}") for suffix in ("", ", rescored"))
    assert {task for task in TASKS if coarse[task] != again[task]} <= {RETRIEVAL, RERANKING}
    assert coarse[RETRIEVAL] != again[RETRIEVAL]
    for one in report.variants:
        assert one.status == dict.fromkeys(TASKS, "scored")
        assert one.mean_difference is not None and one.mean_difference.p_value is not None
        for task in TASKS:
            # mteb rounds the scores of retrieval to five digits
            difference = (one.scores[task] or 0) - (report.scores[task] or 0)
            assert one.differences[task].estimate == pytest.approx(difference, abs=1.1e-5)
        adjusted, plain = one.mean_difference.p_adjusted, one.mean_difference.p_value
        assert adjusted is not None and adjusted >= plain
        assert (one.mean_difference.outcome == "worse") == (adjusted < 0.05 and one.mean_difference.estimate < 0)


@pytest.mark.slow
def test_searches_are_timed_on_the_largest_corpus_that_is_searched(report: VariantsReport, done: Layout) -> None:
    assert report.searched is not None
    assert report.searched.task == RETRIEVAL
    texts = encode_requests.read(done.tasks / RETRIEVAL, freezing.read_manifest(done.tasks / RETRIEVAL))
    kinds = texts.texts["prompt"].to_pylist()
    assert report.searched.documents == kinds.count("document")
    assert report.searched.queries == kinds.count("query")
    for one in report.variants:
        assert one.search_speed is not None
        assert 0 < one.search_speed.low <= one.search_speed.median <= one.search_speed.high
    assert f"of {RETRIEVAL}, in turn with the full model's" in render_markdown.render(variants_page(report))


def test_a_small_part_of_the_numbers_is_searched_in_less_time() -> None:
    """The product of 1024 dimensions takes many times what the sorting takes, which is left of it at 8 bits."""
    rng = np.random.default_rng(1)
    documents, queries = (rng.standard_normal((rows, 1024)).astype(np.float32) for rows in (5000, 20))
    made = [Variant(1024), Variant(8, "binary")]
    same, less = timing.search_speeds(documents, queries, "dot", made, 10)
    assert less.median > 2 * same.median
    assert 0.4 < same.median < 2.5


@pytest.mark.slow
def test_the_report_is_written_and_shown(
    report: VariantsReport, done: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((done.variants / f"{KEY}.json").read_text()) == report.model_dump()
    assert not (done.root / "reports" / "status" / "variants").exists()
    page = variants_page(report)
    render_terminal.show(page)
    for text in (capsys.readouterr().out, render_markdown.render(page), render_html.render(page)):
        assert "32 binary, rescored" in text
        assert "no model ran again" in text


def test_models_without_dense_embeddings_are_refused(chosen: dict[str, Any], tmp_path: Path) -> None:
    sparse = json.loads(json.dumps(chosen))
    sparse["models"][KEY]["family"] = "sparse"
    with pytest.raises(ConfigError, match="big is of family sparse"):
        variants.run(parse_config(sparse, "test"), Layout(tmp_path), KEY, [8], [])
