"""Sentence-transformers' own NanoBEIR evaluators over stored embeddings and scores: their metrics under their own names.

The library's code does all of the scoring. Frozen data stands in the place of its repository, and a model that looks stored
rows up in the place of a model, so nothing is encoded and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from scipy.sparse import issparse
from sentence_transformers import SimilarityFunction, SparseEncoder
from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator, NanoBEIREvaluator
from sentence_transformers.sparse_encoder.evaluation import (
    SparseInformationRetrievalEvaluator,
    SparseNanoBEIREvaluator,
)

from embrepro.config.nanobeir import NanoBeir
from embrepro.config.schema import ModelKind
from embrepro.embeddings.replay import sparse_tensor
from embrepro.embeddings.store import Rows
from embrepro.errors import ReplayError
from embrepro.tasks.nanobeir import NanoData

AGGREGATES: dict[str, Callable[[list[float]], Any]] = {
    "mean": np.mean,
    "median": np.median,
    "min": np.min,
    "max": np.max,
}


@dataclass(frozen=True)
class StoredTask:
    """One data set with what a model made of it.

    `table` is the request list's, of distinct texts or pairs, `rows` what is stored for each of its rows, and `ranking`,
    for a cross-encoder, BM25's first documents of each query.
    """

    data: NanoData
    table: pa.Table
    rows: Rows
    ranking: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Documents that BM25 ranked for a query, at most."""
        return max((len(documents) for documents in self.ranking.values()), default=0)


@dataclass(frozen=True)
class NanoScores:
    """What an evaluator returned, in its own names, and which of them it holds for the one to look at."""

    evaluator: str
    primary_metric: str
    scores: dict[str, float]


def evaluate(
    settings: NanoBeir,
    stored: Mapping[str, StoredTask],
    kind: ModelKind,
    *,
    similarity: str | None = None,
    max_active_dims: int | None = None,
    csv_folder: Path | None = None,
) -> NanoScores:
    """Run the library's evaluator for a kind of models.

    Args:
        settings: the evaluator's arguments.
        stored: data sets by short name.
        kind: what the model gives, `ModelConfig.kind`.
        similarity: the model's own similarity function, unless it is a cross-encoder.
        max_active_dims: the limit that a sparse model was encoded with, which the library puts into the names.
        csv_folder: where the library writes its CSV files, unless the settings say not to.

    Raises:
        ReplayError: the evaluator asks for a text or pair that is not stored.
    """
    if kind == "cross-encoder":
        evaluator: Any = _CrossEncoderEvaluator(settings, stored)
        model: Any = _StoredScores(stored)
    else:
        evaluator = _evaluator(settings, stored, max_active_dims, sparse=kind == "sparse")
        model = _StoredEmbeddings(stored, str(similarity))
    found = evaluator(model, output_path=str(csv_folder) if csv_folder and settings.write_csv else None)
    return NanoScores(
        evaluator=evaluator.library_name,
        primary_metric=evaluator.primary_metric,
        scores={name: float(value) for name, value in found.items()},
    )


def _evaluator(
    settings: NanoBeir, stored: Mapping[str, StoredTask], max_active_dims: int | None, *, sparse: bool
) -> _DenseEvaluator | _SparseEvaluator:
    arguments: dict[str, Any] = settings.model_dump(
        include={
            "mrr_at_k", "ndcg_at_k", "accuracy_at_k", "precision_recall_at_k", "map_at_k", "main_score_function",
            "aggregate_key", "write_csv",
        }
    )  # fmt: skip
    arguments["aggregate_fn"] = AGGREGATES[settings.aggregate_fn]
    if settings.score_functions:
        arguments["score_functions"] = {
            name: SimilarityFunction.to_similarity_fn(name) for name in settings.score_functions
        }
    if sparse:
        return _SparseEvaluator(stored, max_active_dims=max_active_dims, **arguments)
    return _DenseEvaluator(stored, **arguments)


class _Frozen:
    """Reads frozen data where the library would ask the hub; mixed into its evaluators."""

    _stored: Mapping[str, StoredTask]

    def _load_dataset_subset_split(self, subset: str, split: str, required_columns: list[str]) -> Dataset:
        found = self._stored[_short_name(split)]
        if subset in ("corpus", "queries"):
            texts: dict[str, str] = getattr(found.data, subset)
            return Dataset.from_dict({"_id": list(texts), "text": list(texts.values())})
        lists = found.data.relevant if subset == "qrels" else found.ranking
        column = "corpus-id" if subset == "qrels" else "corpus-ids"
        return Dataset.from_dict({"query-id": list(lists), column: [list(each) for each in lists.values()]})


class _OfItsData:
    """Embeds its data set's texts with what is stored for that data set; mixed into the library's evaluators of one."""

    name: str

    def embed_inputs(self, model: _StoredEmbeddings, sentences: Any, **named: Any) -> Any:  # noqa: ANN401
        parent: Any = super()
        return parent.embed_inputs(model.of(self.name), sentences, **named)


class _DenseOfItsData(_OfItsData, InformationRetrievalEvaluator):  # type: ignore[misc]
    pass


class _SparseOfItsData(_OfItsData, SparseInformationRetrievalEvaluator):  # type: ignore[misc]
    pass


class _DenseEvaluator(_Frozen, NanoBEIREvaluator):
    library_name = NanoBEIREvaluator.__name__
    information_retrieval_class = _DenseOfItsData

    def __init__(self, stored: Mapping[str, StoredTask], **arguments: Any) -> None:  # noqa: ANN401
        self._stored = stored
        super().__init__(dataset_names=list(stored), **arguments)


class _SparseEvaluator(_Frozen, SparseNanoBEIREvaluator):
    library_name = SparseNanoBEIREvaluator.__name__
    information_retrieval_class = _SparseOfItsData

    def __init__(self, stored: Mapping[str, StoredTask], **arguments: Any) -> None:  # noqa: ANN401
        self._stored = stored
        super().__init__(dataset_names=list(stored), **arguments)


class _CrossEncoderEvaluator(_Frozen, CrossEncoderNanoBEIREvaluator):
    library_name = CrossEncoderNanoBEIREvaluator.__name__

    def __init__(self, settings: NanoBeir, stored: Mapping[str, StoredTask]) -> None:
        self._stored = stored
        super().__init__(
            dataset_names=list(stored),
            rerank_k=max(each.depth for each in stored.values()),
            at_k=settings.at_k,
            always_rerank_positives=settings.always_rerank_positives,
            write_csv=settings.write_csv,
            aggregate_fn=AGGREGATES[settings.aggregate_fn],
            aggregate_key=settings.aggregate_key,
        )
        for evaluator in self.evaluators:
            # The library puts them in the order of a set, another in each process
            for sample in evaluator.samples:
                cast("list[str]", sample["positive"]).sort()


class _StoredEmbeddings:
    """What the evaluators ask of a model: its similarity, and embeddings of the texts of a data set."""

    def __init__(self, stored: Mapping[str, StoredTask], similarity: str) -> None:
        self.similarity_fn_name = similarity
        self.similarity = SimilarityFunction.to_similarity_fn(similarity)
        self.model_card_data = _NO_CARD
        self._parts = {name: _StoredRows(each) for name, each in stored.items()}

    def of(self, evaluator_name: str) -> _StoredRows:
        """The embeddings of the data set that an evaluator is named after."""
        return self._parts[_short_name(evaluator_name)]


class _StoredRows:
    """Embeddings of one data set, by text."""

    sparsity = staticmethod(SparseEncoder.sparsity)

    def __init__(self, stored: StoredTask) -> None:
        self._rows = stored.rows
        self._places = _places(stored)

    def encode_query(self, texts: list[str], **_: object) -> torch.Tensor:
        """The stored rows of queries, (texts, dimensions), in the model's dtype."""
        return self._found("query", texts)

    def encode_document(self, texts: list[str], **_: object) -> torch.Tensor:
        """The stored rows of documents, (texts, dimensions), in the model's dtype."""
        return self._found("document", texts)

    def _found(self, kind: str, texts: list[str]) -> torch.Tensor:
        rows = self._rows[_rows_of(self._places, [(kind, text) for text in texts])]
        return sparse_tensor(rows) if issparse(rows) else torch.from_numpy(np.asarray(rows))


class _StoredScores:
    """What the evaluator asks of a cross-encoder: scores of pairs."""

    def __init__(self, stored: Mapping[str, StoredTask]) -> None:
        self.model_card_data = _NO_CARD
        self._scores = {
            pair: float(each.rows[row, 0]) for each in stored.values() for pair, row in _places(each).items()
        }

    def predict(self, pairs: list[list[str]], **_: object) -> np.ndarray:
        """The stored scores, (pairs,)."""
        try:
            return np.array([self._scores[query, text] for query, text in pairs], dtype=np.float32)
        except KeyError as error:
            raise _nothing_stored(error) from None


_NO_CARD = SimpleNamespace(set_evaluation_metrics=lambda *_, **__: None)


def _places(stored: StoredTask) -> dict[tuple[str, str], int]:
    keys = zip(*(column.to_pylist() for column in stored.table.columns), strict=True)
    return {key: row for row, key in enumerate(keys)}


def _rows_of(places: Mapping[tuple[str, str], int], keys: Sequence[tuple[str, str]]) -> list[int]:
    try:
        return [places[key] for key in keys]
    except KeyError as error:
        raise _nothing_stored(error) from None


def _nothing_stored(error: KeyError) -> ReplayError:
    return ReplayError(f"the evaluator asks for {str(error)[:200]}, for which nothing is stored")


def _short_name(name: str) -> str:
    """`msmarco` of NanoMSMARCO, or of NanoMSMARCO_64 with a limit of active dimensions."""
    return name.removeprefix("Nano").partition("_")[0].lower()
