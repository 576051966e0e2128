"""One file of embeddings for each model and task, keyed by everything that could change them.

The key covers the model's content, the prompts, the numeric recipe (dtype, device, numerics, batches, package versions),
the texts, and the code of this package that encodes. A file with another key is not the file: it is made again. Files
are read memory-mapped, and written shard by shard, so that neither needs memory for a whole task.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from safetensors import SafetensorError, safe_open

from embrepro.errors import TaskError
from embrepro.files import fingerprint, replacing, sha256

if TYPE_CHECKING:
    from scipy.sparse import csr_array

TENSOR = "embeddings"
VALUES, COLUMNS, STARTS, WIDTH = "values", "columns", "starts", "dimensions"
ROWS_HASH = "rows_sha256"
CHECKED_ROWS = 65_536
DTYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64"}
Rows: TypeAlias = "np.ndarray | csr_array"
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
    from scipy.sparse import csr_array

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
    _save(path, embeddings, {"key": key})


def write_shard(path: Path, embeddings: Rows, key: str) -> None:
    """Write the rows of one shard with the SHA-256 of their content, by which `read_shard` knows them."""
    _save(path, embeddings, {"key": key, ROWS_HASH: _content_hash(embeddings)})


def read_shard(path: Path, key: str, texts: int) -> Rows | None:
    """The rows of a shard; None where the file is absent, damaged, of another key or of another length."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = _rows(file)
    except (FileNotFoundError, SafetensorError, OSError, KeyError, ValueError):
        return None
    whole = metadata.get("key") == key and found.shape[0] == texts and metadata.get(ROWS_HASH) == _content_hash(found)
    return found if whole else None


def merge(path: Path, shards: Iterable[tuple[np.ndarray, Rows]], texts: int, key: str) -> None:
    """Lay shards into one file, checked, whole or not at all.

    Args:
        path: the file.
        shards: for each shard the rows of the text table, (rows,), and their embeddings, (rows, dimensions).
        texts: rows of the text table.
        key: everything that could change the embeddings, hashed.

    Raises:
        TaskError: the embeddings hold NaN or infinity, are all zero, or are the same for every text.
    """
    remaining = iter(shards)
    first = next(remaining)
    if _is_sparse(first[1]):
        from scipy import sparse

        parts = [first, *remaining]
        order = np.argsort(np.concatenate([places for places, _ in parts]))
        write(path, sparse.vstack([found for _, found in parts], "csr")[order], key)
        return
    with replacing(path) as unfinished:
        laid = _create(unfinished, (texts, first[1].shape[1]), first[1].dtype, key)
        for places, found in chain([first], remaining):
            laid[places] = found
        check(laid)
        laid.flush()
        del laid


def size_of(embeddings: Rows) -> int:
    """Bytes that embeddings take in a file."""
    return sum(part.nbytes for part in (_parts(embeddings).values() if _is_sparse(embeddings) else [embeddings]))


def embeddings_key(recipe: str, task: str, requests: str) -> str:
    """The key of a task's embeddings.

    Args:
        recipe: everything beside the texts that could change an embedding, hashed.
        task: the task's name.
        requests: the task's request list, hashed.
    """
    return fingerprint([recipe, task, requests])


def digest(path: Path) -> str:
    """SHA-256 of a file of embeddings, which the record that made it keeps."""
    return sha256(path)


def check(embeddings: Rows) -> None:
    """Refuse embeddings that mteb would turn into plausible numbers; raises TaskError."""
    if embeddings.ndim != 2 or not embeddings.shape[1]:
        raise TaskError(f"the model returned embeddings of shape {embeddings.shape}, not (texts, dimensions)")
    count = embeddings.shape[0]
    if _is_sparse(embeddings):
        bad = np.repeat(np.arange(count), np.diff(embeddings.indptr))[~np.isfinite(embeddings.data)]
        broken, zero = len(np.unique(bad)), not embeddings.count_nonzero()
    else:
        blocks = [embeddings[start : start + CHECKED_ROWS] for start in range(0, count, CHECKED_ROWS)]
        broken = sum(int((~np.isfinite(block).all(axis=1)).sum()) for block in blocks)
        zero = not any(block.any() for block in blocks)
    if broken:
        raise TaskError(f"{broken} of {count} embeddings hold NaN or infinity")
    if zero:
        raise TaskError("all embeddings are zero")
    if count > 1 and _all_alike(embeddings):
        raise TaskError("the model maps every text to the same embedding")


def is_whole(path: Path, key: str, texts: int) -> bool:
    """Whether a file is there, not cut short, of this key, with a row for each text; says nothing of its content."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("key") == key and _count(file) == texts
    except (FileNotFoundError, SafetensorError, OSError, json.JSONDecodeError):
        return False


def read(path: Path, texts: int) -> Stored:
    """Read embeddings, dense ones memory-mapped; raises TaskError naming a file that is absent, cut short or too long."""
    try:
        with safe_open(path, framework="numpy") as file:
            key, dense = (file.metadata() or {})["key"], TENSOR in file.keys()  # noqa: SIM118 - no mapping
            found = None if dense else _rows(file)
        stored = Stored(_map(path) if found is None else found, key)
    except (FileNotFoundError, SafetensorError, OSError, KeyError, ValueError) as error:
        raise TaskError(f"{path} is missing or damaged ({error}). Delete it and run `dvc repro` again.") from None
    if stored.embeddings.shape[0] != texts:
        raise TaskError(
            f"{path} holds {stored.embeddings.shape[0]} embeddings for {texts} texts; delete it and run `dvc repro` again."
        )
    check(stored.embeddings)
    release(stored.embeddings)
    return stored


def read_recorded(path: Path, texts: int, key: str, expected: str) -> Stored:
    """Read the embeddings that a record names; raises TaskError unless the file has the recorded key and SHA-256."""
    found = digest(path) if path.is_file() else "absent"
    if found != expected:
        raise TaskError(
            f"{path} is not the file that was recorded when it was encoded (SHA-256 {found[:12]}, expected"
            f" {expected[:12]}). Run: dvc repro --force --single-item encode@{path.parent.name}"
        )
    stored = read(path, texts)
    if stored.key != key:
        raise TaskError(
            f"{path} holds embeddings of another recipe or model than the record says; delete it and run again."
        )
    return stored


def release(embeddings: Rows) -> None:
    """Give back the memory of rows that were read from a mapped file; what is asked for again is read again."""
    mapped = getattr(embeddings, "_mmap", None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def active_dimensions(path: Path) -> np.ndarray | None:
    """How many dimensions of each text are not zero, (texts,); None where the embeddings are not sparse."""
    with safe_open(path, framework="numpy") as file:
        return np.diff(file.get_tensor(STARTS)) if STARTS in file.keys() else None  # noqa: SIM118 - no mapping


def _is_sparse(embeddings: Rows) -> TypeGuard[Any]:
    """Whether embeddings are in scipy's sparse form."""
    return not isinstance(embeddings, np.ndarray)


def _save(path: Path, embeddings: Rows, metadata: dict[str, str]) -> None:
    if _is_sparse(embeddings):
        parts, metadata = _parts(embeddings), {**metadata, WIDTH: str(embeddings.shape[1])}
    else:
        parts = {TENSOR: embeddings}
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        file.write(_header({name: (part.dtype, part.shape) for name, part in parts.items()}, metadata))
        for part in parts.values():
            file.write(np.ascontiguousarray(part).data)


def _header(tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """The header of a safetensors file, tensors in the order given.

    The library's own writer orders metadata differently from run to run, and then no two files have the same bytes.
    Format: https://github.com/huggingface/safetensors#format.
    """
    described: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, (dtype, shape) in tensors.items():
        if str(dtype) not in DTYPES:
            raise TaskError(f"the model returned embeddings of dtype {dtype}; expected one of {', '.join(DTYPES)}")
        end = start + math.prod(shape) * dtype.itemsize
        described[name] = {"dtype": DTYPES[str(dtype)], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _parts(embeddings: csr_array) -> dict[str, np.ndarray]:
    return {
        VALUES: embeddings.data,
        COLUMNS: embeddings.indices.astype(np.int32),
        STARTS: embeddings.indptr.astype(np.int64),
    }


def _content_hash(embeddings: Rows) -> str:
    digest = hashlib.sha256(f"{embeddings.shape} {embeddings.dtype}".encode())
    for part in _parts(embeddings).values() if _is_sparse(embeddings) else [embeddings]:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _create(path: Path, shape: tuple[int, int], dtype: np.dtype, key: str) -> np.memmap:
    """A file of one tensor whose rows are yet to be filled in, mapped into memory."""
    header = _header({TENSOR: (dtype, shape)}, {"key": key})
    path.write_bytes(header)
    return np.memmap(path, dtype=dtype, mode="r+", offset=len(header), shape=shape)


def _map(path: Path) -> np.memmap:
    """The tensor of a dense file, mapped into memory and read-only; safetensors has checked that it is whole."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        tensor = json.loads(file.read(size))[TENSOR]
    dtype = next(name for name, code in DTYPES.items() if code == tensor["dtype"])
    offset = 8 + size + tensor["data_offsets"][0]
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=tuple(tensor["shape"]))


def _all_alike(embeddings: Rows) -> bool:
    if not _is_sparse(embeddings):
        blocks = range(0, len(embeddings), CHECKED_ROWS)
        return all(bool((embeddings[start : start + CHECKED_ROWS] == embeddings[0]).all()) for start in blocks)
    sizes = np.diff(embeddings.indptr)
    if (sizes != sizes[0]).any():
        return False
    shape = (len(sizes), sizes[0])
    parts = (part.reshape(shape) for part in (embeddings.data, embeddings.indices))
    return all(bool((part == part[0]).all()) for part in parts)


def _count(file: Any) -> int:  # noqa: ANN401 - what safe_open gives
    if STARTS in file.keys():  # noqa: SIM118
        return int(file.get_slice(STARTS).get_shape()[0]) - 1
    return int(file.get_slice(TENSOR).get_shape()[0])


def _rows(file: Any) -> Rows:  # noqa: ANN401
    if STARTS not in file.keys():  # noqa: SIM118
        return file.get_tensor(TENSOR)
    from scipy.sparse import csr_array

    parts = tuple(file.get_tensor(name) for name in (VALUES, COLUMNS, STARTS))
    return csr_array(parts, shape=(len(parts[2]) - 1, int(file.metadata()[WIDTH])))
