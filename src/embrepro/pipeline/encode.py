"""Encode: a model's embeddings of every frozen task's distinct texts. The only stage that needs a model, or a GPU."""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy import sparse

import embrepro.models
from embrepro.config.schema import Config, Device, ModelConfig
from embrepro.embeddings import store
from embrepro.embeddings.store import Rows
from embrepro.files import fingerprint, keep_only, make_folder, source_hash
from embrepro.layout import Layout
from embrepro.pipeline.records import Record, TaskOutcome, reason
from embrepro.progress import console
from embrepro.sources import models as model_sources
from embrepro.tasks import encode_requests, freezing, registry
from embrepro.tasks.registry import Request

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.sentence_transformer_wrapper import CrossEncoderWrapper

    from embrepro.models import Encoder

STAGE = "encode"
PACKAGES = ("torch", "transformers", "tokenizers", "sentence-transformers", "mteb", "numpy")
BATCHES_PER_CALL = 32  # how often a run says how far it is


def run(config: Config, layout: Layout, key: str) -> Record:
    """Encode what is not encoded yet, drop what is no longer asked for, and record what became of each task.

    Raises:
        ConfigError: an unknown model, or a device that is not there.
        SourceError: the model's files are damaged or do not load.
    """
    model = config.model(key)
    make_folder(layout.embeddings(key))
    manifest, snapshot = model_sources.read(layout.models / key)
    set_threads(config.device)
    loaded = embrepro.models.load(snapshot, model, config.device)
    known = embrepro.models.facts(loaded)
    encoder = embrepro.models.wrap(loaded, model, manifest.revision, known)
    recipe = _recipe(model, config.device, manifest.content_hash)
    record = Record(details={**known.as_dict(), "revision": manifest.revision, "content_hash": manifest.content_hash})
    downloaded = Record.read(layout.download_record)
    leaves = {leaf.name: leaf for request in registry.resolve(config.tasks) for leaf in request.leaves()}
    for leaf in leaves.values():
        if downloaded.tasks[leaf.name].done:
            record.tasks[leaf.name] = _encode(
                leaf, layout, key, encoder, recipe, model.scores_pairs, batch_size(model, config.device)
            )
    files = {store.path_of(layout.embeddings(key), name).name for name, outcome in record.tasks.items() if outcome.done}
    keep_only(layout.embeddings(key), files | {layout.encode_record(key).name})
    record.write(layout.encode_record(key))
    return record


def encode_distinct(
    encoder: Encoder,
    texts: pl.DataFrame,
    metadata: TaskMetadata,
    size: int,
    work: console.Work,
) -> Rows:
    """Embeddings of a text table, (texts, dimensions) in its order; each prompt kind on its own, longest texts first."""
    from datasets import Dataset
    from mteb.types import PromptType
    from torch.utils.data import DataLoader

    parts: list[tuple[np.ndarray, Rows]] = []
    for (prompt,), group in texts.with_row_index().group_by("prompt", maintain_order=True):
        ordered = group.sort(pl.col("text").str.len_bytes(), "text", descending=[True, False])
        for part in ordered.iter_slices(BATCHES_PER_CALL * size):
            loader = DataLoader(Dataset.from_dict({"text": part["text"].to_list()}), batch_size=size)
            vectors = encoder.encode(
                loader,
                task_metadata=metadata,
                hf_split="",
                hf_subset="",
                prompt_type=PromptType(prompt) if prompt else None,
                batch_size=size,
                show_progress_bar=False,
            )
            parts.append((part["index"].to_numpy(), store.rows(vectors, sparse=embrepro.models.is_sparse(encoder))))
            work.advance(len(part))
    order = np.argsort(np.concatenate([index for index, _ in parts]))
    vectors = [rows for _, rows in parts]
    return (sparse.vstack(vectors, "csr") if sparse.issparse(vectors[0]) else np.concatenate(vectors))[order]


def score_distinct(
    encoder: CrossEncoderWrapper, pairs: pl.DataFrame, metadata: TaskMetadata, size: int, work: console.Work
) -> np.ndarray:
    """Scores of a table of pairs, (pairs, 1) in its order; the longest pairs first."""
    from datasets import Dataset
    from torch.utils.data import DataLoader

    length = pl.col("query").str.len_bytes() + pl.col("text").str.len_bytes()
    ordered = pairs.with_row_index().sort(length, "query", "text", descending=[True, False, False])
    scores = np.empty((len(pairs), 1), dtype=np.float32)
    for part in ordered.iter_slices(BATCHES_PER_CALL * size):
        queries, documents = (
            DataLoader(Dataset.from_dict({"text": part[name].to_list()}), batch_size=size) for name in ("query", "text")
        )
        scores[part["index"].to_numpy(), 0] = encoder.predict(
            queries,
            documents,
            task_metadata=metadata,
            hf_split="",
            hf_subset="",
            batch_size=size,
            show_progress_bar=False,
        )
        work.advance(len(part))
    return scores


def set_threads(device: Device) -> None:
    """Fix the number of CPU threads and the order of sums, so that the same machine gives the same bytes."""
    import torch

    torch.set_num_threads(device.threads or os.cpu_count() or 1)
    torch.use_deterministic_algorithms(True, warn_only=True)


def batch_size(model: ModelConfig, device: Device) -> int:
    """Texts encoded at once."""
    return device.batch_size or model.batch_size


def _encode(
    leaf: Request,
    layout: Layout,
    key: str,
    encoder: Encoder | CrossEncoderWrapper,
    recipe: str,
    pairs: bool,
    size: int,
) -> TaskOutcome:
    folder = layout.tasks / leaf.name
    unit = "pairs" if pairs else "texts"
    started = time.monotonic()
    try:
        manifest = freezing.read_manifest(folder)
        listed = encode_requests.read(folder, manifest, pairs=pairs)
        path = store.path_of(layout.embeddings(key), leaf.name)
        embedding_key = fingerprint([recipe, leaf.name, encode_requests.identity(manifest, pairs=pairs)])
        if store.is_whole(path, embedding_key, len(listed.texts)):
            console.say(f"encode {key} {leaf.name}: {len(listed.texts)} {unit} (kept)")
            return TaskOutcome(stage=STAGE, key=embedding_key, details=_active(path, listed.texts))
        metadata = registry.create(leaf).metadata
        with console.work(STAGE, f"{key} {leaf.name}", len(listed.texts), unit) as work:
            embed = score_distinct if pairs else encode_distinct
            embeddings = embed(encoder, listed.texts, metadata, size, work)
        store.write(path, embeddings, embedding_key)
        active = _active(path, listed.texts)
    except Exception as error:  # one task's failure must not take the others down; it becomes a row with its reason
        console.say_error(f"encode {key} {leaf.name}: {reason(error)}")
        return TaskOutcome(status=reason(error), stage=STAGE)
    seconds = time.monotonic() - started
    rate = len(listed.texts) / max(seconds, 1e-9)
    asked = f" for {listed.asked} asked" if listed.asked != len(listed.texts) else ""
    console.say(
        f"encode {key} {leaf.name}: {len(listed.texts)} {unit}{asked} in {console.duration(seconds)}, {rate:.0f} {unit}/s"
    )
    return TaskOutcome(stage=STAGE, key=embedding_key, details=active)


def _active(path: Path, texts: pl.DataFrame) -> dict[str, dict[str, list[int]]]:
    """Of a sparse model, by prompt kind: how many texts there are, and their dimensions that are not zero in all."""
    counts = store.active_dimensions(path)
    if counts is None:
        return {}
    found = (
        texts.select("prompt")
        .with_columns(pl.Series("active", counts))
        .group_by("prompt")
        .agg(pl.len(), pl.sum("active"))
    )
    return {"active": {prompt: [count, total] for prompt, count, total in sorted(found.iter_rows())}}


def _recipe(model: ModelConfig, device: Device, content_hash: str) -> str:
    """Everything beside the texts that could change an embedding."""
    return fingerprint(
        {
            "content": content_hash,
            "model": model.model_dump(include={"family", "dtype", "max_seq_length", "prompts"}),
            "batch_size": batch_size(model, device),
            "device": device.name,
            "threads": device.threads,
            "packages": {name: version(name) for name in PACKAGES},
            "code": source_hash("models", "embeddings", "pipeline/encode.py"),
        }
    )
