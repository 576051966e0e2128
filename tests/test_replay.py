"""Replay answers the listed requests, in their order, with the stored rows in their dtype; any other request is an error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from mteb.mocks import MOCK_TASK_TEST_GRID
from mteb.types import PromptType
from scipy.sparse import csr_array
from sentence_transformers import SimilarityFunction

from embrepro import models
from embrepro.config.schema import ModelConfig
from embrepro.embeddings import replay as replays
from embrepro.errors import ReplayError
from embrepro.tasks.encode_requests import EncodeRequest, Recorder, RequestList

TEXTS = ["one", "two", "three", "four"]
ROWS = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float16)


def listed() -> RequestList:
    columns = {"prompt": ["query", "query", "document", "document"], "text": TEXTS}
    table = pa.table({name: pa.array(column, pa.large_string()) for name, column in columns.items()})
    requests = [
        EncodeRequest("test", "default", "query", np.array([1, 0, 1], np.uint32)),
        EncodeRequest("test", "default", "document", np.array([2, 3], np.uint32)),
    ]
    return RequestList(requests, table)


def encoder(similarity: str = "cosine") -> Any:
    known = models.ModelProperties(8, 32, None, "float16", False, similarity)
    meta = models.meta(ModelConfig(org="test", name="model", family="static", folder="x"), "1", known)
    return replays.encoder(listed(), ROWS, meta, similarity)


def ask(
    replay: Any,
    texts: list[str],
    *,
    split: str = "test",
    subset: str = "default",
    prompt: PromptType | None = PromptType.query,
) -> np.ndarray:
    inputs = SimpleNamespace(dataset=Dataset.from_dict({"text": texts}))
    return replay.encode(inputs, task_metadata=None, hf_split=split, hf_subset=subset, prompt_type=prompt)


def test_the_listed_requests_are_answered_with_the_stored_rows() -> None:
    replay = encoder()
    first = ask(replay, ["two", "one", "two"])
    second = ask(replay, ["three", "four"], prompt=PromptType.document)
    assert np.array_equal(first, ROWS[[1, 0, 1]])
    assert np.array_equal(second, ROWS[[2, 3]])
    replay.expect_finished()


def test_half_precision_is_handed_to_mteb_as_it_was_stored() -> None:
    assert ask(encoder(), ["two", "one", "two"]).dtype == np.float16


@pytest.mark.parametrize(
    "texts", [["one", "two", "two"], ["two", "one"], ["two", "one", "two", "two"], ["two", "one", "Two"], []]
)
def test_other_texts_or_another_order_are_refused(texts: list[str]) -> None:
    with pytest.raises(ReplayError, match="request 0 .* has other texts than were listed"):
        ask(encoder(), texts)


@pytest.mark.parametrize(
    "wrong",
    [{"split": "train"}, {"subset": "eng"}, {"prompt": PromptType.document}, {"prompt": None}],
)
def test_another_split_subset_or_prompt_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ReplayError, match="request 0 is for .* but .* was listed"):
        ask(encoder(), ["two", "one", "two"], **wrong)


def test_requests_in_another_order_are_refused() -> None:
    with pytest.raises(ReplayError, match="was listed"):
        ask(encoder(), ["three", "four"], prompt=PromptType.document)


def test_a_request_too_many_is_refused() -> None:
    replay = encoder()
    ask(replay, ["two", "one", "two"])
    ask(replay, ["three", "four"], prompt=PromptType.document)
    with pytest.raises(ReplayError, match="beyond the 2 requests that were listed"):
        ask(replay, ["one"])


def test_a_request_too_few_is_refused() -> None:
    replay = encoder()
    ask(replay, ["two", "one", "two"])
    with pytest.raises(ReplayError, match="asked for 1 of 2 listed requests"):
        replay.expect_finished()


def test_a_refused_request_is_not_counted_as_answered() -> None:
    replay = encoder()
    with pytest.raises(ReplayError):
        ask(replay, ["one"])
    assert np.array_equal(ask(replay, ["two", "one", "two"]), ROWS[[1, 0, 1]])


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_the_similarity_follows_its_definition(name: str) -> None:
    """Expected values by their definitions; the distances are negated so that more is nearer."""
    one, other = ROWS[0].astype(np.float64), ROWS[1].astype(np.float64)
    expected = {
        "cosine": one @ other / np.linalg.norm(one) / np.linalg.norm(other),
        "dot": one @ other,
        "euclidean": -np.linalg.norm(one - other),
        "manhattan": -np.abs(one - other).sum(),
    }[name]
    replay = encoder(name)
    pair = torch.tensor(ROWS[:1].astype(np.float32)), torch.tensor(ROWS[1:2].astype(np.float32))
    assert float(replay.similarity(*pair)) == pytest.approx(expected, rel=1e-4)
    assert float(replay.similarity_pairwise(*pair)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (50, 256), (1000, 384)], ids=str)
@pytest.mark.parametrize("kind", ["array", "read-only", "tensor"])
def test_the_similarity_is_to_the_bit_what_sentence_transformers_computes(
    name: str, dtype: type[np.floating], shape: tuple[int, int], kind: str
) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    a[0] = 0
    pair: list[Any] = [a, b]
    if kind == "read-only":
        for each in pair:
            each.flags.writeable = False
    elif kind == "tensor":
        pair = [torch.from_numpy(each) for each in pair]
    found = replays.similarity_functions(name, dense=True)
    theirs = SimilarityFunction.to_similarity_fn(name), SimilarityFunction.to_similarity_pairwise_fn(name)
    assert torch.equal(found.similarity(*pair), theirs[0](*pair))
    assert torch.equal(found.similarity_pairwise(*pair), theirs[1](*pair))
    assert torch.equal(found.similarity(pair[0][0], pair[1]), theirs[0](pair[0][0], pair[1]))


def pairs() -> tuple[RequestList, replays.CrossEncoder]:
    recorder = Recorder("query")
    recorder.record_pairs("test", "default", ["q", "q", "r"], ["a", "b", "a"])
    found = recorder.request_list()
    known = models.ModelProperties(None, 32, 64, "float32", False, None)
    meta = models.meta(ModelConfig(org="test", name="ce", family="cross-encoder", folder="x"), "1", known)
    return found, replays.CrossEncoder(found, np.float32([[0.5], [0.25], [0.75]]), meta)


def score(replay: replays.CrossEncoder, queries: list[str], texts: list[str]) -> np.ndarray:
    sides = [SimpleNamespace(dataset=Dataset.from_dict({"text": side})) for side in (queries, texts)]
    return replay.predict(*sides, task_metadata=None, hf_split="test", hf_subset="default")


def test_a_cross_encoder_is_replayed_by_its_pairs() -> None:
    listed, replay = pairs()
    assert listed.texts.to_pydict() == {"query": ["q", "q", "r"], "text": ["a", "b", "a"]}
    assert replay.mteb_model_meta.model_type == ["cross-encoder"]
    with pytest.raises(ReplayError, match="other texts than were listed"):
        score(replay, ["q", "r", "q"], ["a", "b", "a"])
    assert score(replay, ["q", "q", "r"], ["a", "b", "a"]).tolist() == [0.5, 0.25, 0.75]
    replay.expect_finished()


def test_texts_are_listed_once_for_each_prompt() -> None:
    recorder = Recorder()
    recorder.record("test", "default", "query", ["a", "b", "a"])
    recorder.record("test", "default", "document", ["a"])
    found = recorder.request_list()
    assert found.texts.to_pydict() == {"prompt": ["query", "query", "document"], "text": ["a", "b", "a"]}
    assert [request.rows.tolist() for request in found.requests] == [[0, 1, 0], [2]]
    assert found.asked == 4


@pytest.mark.parametrize(("task", "served"), [("Retrieval", "sparse"), ("Reranking", "dense"), ("STS", "dense")])
def test_sparse_rows_are_served_as_mteb_takes_them_from_a_sparse_model(task: str, served: str) -> None:
    """mteb hands sparse tensors to its search alone; every other evaluator gets arrays."""
    rows = csr_array(np.maximum(ROWS.astype(np.float32), 0))
    known = models.ModelProperties(8, 32, None, "float32", False, "dot")
    meta = models.meta(ModelConfig(org="test", name="model", family="sparse", folder="x"), "1", known)
    replay = replays.encoder(listed(), rows, meta, "dot")
    inputs = SimpleNamespace(dataset=Dataset.from_dict({"text": ["two", "one", "two"]}))
    metadata = next(
        t.metadata for t in MOCK_TASK_TEST_GRID if t.metadata.type == task and t.metadata.modalities == ["text"]
    )
    found = replay.encode(
        inputs, task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=PromptType.query
    )
    assert getattr(found, "is_sparse", False) == (served == "sparse")
    dense = found.to_dense().numpy() if served == "sparse" else found
    assert np.array_equal(dense, rows.toarray()[[1, 0, 1]])
    assert meta.model_type == ["sparse"]
