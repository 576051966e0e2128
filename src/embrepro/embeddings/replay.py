"""Mteb encoders with no model behind them: they answer the listed requests with stored rows, and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from mteb.models.sentence_transformer_wrapper import (
    SentenceTransformerEncoderWrapper,
    SparseEncoderWrapper,
    _is_sparse_compatible_task,
)
from scipy.sparse import issparse

from embrepro.embeddings import store
from embrepro.embeddings.store import Rows
from embrepro.errors import ReplayError
from embrepro.tasks import tables
from embrepro.tasks.encode_requests import RequestList, prompt_kind, texts_of

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.model_meta import ModelMeta
    from mteb.types import PromptType


class _Listed:
    """The listed requests of a task, handed out one after the other."""

    def __init__(self, listed: RequestList) -> None:
        self._listed = listed
        self._next = 0

    def rows(self, split: str, subset: str, prompt: str, *columns: pa.ChunkedArray) -> np.ndarray:
        """Which stored rows the next request asks for; raises ReplayError where another one was listed.

        Args:
            split: of the request, as are `subset` and `prompt`.
            subset: see `split`.
            prompt: see `split`.
            columns: values of the columns of the list's table, in their order, (texts,) each.
        """
        asked = (split, subset, prompt)
        if self._next == len(self._listed.requests):
            raise ReplayError(f"mteb asks for {asked} beyond the {self._next} requests that were listed")
        request = self._listed.requests[self._next]
        if asked != (request.split, request.subset, request.prompt):
            listed = (request.split, request.subset, request.prompt)
            raise ReplayError(f"request {self._next} is for {asked}, but {listed} was listed")
        listed_columns = (tables.take(column, request.rows) for column in self._listed.texts.columns)
        if not all(found.equals(column) for found, column in zip(listed_columns, columns, strict=True)):
            raise ReplayError(f"request {self._next} {asked} has other texts than were listed")
        self._next += 1
        return request.rows

    def expect_finished(self) -> None:
        """Raise ReplayError where mteb asked for less than was listed."""
        if self._next != len(self._listed.requests):
            raise ReplayError(f"mteb asked for {self._next} of {len(self._listed.requests)} listed requests")


class _Replay:
    """Serves stored embeddings in the order and the dtype in which the model would give them.

    It is mixed into mteb's own wrapper with the model's similarity functions in the model's place, so that everything
    mteb does beside encoding (upcasting half precision, choosing the similarity) stays mteb's.
    """

    mteb_model_meta: Any
    model_prompts: dict[str, str] | None

    def __init__(self, listed: RequestList, embeddings: Rows, meta: ModelMeta, similarity: str) -> None:
        self.model: Any = similarity_functions(similarity, dense=not issparse(embeddings))
        self.mteb_model_meta = meta
        self.model_prompts = None
        self._listed = _Listed(listed)
        self._embeddings = embeddings
        self.expect_finished = self._listed.expect_finished

    def encode(
        self,
        inputs: Any,  # noqa: ANN401 - mteb's DataLoader
        *,
        task_metadata: Any,  # noqa: ANN401
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: object,
    ) -> np.ndarray | torch.Tensor:
        """The stored rows of the next listed request, (texts, dimensions)."""
        prompt = prompt_kind(prompt_type)
        texts = texts_of(inputs)
        prompts = pa.chunked_array([pa.repeat(pa.scalar(prompt, texts.type), len(texts))])
        rows = self._listed.rows(hf_split, hf_subset, prompt, prompts, texts)
        found = self._embeddings[rows]
        store.release(self._embeddings)
        return self._served(found, task_metadata)

    def _served(self, rows: Any, metadata: TaskMetadata) -> np.ndarray | torch.Tensor:  # noqa: ANN401 - array or sparse array
        raise NotImplementedError


class _DenseReplay(_Replay, SentenceTransformerEncoderWrapper):
    def _served(self, rows: Any, metadata: TaskMetadata) -> np.ndarray | torch.Tensor:  # noqa: ANN401
        dense: np.ndarray = rows
        return dense


class _SparseReplay(_Replay, SparseEncoderWrapper):
    def _served(self, rows: Any, metadata: TaskMetadata) -> np.ndarray | torch.Tensor:  # noqa: ANN401
        """As mteb's wrapper has it: sparse where the task can work with that."""
        if not _is_sparse_compatible_task(metadata):
            dense: np.ndarray = rows.toarray()
            return dense
        return sparse_tensor(rows)


class CrossEncoder:
    """Serves stored scores of pairs in the order in which the cross-encoder would give them.

    Args:
        listed: the task's request list, of pairs.
        scores: (distinct pairs, 1), row by row as in the request list's table.
        meta: the model as mteb's results name it.
    """

    def __init__(self, listed: RequestList, scores: np.ndarray, meta: ModelMeta) -> None:
        self.mteb_model_meta = meta
        self._listed = _Listed(listed)
        self._scores = scores[:, 0]
        self.expect_finished = self._listed.expect_finished

    def predict(
        self,
        inputs1: Any,  # noqa: ANN401 - mteb's DataLoader
        inputs2: Any,  # noqa: ANN401
        *,
        task_metadata: Any,  # noqa: ANN401
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: object,
    ) -> np.ndarray:
        """The stored scores of the next listed request, (pairs,); raises ReplayError at any other."""
        pairs = texts_of(inputs1), texts_of(inputs2)
        scores: np.ndarray = self._scores[self._listed.rows(hf_split, hf_subset, "", *pairs)]
        return scores


class PairScorer(SentenceTransformerEncoderWrapper):
    """Serves a cross-encoder's stored scores to tasks of labelled pairs, which ask an encoder for two embeddings.

    mteb has no way to score such tasks by a cross-encoder: it embeds both texts and takes their similarity. So each pair gets
    two unit vectors in the plane whose cosine is its score, moved and stretched to [0, 1] over the pairs of the request.
    Between 0 and 90 degrees, dot product, Euclidean and Manhattan distance order pairs as the cosine does, so everything
    that mteb computes from ranks (Spearman, average precision, best accuracy and F1) is that of the scores, and Pearson of
    the cosine, too, since it does not see the stretching.

    Args:
        listed: the task's request list, of pairs.
        scores: (distinct pairs, 1), row by row as in the request list's table.
        meta: the model as mteb's results name it.
    """

    def __init__(self, listed: RequestList, scores: np.ndarray, meta: ModelMeta) -> None:
        self.model: Any = similarity_functions("cosine", dense=True)
        self.mteb_model_meta = meta
        self.model_prompts = None
        self._listed = _Listed(listed)
        self._scores = scores[:, 0].astype(np.float64)
        self._firsts: pa.ChunkedArray | None = None
        self.expect_finished = self._listed.expect_finished

    def encode(
        self,
        inputs: Any,  # noqa: ANN401 - mteb's DataLoader
        *,
        task_metadata: Any,  # noqa: ANN401
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: object,
    ) -> np.ndarray:
        """Vectors of the pairs' first texts, all the same, and then of their second ones, (pairs, 2).

        Raises:
            ReplayError: other pairs than the next listed ones.
        """
        texts = texts_of(inputs)
        if self._firsts is None:
            self._firsts = texts
            return np.tile([1.0, 0.0], (len(texts), 1))
        pairs = self._firsts, texts
        self._firsts = None
        scores = self._scores[self._listed.rows(hf_split, hf_subset, "", *pairs)]
        span = np.ptp(scores)
        cosines = (scores - scores.min()) / span if span else np.ones_like(scores)
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)


def similarity_functions(name: str, *, dense: bool) -> SimpleNamespace:
    """What a sentence-transformers model has as `similarity` and `similarity_pairwise`, each of two sets of embeddings.

    Cosine and dot product of dense embeddings are computed here, by the same calls of torch: importing
    sentence-transformers takes longer than scoring most tasks.

    Args:
        name: cosine, dot, euclidean or manhattan.
        dense: whether no embeddings will be sparse.
    """
    if dense and name in ("cosine", "dot"):
        prepare = _unit_vectors if name == "cosine" else _as_tensor
        return SimpleNamespace(
            similarity=lambda a, b: torch.mm(_as_rows(prepare(a)), _as_rows(prepare(b)).transpose(0, 1)),
            similarity_pairwise=lambda a, b: (prepare(a) * prepare(b)).sum(dim=-1),
        )
    from sentence_transformers import SimilarityFunction

    return SimpleNamespace(
        similarity=SimilarityFunction.to_similarity_fn(name),
        similarity_pairwise=SimilarityFunction.to_similarity_pairwise_fn(name),
    )


def _as_rows(vectors: torch.Tensor) -> torch.Tensor:
    return vectors.unsqueeze(0) if vectors.dim() == 1 else vectors


def _unit_vectors(embeddings: np.ndarray | torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(_as_tensor(embeddings), p=2, dim=-1)


def _as_tensor(embeddings: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Embeddings as a tensor of at least single precision; over the same memory where that may be written to."""
    if isinstance(embeddings, np.ndarray):
        shared = embeddings.flags.writeable
        embeddings = torch.from_numpy(embeddings) if shared else torch.tensor(embeddings)
    return embeddings.float() if embeddings.dtype.itemsize < 4 else embeddings


def sparse_tensor(rows: Any) -> torch.Tensor:  # noqa: ANN401 - a sparse array
    """A sparse array as a sparse tensor of the same shape."""
    placed = rows.tocoo()
    places = torch.from_numpy(np.stack([placed.row, placed.col]).astype(np.int64))
    return torch.sparse_coo_tensor(
        places, torch.from_numpy(placed.data), placed.shape, check_invariants=True
    ).coalesce()


def encoder(listed: RequestList, embeddings: Rows, meta: ModelMeta, similarity: str) -> _DenseReplay | _SparseReplay:
    """An encoder for one task and model.

    Args:
        listed: the task's request list.
        embeddings: (distinct texts, dimensions), row by row as in the request list's text table.
        meta: the model as mteb's results name it.
        similarity: name of the model's similarity function: cosine, dot, euclidean or manhattan.

    It raises ReplayError at a request other than the next listed one.
    """
    return (_SparseReplay if issparse(embeddings) else _DenseReplay)(listed, embeddings, meta, similarity)


@contextmanager
def recognised() -> Iterator[None]:
    """Let `mteb.evaluate` take the encoders of this module as they are while the block runs.

    It asks sentence-transformers, which it imports for that, whether they are models of its own.
    """
    # The function hides the module that it lies in.
    module: Any = importlib.import_module("mteb.evaluate")
    theirs = module._sanitize_model
    module._sanitize_model = _with_names
    try:
        yield
    finally:
        module._sanitize_model = theirs


def _with_names(encoder: Any) -> tuple[Any, ModelMeta, str | None, str | None]:  # noqa: ANN401
    meta = encoder.mteb_model_meta
    return encoder, meta, meta.name, meta.revision
