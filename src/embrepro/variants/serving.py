"""Encoders that serve stored embeddings cut or quantised, in the place of `embeddings.replay.encoder`.

Truncation and quantisation are sentence-transformers': the first dimensions of what the model gives (`truncate_dim`), and
`quantize_embeddings`. Its searches of quantised vectors (`semantic_search_faiss`, `semantic_search_usearch`) are followed
in their rules: the inner product of integer codes, the Hamming distance of bits; with rescoring, `multiplier` times as many
documents as are asked for are found so, and ranked again by the inner product of the query as it is and the document as it
can be restored. Other tasks get the codes themselves, bits as 0 and 1, as that library's evaluators do.

Where the model's similarity is the cosine, embeddings that are to be quantised are normalised first, after they are cut: an
inner product of what is not normalised is no cosine. Ranges of the integers are those of the task's documents, or, where it
makes no such difference, of all its texts; the library would take those of each call, which are others for queries than
for documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mteb._create_dataloaders import create_dataloader
from mteb.types import PromptType
from sentence_transformers.util import truncate_embeddings
from sentence_transformers.util.quantization import quantize_embeddings

from embrepro.embeddings import replay
from embrepro.tasks.search import column, documents
from embrepro.variants.definition import Variant

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.models.model_meta import ModelMeta

    from embrepro.tasks.encode_requests import RequestList

CHUNK = 50_000
"""Documents that mteb asks for at once when it searches a corpus; a replay has to ask for the same."""
QUERIES_AT_ONCE = 32


def serve(variant: Variant, listed: RequestList, embeddings: np.ndarray, meta: ModelMeta, similarity: str) -> Any:  # noqa: ANN401
    """An encoder for one task, model and variant; arguments and errors are those of `replay.encoder`.

    Args:
        variant: what to serve.
        listed: the task's request list.
        embeddings: (distinct texts, dimensions) of the full model.
        meta: the model as mteb's results name it.
        similarity: name of the model's similarity function.
    """
    shortened = truncate_embeddings(embeddings, variant.dimensions)
    if variant.precision is None:
        return replay.encoder(listed, shortened, meta, similarity)
    floats = np.asarray(shortened, dtype=np.float32)
    if similarity == "cosine":
        floats = floats / np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), 1e-12)
    searched = (listed.texts["prompt"] == PromptType.document.value).to_numpy()
    calibration = floats[searched] if searched.any() else floats
    return QuantisedReplay(
        replay.encoder(listed, floats, meta, similarity),
        variant,
        np.stack([calibration.min(axis=0), calibration.max(axis=0)]),
    )


class QuantisedReplay:
    """Serves codes of stored embeddings, and searches among them; to mteb an encoder that has a search of its own."""

    def __init__(self, floats: Any, variant: Variant, ranges: np.ndarray) -> None:  # noqa: ANN401
        """Begin.

        Args:
            floats: the encoder that serves what is to be quantised.
            variant: with a precision.
            ranges: least and greatest value of each dimension, (2, dimensions).
        """
        self.mteb_model_meta = floats.mteb_model_meta
        self.similarity = floats.similarity
        self.similarity_pairwise = floats.similarity_pairwise
        self.expect_finished = floats.expect_finished
        self._floats = floats
        self._variant = variant
        self._ranges = ranges
        self._corpus: Dataset | None = None

    def encode(self, inputs: Any, **asked: Any) -> np.ndarray:  # noqa: ANN401 - mteb's DataLoader
        """The codes of the next listed request, (texts, dimensions), as 32-bit floats, which hold each exactly."""
        return self._codes(self._floats.encode(inputs, **asked)).astype(np.float32)

    def index(self, corpus: Dataset, **_: object) -> None:
        """Take the documents that are to be searched."""
        self._corpus = corpus

    def search(
        self,
        queries: Dataset,
        *,
        task_metadata: Any,  # noqa: ANN401
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Any,  # noqa: ANN401
        top_ranked: Any = None,  # noqa: ANN401
        **_: object,
    ) -> dict[str, dict[str, float]]:
        """The best documents of each query, as many as the main score looks at, with their scores: more is better."""
        corpus = self._corpus
        assert corpus is not None
        about = {"task_metadata": task_metadata, "hf_split": hf_split, "hf_subset": hf_subset}
        loader = create_dataloader(queries, task_metadata=task_metadata, prompt_type=PromptType.query, **encode_kwargs)
        asked = np.asarray(self._floats.encode(loader, prompt_type=PromptType.query, **about))
        # Documents to rerank are asked for all at once, a corpus to search chunk by chunk.
        step = CHUNK if top_ranked is None else len(corpus)
        codes = np.concatenate(
            [
                self._codes(
                    self._floats.encode(
                        documents(corpus.select(range(start, min(start + step, len(corpus)))), task_metadata),
                        prompt_type=PromptType.document,
                        **about,
                    )
                )
                for start in range(0, len(corpus), step)
            ]
        )
        names = np.asarray(column(corpus, "id").to_pylist(), dtype=object)
        wanted = min(top_k, cutoff(task_metadata.main_score) or top_k)
        if top_ranked is None:
            return _named(queries["id"], names, self._best(asked, codes, wanted))
        places = {name: place for place, name in enumerate(names)}
        found: dict[str, dict[str, float]] = {query: {} for query in queries["id"]}
        for query, vector in zip(queries["id"], asked, strict=True):
            if ranked := top_ranked.get(query):
                among = [places[name] for name in ranked]
                found |= _named([query], names[among], self._best(vector[None, :], codes[among], wanted))
        return found

    def _codes(self, floats: np.ndarray) -> np.ndarray:
        """Integers of the library's quantisation, bits one by one, (texts, dimensions)."""
        if self._variant.precision == "binary":
            packed = np.asarray(quantize_embeddings(floats, "ubinary"))
            return np.unpackbits(packed, axis=-1, count=floats.shape[1])
        assert self._variant.precision is not None
        return np.asarray(quantize_embeddings(floats, self._variant.precision, ranges=self._ranges))

    def _best(self, queries: np.ndarray, codes: np.ndarray, wanted: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each query the places of its best documents, and their scores, from the best on."""
        variant = self._variant
        taken = wanted * variant.multiplier if variant.rescored else wanted
        found = nearest(self._codes(queries), codes, taken, bits=variant.precision == "binary")
        for vector, places, scores in zip(queries, *found, strict=True):
            if variant.rescored:
                again = self._restored(codes[places]) @ vector.astype(np.float64)
                order = np.argsort(-again, kind="stable")[:wanted]
                yield places[order], again[order]
            else:
                yield places, scores

    def _restored(self, codes: np.ndarray) -> np.ndarray:
        """Documents as a search ranks them again: the value at which each step begins, bits as 0 and 1."""
        values = codes.astype(np.float64)
        if self._variant.precision == "binary":
            return values
        steps = (self._ranges[1] - self._ranges[0]) / 255
        offset = 128 if self._variant.precision == "int8" else 0
        restored: np.ndarray = (values + offset) * np.where(steps == 0, 1, steps) + self._ranges[0]
        return restored


def nearest(queries: np.ndarray, codes: np.ndarray, taken: int, *, bits: bool) -> tuple[np.ndarray, np.ndarray]:
    """The documents with the greatest inner product, or the least Hamming distance; of equal ones those that come first.

    Args:
        queries: codes, (queries, dimensions).
        codes: of the documents, (documents, dimensions).
        taken: how many for each query.
        bits: whether the codes are bits.

    Returns:
        Places and scores, each (queries, the lesser of documents and `taken`); more is better.
    """
    parts = []
    asked = _factor(queries, bits=bits)
    for start in range(0, len(codes), CHUNK):
        chunk = _factor(codes[start : start + CHUNK], bits=bits)
        for first in range(0, len(asked), QUERIES_AT_ONCE):
            scores = asked[first : first + QUERIES_AT_ONCE] @ chunk.T
            order = np.argsort(-scores, axis=1, kind="stable")[:, :taken]
            parts.append((start, order + start, np.take_along_axis(scores, order, axis=1)))
    starts = sorted({start for start, _, _ in parts})
    places, scores = (
        np.concatenate(
            [np.concatenate([part[which] for part in parts if part[0] == start]) for start in starts], axis=1
        )
        for which in (1, 2)
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :taken]
    scores = np.take_along_axis(scores, order, axis=1)
    return np.take_along_axis(places, order, axis=1), (scores - queries.shape[1]) / 2 if bits else scores


def cutoff(metric: str) -> int | None:
    """How many documents a metric such as ndcg_at_10 looks at; None where it does not say."""
    number = metric.rpartition("_")[2]
    return int(number) if number.isdigit() else None


def _factor(codes: np.ndarray, *, bits: bool) -> np.ndarray:
    """Codes as numbers whose products are exact; bits as -1 and 1, whose product counts those that agree."""
    return 2 * codes.astype(np.float64) - 1 if bits else codes.astype(np.float64)


def _named(
    queries: Sequence[str], names: np.ndarray, found: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, dict[str, float]]:
    return {
        query: dict(zip(names[places].tolist(), scores.tolist(), strict=True))
        for query, (places, scores) in zip(queries, found, strict=True)
    }
