"""Search of a corpus: the same documents in the same order with the same scores as mteb's own search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mteb._create_dataloaders import _corpus_to_dict
from mteb._evaluators import retrieval_metrics
from mteb.mocks import MOCK_TASK_TEST_GRID
from mteb.models import search_wrappers
from mteb.similarity_functions import cos_sim, dot_score

from embrepro.tasks import search, shortcuts

METADATA = next(
    task.metadata
    for task in MOCK_TASK_TEST_GRID
    if task.metadata.type == "Retrieval" and task.metadata.modalities == ["text"]
)


def found(function: Any, queries: np.ndarray, documents: np.ndarray, ids: list[str], **settings: Any) -> Any:
    """What a search finds for each query, entry by entry."""
    served = iter(range(0, len(documents), settings["corpus_chunk_size"]))

    def encode(inputs: Any, **_: Any) -> np.ndarray:
        start = next(served)
        return documents[start : start + len(inputs.dataset)]

    heaps = function(
        task_corpus=Dataset(pa.table({"id": ids, "text": [f"text {row}" for row in range(len(ids))]})),
        query_idx_to_id={row: f"query {row}" for row in range(len(queries))},
        query_embeddings=queries,
        task_metadata=METADATA,
        hf_subset="default",
        hf_split="test",
        encode_kwargs={"show_progress_bar": False},
        encode_fn=encode,
        search_k_offset=1,
        **settings,
    )
    return {query: list(heap) for query, heap in heaps.items()}


def expect_the_same(queries: np.ndarray, documents: np.ndarray, ids: list[str], **settings: Any) -> None:
    arguments = (queries, documents, ids)
    theirs = found(search_wrappers.chunked_full_corpus_search, *arguments, **settings)
    ours = found(search.search_corpus, *arguments, **settings)
    # repr, since NaN is not equal to itself.
    assert repr(ours) == repr(theirs)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    ids=st.lists(st.text("ab1é", max_size=3), min_size=1, max_size=60),
    levels=st.sampled_from([0, 1, 2, 50]),
    top_k=st.integers(1, 25),
    chunk=st.integers(8, 70),
)
@example(seed=0, ids=["a"] * 30, levels=0, top_k=5, chunk=7)
def test_it_finds_what_mteb_finds_ties_included(seed: int, ids: list[str], levels: int, top_k: int, chunk: int) -> None:
    """Few levels make most scores equal; names may be equal too."""
    random = np.random.default_rng(seed)
    shapes = ((3, 4), (len(ids), 4))
    queries, documents = (
        random.integers(-levels, levels + 1, shape).astype(np.float32)
        if levels
        else random.standard_normal(shape, dtype=np.float32)
        for shape in shapes
    )
    expect_the_same(queries, documents, ids, top_k=top_k, corpus_chunk_size=chunk, similarity_fn=dot_score)


def test_it_finds_what_mteb_finds_in_a_large_corpus() -> None:
    """More documents than are sampled, half of them there twice, one far from random."""
    random = np.random.default_rng(0)
    documents = random.standard_normal((12_000, 8)).astype(np.float16)
    documents[6_000:9_000] = documents[:3_000]
    documents[:500] += np.float16(3)
    queries = random.standard_normal((20, 8)).astype(np.float16)
    ids = [f"d{random.integers(10**9)}" for _ in documents]
    expect_the_same(queries, documents, ids, top_k=100, corpus_chunk_size=9_000, similarity_fn=cos_sim)


def test_scores_that_are_no_numbers_come_out_as_from_mteb() -> None:
    random = np.random.default_rng(0)
    documents = random.standard_normal((40, 3), dtype=np.float32)
    documents[[3, 11, 12, 30], 0] = np.nan, np.inf, -np.inf, np.nan
    queries = random.standard_normal((4, 3), dtype=np.float32)
    ids = [f"d{row}" for row in range(40)]
    expect_the_same(queries, documents, ids, top_k=5, corpus_chunk_size=10, similarity_fn=dot_score)


words = st.text(st.sampled_from(["a", " ", "\t", "\n", "\x1c", "\x85", "\xa0", "\u2003", "\u3000", "\u200b", "é"]))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=8), st.booleans())
def test_documents_have_the_texts_that_mteb_gives_them(rows: list[tuple[str, str]], titled: bool) -> None:
    columns = {"id": [str(row) for row in range(len(rows))], "text": [text for _, text in rows]}
    if titled:
        columns["title"] = [title for title, _ in rows]
    corpus = Dataset(pa.table(columns))
    expected = [_corpus_to_dict(row)["text"] for row in corpus]
    assert search.documents(corpus, METADATA).dataset["text"][:] == expected
    shuffled = corpus.select(range(len(rows))[::-1])
    assert search.documents(shuffled, METADATA).dataset["text"][:] == expected[::-1]


def test_a_corpus_of_more_than_plain_text_is_left_to_mteb() -> None:
    assert search.document_texts(Dataset(pa.table({"id": ["1"], "text": pa.array([None], pa.string())}))) is None
    assert search.document_texts(Dataset(pa.table({"id": ["1"], "body": ["text"]}))) is None


def test_mteb_has_its_own_search_back_after_the_block() -> None:
    theirs = search_wrappers.chunked_full_corpus_search
    with pytest.raises(RuntimeError), shortcuts.installed():
        assert search_wrappers.chunked_full_corpus_search is search.search_corpus  # type: ignore[comparison-overlap]
        raise RuntimeError
    assert search_wrappers.chunked_full_corpus_search is theirs


NAMES = st.sampled_from(["a", "b", "c", "d", "é"])
VALUES = st.one_of(st.sampled_from([0.0, -0.0, 0.5, 1.0, float("inf"), float("nan")]), st.floats(width=32))


@given(
    results=st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), st.dictionaries(NAMES, VALUES)),
    grades=st.dictionaries(NAMES, st.integers(-1, 2)),
)
def test_reciprocal_ranks_are_mtebs(results: dict[str, dict[str, float]], grades: dict[str, int]) -> None:
    qrels = dict.fromkeys(results, grades)
    expected = retrieval_metrics.mrr(qrels, results, [1, 2, 5])
    with shortcuts.installed():
        assert retrieval_metrics.mrr(qrels, results, [1, 2, 5]) == expected
    assert retrieval_metrics.mrr(qrels, results, [1, 2, 5]) == expected


def test_the_space_around_a_text_is_all_that_python_strips() -> None:
    assert set(search.WHITESPACE) == {character for character in map(chr, range(0x110000)) if not character.strip()}
