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
import pyarrow.compute as pc
from mteb._create_dataloaders import create_dataloader
from mteb.types import PromptType
from sentence_transformers.util import truncate_embeddings
from sentence_transformers.util.quantization import quantize_embeddings

from embrepro.embeddings import replay
from embrepro.tasks.search import column, documents
from embrepro.variants.definition import Variant
from embrepro.variants.searching import DocumentIndex

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.models.model_meta import ModelMeta

    from embrepro.tasks.encode_requests import RequestList

CHUNK = 50_000
"""Documents that mteb asks for at once when it searches a corpus; a replay has to ask for the same."""


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
    floats = to_quantise(shortened, similarity)
    searched = pc.equal(listed.texts["prompt"], PromptType.document.value).to_numpy()
    codes = Codes(variant, floats[searched] if searched.any() else floats)
    return QuantisedReplay(replay.encoder(listed, floats, meta, similarity), codes)


def to_quantise(embeddings: np.ndarray, similarity: str) -> np.ndarray:
    """Embeddings as 32-bit floats, (texts, dimensions), of length 1 where the similarity is the cosine."""
    floats = np.asarray(embeddings, dtype=np.float32)
    if similarity != "cosine":
        return floats
    normalised: np.ndarray = floats / np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), 1e-12)
    return normalised


class Codes:
    """The quantisation of one variant, and the search among documents that it quantised."""

    def __init__(self, variant: Variant, calibration: np.ndarray) -> None:
        """Begin.

        Args:
            variant: with a precision.
            calibration: whose ranges the integers have, (texts, dimensions).
        """
        assert variant.precision is not None
        self._variant = variant
        self._precision = variant.precision
        self._ranges = np.stack([calibration.min(axis=0), calibration.max(axis=0)])

    def of(self, floats: np.ndarray) -> np.ndarray:
        """Integers of the library's quantisation, bits one by one, (texts, dimensions)."""
        if self._precision == "binary":
            packed = np.asarray(quantize_embeddings(floats, "ubinary"))
            return np.unpackbits(packed, axis=-1, count=floats.shape[1])
        return np.asarray(quantize_embeddings(floats, self._precision, ranges=self._ranges))

    def index(self, codes: np.ndarray) -> DocumentIndex:
        """Documents to be searched."""
        return DocumentIndex(codes, bits=self._precision == "binary")

    def best(
        self, queries: np.ndarray, codes: np.ndarray, wanted: int, index: DocumentIndex | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each query the places of its best documents, and their scores, from the best on.

        Args:
            queries: as they are, (queries, dimensions).
            codes: of the documents, (documents, dimensions).
            wanted: how many for each query.
            index: of the codes, where it is made already.
        """
        variant = self._variant
        taken = wanted * variant.multiplier if variant.rescored else wanted
        found = (index or self.index(codes)).nearest(self.of(queries), taken)
        for vector, places, scores in zip(queries, *found, strict=True):
            if variant.rescored:
                again = self.restored(codes[places]) @ vector.astype(np.float64)
                order = np.argsort(-again, kind="stable")[:wanted]
                yield places[order], again[order]
            else:
                yield places, scores

    def restored(self, codes: np.ndarray) -> np.ndarray:
        """Documents as a search ranks them again: the value at which each step begins, bits as 0 and 1."""
        values = codes.astype(np.float64)
        if self._precision == "binary":
            return values
        steps = (self._ranges[1] - self._ranges[0]) / 255
        offset = 128 if self._precision == "int8" else 0
        restored: np.ndarray = (values + offset) * np.where(steps == 0, 1, steps) + self._ranges[0]
        return restored


class QuantisedReplay:
    """Serves codes of stored embeddings, and searches among them; to mteb an encoder that has a search of its own."""

    def __init__(self, floats: Any, codes: Codes) -> None:  # noqa: ANN401
        """Begin.

        Args:
            floats: the encoder that serves what is to be quantised.
            codes: how it is quantised.
        """
        self.mteb_model_meta = floats.mteb_model_meta
        self.similarity = floats.similarity
        self.similarity_pairwise = floats.similarity_pairwise
        self.expect_finished = floats.expect_finished
        self._floats = floats
        self._codes = codes
        self._corpus: Dataset | None = None

    def encode(self, inputs: Any, **asked: Any) -> np.ndarray:  # noqa: ANN401 - mteb's DataLoader
        """The codes of the next listed request, (texts, dimensions), as 32-bit floats, which hold each exactly."""
        return self._codes.of(self._floats.encode(inputs, **asked)).astype(np.float32)

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
                self._codes.of(
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
            return _named(queries["id"], names, self._codes.best(asked, codes, wanted))
        places = {name: place for place, name in enumerate(names)}
        found: dict[str, dict[str, float]] = {query: {} for query in queries["id"]}
        for query, vector in zip(queries["id"], asked, strict=True):
            if ranked := top_ranked.get(query):
                among = [places[name] for name in ranked]
                found |= _named([query], names[among], self._codes.best(vector[None, :], codes[among], wanted))
        return found


def cutoff(metric: str) -> int | None:
    """How many documents a metric such as ndcg_at_10 looks at; None where it does not say."""
    number = metric.rpartition("_")[2]
    return int(number) if number.isdigit() else None


def _named(
    queries: Sequence[str], names: np.ndarray, found: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, dict[str, float]]:
    return {
        query: dict(zip(names[places].tolist(), scores.tolist(), strict=True))
        for query, (places, scores) in zip(queries, found, strict=True)
    }
