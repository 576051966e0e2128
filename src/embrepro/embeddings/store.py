"""One file of embeddings for each model and task, keyed by everything that could change them.

The key covers the model's content, the prompts, the numeric recipe (dtype, device, batch size, package versions), the
texts, and the code of this package that encodes. A file with another key is not the file: it is made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from embrepro.errors import TaskError
from embrepro.files import replacing

TENSOR = "embeddings"


@dataclass(frozen=True)
class Stored:
    """Embeddings of a task's distinct texts, (texts, dimensions), row by row as in its text table, in the model's dtype."""

    embeddings: np.ndarray
    key: str


def path_of(folder: Path, task: str) -> Path:
    """Where a task's embeddings lie in a model's folder."""
    return folder / f"{task}.safetensors"


def write(path: Path, embeddings: np.ndarray, key: str) -> None:
    """Check embeddings and write them whole or not at all.

    Raises:
        TaskError: they hold NaN or infinity, are all zero, or are the same for every text.
    """
    check(embeddings)
    with replacing(path) as unfinished:
        save_file({TENSOR: np.ascontiguousarray(embeddings)}, unfinished, metadata={"key": key})


def check(embeddings: np.ndarray) -> None:
    """Refuse embeddings that mteb would turn into plausible numbers; raises TaskError."""
    if embeddings.ndim != 2 or not embeddings.shape[1]:
        raise TaskError(f"the model returned embeddings of shape {embeddings.shape}, not (texts, dimensions)")
    broken = ~np.isfinite(embeddings).all(axis=1)
    if broken.any():
        raise TaskError(f"{int(broken.sum())} of {len(embeddings)} embeddings hold NaN or infinity")
    if not embeddings.any():
        raise TaskError("all embeddings are zero")
    if len(embeddings) > 1 and (embeddings == embeddings[0]).all():
        raise TaskError("the model maps every text to the same embedding")


def is_whole(path: Path, key: str, texts: int) -> bool:
    """Whether a file is there, not cut short, of this key, with a row for each text."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("key") == key and file.get_slice(TENSOR).get_shape()[
                0
            ] == texts
    except (FileNotFoundError, SafetensorError, OSError, json.JSONDecodeError):
        return False


def read(path: Path, texts: int) -> Stored:
    """Read embeddings; raises TaskError naming a file that is absent, cut short or of another length."""
    try:
        with safe_open(path, framework="numpy") as file:
            stored = Stored(file.get_tensor(TENSOR), (file.metadata() or {})["key"])
    except (FileNotFoundError, SafetensorError, OSError, KeyError) as error:
        raise TaskError(
            f"{path} is missing or damaged ({error}). Delete it and run `dvc repro` again."
        ) from None
    if len(stored.embeddings) != texts:
        raise TaskError(
            f"{path} holds {len(stored.embeddings)} embeddings for {texts} texts; delete it and run `dvc repro` again."
        )
    check(stored.embeddings)
    return stored
