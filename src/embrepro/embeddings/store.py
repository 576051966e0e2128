"""One file of embeddings for each model and task, keyed by everything that could change them.

The key covers the model's content, the prompts, the numeric recipe (dtype, device, batch size, package versions), the
texts, and the code of this package that encodes. A file with another key is not the file: it is made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_array, issparse

from embrepro.errors import TaskError
from embrepro.files import replacing

TENSOR = "embeddings"
VALUES, COLUMNS, STARTS, WIDTH = "values", "columns", "starts", "dimensions"
Rows = np.ndarray | csr_array
"""Embeddings, (texts, dimensions): an array, or a sparse model's non-zero values row by row (CSR)."""


@dataclass(frozen=True)
class Stored:
    """Embeddings of a task's distinct texts, (texts, dimensions), row by row as in its text table, in the model's dtype."""

    embeddings: Rows
    key: str


def path_of(folder: Path, task: str) -> Path:
    """Where a task's embeddings lie in a model's folder."""
    return folder / f"{task}.safetensors"


def rows(vectors: Any, *, sparse: bool) -> Rows:  # noqa: ANN401 - an array or a tensor, dense or sparse
    """What a model returned, as it is stored."""
    if not sparse:
        return np.asarray(vectors)
    if not getattr(vectors, "is_sparse", False):
        return csr_array(np.asarray(vectors))
    vectors = vectors.cpu().coalesce()
    places = vectors.indices().numpy()
    return csr_array((vectors.values().numpy(), (places[0], places[1])), shape=tuple(vectors.shape))


def write(path: Path, embeddings: Rows, key: str) -> None:
    """Check embeddings and write them whole or not at all.

    Raises:
        TaskError: they hold NaN or infinity, are all zero, or are the same for every text.
    """
    check(embeddings)
    with replacing(path) as unfinished:
        if issparse(embeddings):
            parts = {VALUES: embeddings.data, COLUMNS: embeddings.indices, STARTS: embeddings.indptr.astype(np.int64)}
            save_file(parts, unfinished, metadata={"key": key, WIDTH: str(embeddings.shape[1])})
        else:
            save_file({TENSOR: np.ascontiguousarray(embeddings)}, unfinished, metadata={"key": key})


def check(embeddings: Rows) -> None:
    """Refuse embeddings that mteb would turn into plausible numbers; raises TaskError."""
    if embeddings.ndim != 2 or not embeddings.shape[1]:
        raise TaskError(f"the model returned embeddings of shape {embeddings.shape}, not (texts, dimensions)")
    count = embeddings.shape[0]
    if issparse(embeddings):
        bad = np.repeat(np.arange(count), np.diff(embeddings.indptr))[~np.isfinite(embeddings.data)]
        broken, zero = len(np.unique(bad)), not embeddings.count_nonzero()
    else:
        broken, zero = int((~np.isfinite(embeddings).all(axis=1)).sum()), not embeddings.any()
    if broken:
        raise TaskError(f"{broken} of {count} embeddings hold NaN or infinity")
    if zero:
        raise TaskError("all embeddings are zero")
    if count > 1 and _all_alike(embeddings):
        raise TaskError("the model maps every text to the same embedding")


def _all_alike(embeddings: Rows) -> bool:
    if not issparse(embeddings):
        return bool((embeddings == embeddings[0]).all())
    sizes = np.diff(embeddings.indptr)
    if (sizes != sizes[0]).any():
        return False
    shape = (len(sizes), sizes[0])
    parts = (part.reshape(shape) for part in (embeddings.data, embeddings.indices))
    return all(bool((part == part[0]).all()) for part in parts)


def is_whole(path: Path, key: str, texts: int) -> bool:
    """Whether a file is there, not cut short, of this key, with a row for each text."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("key") == key and _count(file) == texts
    except (FileNotFoundError, SafetensorError, OSError, json.JSONDecodeError):
        return False


def read(path: Path, texts: int) -> Stored:
    """Read embeddings; raises TaskError naming a file that is absent, cut short or of another length."""
    try:
        with safe_open(path, framework="numpy") as file:
            stored = Stored(_rows(file), (file.metadata() or {})["key"])
    except (FileNotFoundError, SafetensorError, OSError, KeyError, ValueError) as error:
        raise TaskError(f"{path} is missing or damaged ({error}). Delete it and run `dvc repro` again.") from None
    if stored.embeddings.shape[0] != texts:
        raise TaskError(
            f"{path} holds {stored.embeddings.shape[0]} embeddings for {texts} texts; delete it and run `dvc repro` again."
        )
    check(stored.embeddings)
    return stored


def active_dimensions(path: Path) -> np.ndarray | None:
    """How many dimensions of each text are not zero, (texts,); None where the embeddings are not sparse."""
    with safe_open(path, framework="numpy") as file:
        return np.diff(file.get_tensor(STARTS)) if STARTS in file.keys() else None  # noqa: SIM118 - no mapping


def _count(file: Any) -> int:  # noqa: ANN401 - what safe_open gives
    if STARTS in file.keys():  # noqa: SIM118
        return file.get_slice(STARTS).get_shape()[0] - 1
    return file.get_slice(TENSOR).get_shape()[0]


def _rows(file: Any) -> Rows:  # noqa: ANN401
    if STARTS not in file.keys():  # noqa: SIM118
        return file.get_tensor(TENSOR)
    parts = tuple(file.get_tensor(name) for name in (VALUES, COLUMNS, STARTS))
    return csr_array(parts, shape=(len(parts[2]) - 1, int(file.metadata()[WIDTH])))
