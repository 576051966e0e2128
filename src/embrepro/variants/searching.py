"""An exact search among documents in the form in which an index holds them: numbers, integer codes, or bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 50_000
"""Documents that are scored at once."""
QUERIES_AT_ONCE = 32
EXACT = 2**24
"""Up to which a 32-bit float holds every integer."""


class DocumentIndex:
    """Documents to be searched: by the inner product, or by the Hamming distance of bits, which are packed."""

    def __init__(self, documents: np.ndarray, *, bits: bool = False) -> None:
        """Begin.

        Args:
            documents: numbers or integer codes, (documents, dimensions); bits one by one, as 0 and 1.
            bits: whether they are bits.
        """
        self._bits = bits
        self._rows = _words(documents) if bits else documents
        integers = documents.dtype.kind in "iu"
        # A sum of products of bytes is a whole number; past what 32 bits hold exactly, 64 are taken.
        most = int(np.iinfo(documents.dtype).max + 1) ** 2 * documents.shape[1] if integers else 0
        self._number = np.float64 if most > EXACT else np.float32

    def nearest(self, queries: np.ndarray, taken: int) -> tuple[np.ndarray, np.ndarray]:
        """The documents with the greatest inner product, or the least distance; of equal ones those that come first.

        Args:
            queries: in the form of the documents, (queries, dimensions).
            taken: how many for each query.

        Returns:
            Places and scores, each (queries, the lesser of documents and `taken`); more is better. The score of bits is
            the negative distance.
        """
        asked = _words(queries) if self._bits else queries.astype(self._number)
        found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in asked]
        for start in range(0, len(self._rows), CHUNK):
            for query, scores in enumerate(self._scores(asked, self._rows[start : start + CHUNK])):
                places = _best(scores, taken)
                found[query].append((places + start, scores[places]))
        best = [_merged(parts, taken) for parts in found]
        return np.stack([places for places, _ in best]), np.stack([scores for _, scores in best]).astype(np.float64)

    def _scores(self, asked: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The score of each of these documents, query by query."""
        if self._bits:
            columns = np.ascontiguousarray(rows.T)
            for query in asked:
                distance = np.zeros(len(rows), dtype=np.int32)
                for word, column in zip(query, columns, strict=True):
                    distance -= np.bitwise_count(word ^ column)
                yield distance
            return
        factor = rows.astype(self._number, copy=False).T
        for first in range(0, len(asked), QUERIES_AT_ONCE):
            yield from asked[first : first + QUERIES_AT_ONCE] @ factor


def _best(scores: np.ndarray, taken: int) -> np.ndarray:
    """Places of the greatest scores, from the greatest on; of equal ones the first."""
    if taken >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - taken)[len(scores) - taken]
    places = np.flatnonzero(scores >= least)
    return places[np.argsort(-scores[places], kind="stable")][:taken]


def _merged(parts: list[tuple[np.ndarray, np.ndarray]], taken: int) -> tuple[np.ndarray, np.ndarray]:
    places, scores = (np.concatenate([part[which] for part in parts]) for which in (0, 1))
    order = np.argsort(-scores, kind="stable")[:taken]
    return places[order], scores[order]


def _words(bits: np.ndarray) -> np.ndarray:
    """Bits packed into words of 64, (rows, words), filled up with zeros."""
    missing = -bits.shape[1] % 64
    return np.packbits(np.pad(bits.astype(np.uint8), ((0, 0), (0, missing))), axis=1).view(np.uint64)
