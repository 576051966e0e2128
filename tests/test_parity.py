"""The kit's score is mteb's score: freeze, list, encode, replay against `mteb.evaluate` with the same model object.

Exactly for static models, half precision included; within 1e-6 for transformers, whose last bits move with the batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from mteb import mocks

import tiny_mirror
from embrepro import models
from embrepro.config.schema import Device, ModelConfig
from embrepro.embeddings import encoding, replay, store
from embrepro.embeddings.plan import BatchRule
from embrepro.errors import TaskError
from embrepro.files import sha256
from embrepro.pipeline import scoring
from embrepro.sources import models as model_sources
from embrepro.statistics import estimates
from embrepro.tasks import encode_requests, first_stage, freezing, registry, samples, shortcuts
from embrepro.tasks.encode_requests import RequestList
from embrepro.tasks.registry import Request

DEVICE = Device(name="cpu", numerics="portable", batch_tokens=1024)
TEXT_MOCKS = {
    task.metadata.name: type(task)
    for task in mocks.MOCK_TASK_TEST_GRID
    if task.metadata.modalities == ["text"] and not task.is_aggregate
}
TYPES = {
    "BitextMining",
    "Classification",
    "MultilabelClassification",
    "Clustering",
    "PairClassification",
    "Reranking",
    "Retrieval",
    "InstructionRetrieval",
    "InstructionReranking",
    "STS",
    "Summarization",
}


RANKED = sorted(name for name, task in TEXT_MOCKS.items() if "Reranking" in task.metadata.type)
"""Those that say for each query which documents are to be ranked."""
DIALOGUES = "MockRetrievalDialogTask"
SEARCHED = sorted(name for name, task in TEXT_MOCKS.items() if task.metadata.type == "Retrieval" and name != DIALOGUES)
"""Those that search a whole corpus for texts."""


@pytest.fixture(scope="module", autouse=True)
def known_mocks() -> None:
    """mteb's mock tasks, known to the kit by name."""
    for task_class in TEXT_MOCKS.values():
        registry.add(task_class)


@pytest.fixture(scope="module")
def static(static_folder: Path) -> tuple[Any, models.ModelProperties]:
    """mteb's wrapper around a half-precision static model."""
    return _wrapped(ModelConfig(org="test", name="static", family="static", folder=str(static_folder)), static_folder)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, models.ModelProperties]:
    """mteb's wrapper around all-MiniLM-L6-v2 out of its package."""
    from embrepro.config.compose import compose_values
    from embrepro.config.schema import parse_config

    model = parse_config(compose_values(["model=minilm"]), "conf").models["minilm"]
    folder = tmp_path_factory.mktemp("minilm") / "minilm"
    model_sources.fetch(model, folder, None)
    return _wrapped(model, model_sources.read(folder)[1])


@pytest.fixture(scope="module")
def sparse(sparse_folder: Path) -> tuple[Any, models.ModelProperties]:
    """mteb's wrapper around a sparse model."""
    return _wrapped(ModelConfig(org="test", name="sparse", family="sparse", folder=str(sparse_folder)), sparse_folder)


@pytest.fixture(scope="module")
def cross_encoder(cross_encoder_folder: Path) -> tuple[Any, models.ModelProperties]:
    """mteb's wrapper around a cross-encoder, with a prompt."""
    model = ModelConfig(
        org="test", name="ce", family="cross-encoder", folder=str(cross_encoder_folder), prompts={"query": "is it "}
    )
    return _wrapped(model, cross_encoder_folder)


def _wrapped(model: ModelConfig, folder: Path) -> tuple[Any, models.ModelProperties]:
    loaded = models.load(folder, model, DEVICE)
    known = models.describe(loaded)
    return models.wrap(loaded, model, "1", known), known


def _request(name: str) -> Request:
    task = TEXT_MOCKS[name]()
    return Request(name, tuple(task.hf_subsets), tuple(task.eval_splits))


def _encode(encoder: Any, request: Request, listed: RequestList, folder: Path, *, pairs: bool = False) -> Path:
    """Plan, shards and merge in this process; returns the file."""
    planned = encoding.plan_task(listed.texts, BatchRule(tokens=256), encoder.model, pairs=pairs)
    metadata = registry.create(request).metadata
    work = encoding.TaskShards(request.name, metadata, listed.texts, pairs, "key", folder / "shards", *planned)
    for _, _, error in encoding.encode_shards(encoder, [work], encoding.Workers(1)):
        assert error is None
    work.merge(folder / "embeddings.safetensors")
    return folder / "embeddings.safetensors"


def _by_the_kit(name: str, encoder: Any, known: models.ModelProperties, folder: Path) -> tuple[Any, samples.Samples]:
    request = _request(name)
    freezing.freeze(request, folder, None)
    manifest = encode_requests.write(request, folder)
    listed = encode_requests.read(folder, manifest)
    path = _encode(encoder, request, listed, folder)
    stored = store.read(path, len(listed.texts)).embeddings
    replayed = replay.encoder(listed, stored, encoder.mteb_model_meta, known.similarity)
    task = freezing.load_frozen(request, folder)
    shortcuts.speed_up(task)
    with samples.collect_samples(task) as collected:
        result = mteb.evaluate(replayed, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    replayed.expect_finished()
    scoring.expect_complete(result, request)
    return result, collected


def _by_the_kit_in_pairs(
    name: str, encoder: Any, folder: Path, rerank: int | None = None
) -> tuple[Any, samples.Samples]:
    request = _request(name)
    freezing.freeze(request, folder, None)
    listed = encode_requests.read(folder, encode_requests.write(request, folder, rerank), pairs=True)
    scores = np.asarray(store.read(_encode(encoder, request, listed, folder, pairs=True), len(listed.texts)).embeddings)
    replayed = replay.CrossEncoder(listed, scores, encoder.mteb_model_meta)
    task = freezing.load_frozen(request, folder)
    first_stage.attach(task, folder)
    with samples.collect_samples(task) as collected:
        result = mteb.evaluate(replayed, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    replayed.expect_finished()
    return result, collected


def _by_mteb(name: str, encoder: Any) -> Any:
    task = TEXT_MOCKS[name]()
    return mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]


def _scores(result: Any) -> dict[tuple[str, str], Any]:
    return {(split, entry["hf_subset"]): entry for split, entries in result.scores.items() for entry in entries}


def _numbers(value: Any, path: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        return {
            key: number for name, child in value.items() for key, number in _numbers(child, f"{path}/{name}").items()
        }
    if isinstance(value, list):
        return {
            key: number
            for index, child in enumerate(value)
            for key, number in _numbers(child, f"{path}/{index}").items()
        }
    return {path: float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else {}


def test_every_text_task_type_has_a_mock() -> None:
    assert {task.metadata.type for task in TEXT_MOCKS.values()} >= TYPES


@pytest.mark.parametrize("name", sorted(TEXT_MOCKS))
def test_static_model_scores_to_the_last_bit(
    name: str, static: tuple[Any, models.ModelProperties], tmp_path: Path
) -> None:
    encoder, known = static
    assert known.dtype == "float16"
    ours, collected = _by_the_kit(name, encoder, known, tmp_path)
    theirs = _by_mteb(name, encoder)
    assert _numbers(_scores(ours)) == pytest.approx(_numbers(_scores(theirs)), rel=0, abs=0, nan_ok=True)
    if collected.statistic:
        recomputed = estimates.point(collected.frame, collected.statistic)
        assert recomputed == pytest.approx(ours.main_score, abs=1e-5)  # mteb rounds retrieval metrics to five digits


@pytest.mark.parametrize("name", sorted(TEXT_MOCKS))
def test_sparse_model_scores_within_a_millionth(
    name: str, sparse: tuple[Any, models.ModelProperties], tmp_path: Path
) -> None:
    encoder, known = sparse
    ours, _ = _by_the_kit(name, encoder, known, tmp_path)
    assert store.active_dimensions(tmp_path / "embeddings.safetensors") is not None
    theirs = _by_mteb(name, encoder)
    assert ours.main_score == pytest.approx(theirs.main_score, abs=1e-6)
    assert _numbers(_scores(ours)) == pytest.approx(_numbers(_scores(theirs)), abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("name", RANKED)
def test_cross_encoder_scores_within_a_millionth(
    name: str, cross_encoder: tuple[Any, models.ModelProperties], tmp_path: Path
) -> None:
    encoder, known = cross_encoder
    assert (known.dimensions, known.similarity) == (None, None)
    ours, collected = _by_the_kit_in_pairs(name, encoder, tmp_path)
    theirs = _by_mteb(name, encoder)
    assert _numbers(_scores(ours)) == pytest.approx(_numbers(_scores(theirs)), abs=1e-6, nan_ok=True)
    assert estimates.point(collected.frame, str(collected.statistic)) == pytest.approx(ours.main_score, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "column", "measures"),
    [
        (tiny_mirror.STS, "score", ("cosine_spearman", "cosine_pearson", "euclidean_spearman", "manhattan_spearman")),
        ("MockPairClassificationTask", "labels", ("cosine_ap", "dot_ap", "euclidean_ap", "manhattan_ap", "max_ap")),
    ],
)
def test_a_cross_encoder_of_pairs_gets_what_its_scores_give(
    name: str,
    column: str,
    measures: tuple[str, ...],
    cross_encoder: tuple[Any, models.ModelProperties],
    tmp_path: Path,
) -> None:
    """mteb scores no pairs by a cross-encoder, so the measures are computed from the model's own predictions."""
    encoder, _ = cross_encoder
    mirror = tiny_mirror.build_pairs(tmp_path / "mirror")
    request = Request(name, ("default",), ("test",))
    freezing.freeze(request, tmp_path, mirror)
    manifest = encode_requests.write(request, tmp_path)
    with pytest.raises(TaskError, match=f"not said to be made for tasks of type {manifest.type}"):
        encode_requests.read(tmp_path, manifest, pairs=True)
    listed = encode_requests.read(tmp_path, manifest, pairs=True, pair_tasks=[manifest.type])
    scores = np.asarray(
        store.read(_encode(encoder, request, listed, tmp_path, pairs=True), len(listed.texts)).embeddings
    )
    replayed = replay.PairScorer(listed, scores, encoder.mteb_model_meta)
    task: Any = freezing.load_frozen(request, tmp_path)
    result = mteb.evaluate(replayed, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    replayed.expect_finished()
    rows = freezing.load_frozen(request, tmp_path).dataset["test"]
    rows = rows[0] if isinstance(rows, list) else rows
    pairs = list(zip(rows["sentence1"], rows["sentence2"], strict=True))
    predicted = encoder.model.predict([(f"is it {first}", second) for first, second in pairs])
    found = result.scores["test"][0]
    for measure in measures:
        if name == tiny_mirror.STS:
            correlation = scipy.stats.pearsonr if measure.endswith("pearson") else scipy.stats.spearmanr
            expected = correlation(predicted, rows[column]).statistic
        else:
            expected = sklearn.metrics.average_precision_score(list(rows[column]), predicted)
        assert found[measure] == pytest.approx(expected, abs=1e-6), measure


@pytest.mark.parametrize("depth", [1, 100])
@pytest.mark.parametrize("name", SEARCHED)
def test_a_cross_encoder_behind_bm25_scores_as_mteb_has_it_in_two_stages(
    name: str, depth: int, cross_encoder: tuple[Any, models.ModelProperties], tmp_path: Path
) -> None:
    encoder, _ = cross_encoder
    ours, _ = _by_the_kit_in_pairs(name, encoder, tmp_path / "kit", depth)
    bm25 = mteb.get_model("mteb/baseline-bm25s")
    first = mteb.evaluate(
        bm25,
        TEXT_MOCKS[name](),
        cache=None,
        co2_tracker=False,
        show_progress_bar=False,
        prediction_folder=tmp_path / "first",
    ).task_results[0]
    task = TEXT_MOCKS[name]().convert_to_reranking(tmp_path / "first", top_k=depth)
    theirs = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    assert _numbers(_scores(ours)) == pytest.approx(_numbers(_scores(theirs)), abs=1e-6, nan_ok=True)
    stage = freezing.read_manifest(tmp_path / "kit").first_stage
    assert stage is not None
    assert (stage.depth, stage.score) == (depth, first.main_score)


def test_a_first_stage_that_fails_loses_the_task_for_cross_encoders_alone(tmp_path: Path) -> None:
    freezing.freeze(_request(DIALOGUES), tmp_path, None)
    manifest = encode_requests.write(_request(DIALOGUES), tmp_path, rerank=10)
    assert encode_requests.read(tmp_path, manifest).requests
    with pytest.raises(TaskError, match="BM25 failed: AttributeError: 'list' object"):
        encode_requests.read(tmp_path, manifest, pairs=True)


def test_a_first_stage_that_finds_no_room_is_not_kept_as_the_tasks_failure(tmp_path: Path) -> None:
    freezing.freeze(_request(SEARCHED[0]), tmp_path, None)
    (tmp_path / first_stage.FILE).mkdir()
    with pytest.raises(OSError):
        encode_requests.write(_request(SEARCHED[0]), tmp_path, rerank=10)


@pytest.mark.parametrize("name", sorted(TEXT_MOCKS.keys() - set(RANKED)))
def test_a_task_without_ranked_documents_is_refused_to_a_cross_encoder_as_mteb_refuses_it(
    name: str, cross_encoder: tuple[Any, models.ModelProperties], tmp_path: Path
) -> None:
    freezing.freeze(_request(name), tmp_path, None)
    manifest = encode_requests.write(_request(name), tmp_path)
    with pytest.raises(TaskError, match="use a task of type Reranking|under the model.s pair_tasks"):
        encode_requests.read(tmp_path, manifest, pairs=True)
    with pytest.raises((TypeError, ValueError), match="CrossEncoder|EncoderProtocol"):
        _by_mteb(name, cross_encoder[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TEXT_MOCKS))
def test_transformer_scores_within_a_millionth(
    name: str, minilm: tuple[Any, models.ModelProperties], tmp_path: Path
) -> None:
    encoder, known = minilm
    ours, _ = _by_the_kit(name, encoder, known, tmp_path)
    assert ours.main_score == pytest.approx(_by_mteb(name, encoder).main_score, abs=1e-6)


def test_freezing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in sorted(TEXT_MOCKS):
        hashes = []
        for run in ("one", "two"):
            folder = tmp_path / run / name
            freezing.freeze(_request(name), folder, None)
            encode_requests.write(_request(name), folder)
            hashes.append(
                {path.relative_to(folder): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
            )
        assert hashes[0] == hashes[1], name
