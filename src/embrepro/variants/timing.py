"""How fast a search among a variant's documents is, measured in turn with the full model's.

With portable numerics, in which a process has one thread, all of it runs on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from embrepro.benchmarking import clock
from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.variants import serving
from embrepro.variants.definition import Variant
from embrepro.variants.searching import DocumentIndex

MOST_QUERIES = 200
REPEATS = 9
LEAST_SECONDS = 0.05
"""Of one measurement."""
_Search = Callable[[], object]


def search_speeds(
    documents: np.ndarray, queries: np.ndarray, similarity: str, variants: Sequence[Variant], wanted: int
) -> list[RepeatedMeasure]:
    """For each variant, how many times as many searches a second it does as the full model.

    An index holds documents as `Variant.bytes_per_vector` counts them. Both searches are the exact ones of `DocumentIndex`,
    of all queries at once; queries are encoded already, but quantised and ranked again within the time.

    Args:
        documents: embeddings of the full model, (documents, dimensions), in its dtype.
        queries: likewise; no more than `MOST_QUERIES` are taken.
        similarity: name of the model's similarity function.
        variants: to be measured.
        wanted: documents for each query.
    """
    queries = queries[:MOST_QUERIES]
    full = _floats(documents, queries, similarity, documents.shape[1], wanted)
    return [_ratio(full, _search(documents, queries, similarity, one, wanted)) for one in variants]


def _search(documents: np.ndarray, queries: np.ndarray, similarity: str, variant: Variant, wanted: int) -> _Search:
    if variant.precision is None:
        return _floats(documents, queries, similarity, variant.dimensions, wanted)
    rows, asked = (serving.to_quantise(each[:, : variant.dimensions], similarity) for each in (documents, queries))
    codes = serving.Codes(variant, rows)
    stored = codes.of(rows)
    index = codes.index(stored)
    return lambda: list(codes.best(asked, stored, wanted, index))


def _floats(documents: np.ndarray, queries: np.ndarray, similarity: str, dimensions: int, wanted: int) -> _Search:
    rows, asked = (serving.to_quantise(each[:, :dimensions], similarity) for each in (documents, queries))
    index = DocumentIndex(rows.astype(documents.dtype))
    return lambda: index.nearest(asked, wanted)


def _ratio(full: _Search, other: _Search) -> RepeatedMeasure:
    full(), other()
    times = [max(1, round(LEAST_SECONDS / _seconds(search, 1))) for search in (full, other)]
    pairs = [
        [_seconds(search, count) / count for search, count in zip((full, other), times, strict=True)]
        for _ in range(REPEATS)
    ]
    return clock.measure([of_full / of_other for of_full, of_other in pairs])


def _seconds(search: _Search, times: int) -> float:
    started = perf_counter()
    for _ in range(times):
        search()
    return perf_counter() - started
