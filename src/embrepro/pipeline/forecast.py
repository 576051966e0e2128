"""Forecast: what the next run will do, from the frozen requests and a short measured sample, before any of it is done."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from embrepro.config.schema import Config
from embrepro.embeddings import store
from embrepro.embeddings.plan import batch_rule
from embrepro.errors import KitError, SourceError
from embrepro.forecast.estimates import ENCODE, KEPT, Forecast, ModelForecast, TaskForecast
from embrepro.layout import Layout
from embrepro.pipeline import encode
from embrepro.pipeline.records import Record, reason
from embrepro.sources import models as model_sources
from embrepro.tasks import encode_requests, freezing, registry, requested, tables
from embrepro.tasks.registry import Request

SAMPLED_TEXTS = 256
SAMPLE_SECONDS = 1.0
"""Spent at most on each task of each model, beside its first batch, which warms up and does not count."""
BYTES_A_TEXT = 64
"""Of memory for a text of the largest task: its length and its place in the plan; the text itself is mapped."""


def forecast(config: Config, layout: Layout, *, measure: bool = True) -> Forecast:
    """Look at what is frozen and stored, and time each model on a sample of each task's texts.

    Args:
        config: the configuration.
        layout: the project's folders.
        measure: load models and time them; without it there are no tokens, times, sizes.

    Raises:
        ConfigError: an unknown task, or a device that is not there.
    """
    downloaded = Record.read_if_there(layout.download_record)
    remarks = ["Scoring is not in the estimates: it needs no model and takes seconds for most tasks."]
    if config.executor.name == "ray":
        remarks.append(
            "Times are for the workers of this machine; with Ray there are as many as the cluster has room for."
        )
    if not downloaded.tasks:
        remarks.append("Nothing is downloaded, and only frozen tasks can be counted. Run: dvc repro download")
    leaves = requested.leaves(requested.resolve(config.tasks, layout.root))
    models = []
    for key in config.models:
        folder = layout.models / key
        if why := model_sources.why_unavailable(folder):
            models.append(_unknown(key, leaves, "nothing: the model could not be obtained", why))
        elif not (folder / "manifest.json").is_file():
            models.append(_unknown(key, leaves, "not known: the model is not downloaded"))
        else:
            try:
                models.append(_Model(config, layout, key, downloaded).forecast(leaves, measure=measure))
            except SourceError as error:
                models.append(
                    _unknown(key, leaves, "not known: the model's files are not those asked for", reason(error))
                )
    return Forecast(models, shutil.disk_usage(layout.root.resolve()).free, remarks)


def _unknown(key: str, leaves: dict[str, Request], action: str, why: str = "") -> ModelForecast:
    return ModelForecast(key, [TaskForecast(name, action) for name in leaves], problem=why)


@dataclass(frozen=True)
class _Texts:
    """The texts or pairs of a task: how many, and some of them, drawn evenly."""

    count: int
    sample: pa.Table


class _Model:
    """A downloaded model, which is loaded once something is to be measured."""

    def __init__(self, config: Config, layout: Layout, key: str, downloaded: Record) -> None:
        self._config, self._layout, self._key, self._downloaded = config, layout, key, downloaded
        self._model, self._device = config.models[key], config.device
        self._manifest, _ = model_sources.read_for(layout.models / key, self._model, self._device.numerics)
        self._recipe = encode.recipe_of(self._model, self._device, self._manifest.content_hash)
        self._before = Record.read_if_there(layout.encode_record(key))
        self._encoder: Any = None
        self._loaded_size = 0
        self._plan_size = 0
        self._tokens, self._seconds = 0, 0.0

    def forecast(self, leaves: dict[str, Request], *, measure: bool) -> ModelForecast:
        """What will be done for each task."""
        tasks = [self._task(leaf, measure=measure) for leaf in leaves.values()]
        workers = encode.workers_of(self._device).count
        return ModelForecast(
            self._key,
            tasks,
            workers=workers,
            rate=self._tokens / self._seconds if self._seconds else None,
            memory=self._memory(workers) if self._encoder else None,
        )

    def _task(self, leaf: Request, *, measure: bool) -> TaskForecast:
        """One task: kept, to be encoded, or why nothing can be done with it."""
        name, outcome = leaf.name, self._downloaded.tasks.get(leaf.name)
        if outcome is None:
            return TaskForecast(name, "not known: the task is not downloaded")
        if not outcome.done:
            return TaskForecast(name, f"nothing: {outcome.status}")
        folder, pairs = self._layout.tasks / name, self._model.scores_pairs
        try:
            frozen = freezing.read_manifest(folder)
            key = encode.key_of(self._recipe, name, frozen, self._model)
            texts = _read(folder / (encode_requests.PAIRS if pairs else encode_requests.TEXTS))
        except KitError as error:
            return TaskForecast(name, f"nothing: {reason(error)}")
        if store.is_whole(store.path_of(self._layout.embeddings(self._key), name), key, texts.count):
            return TaskForecast(name, KEPT, texts.count)
        if not measure or not texts.count:
            return TaskForecast(name, ENCODE, texts.count)
        return self._measured(leaf, texts)

    def _measured(self, leaf: Request, texts: _Texts) -> TaskForecast:
        """Tokens, time and size of a task, from its sample."""
        import embrepro.models
        from embrepro.embeddings import encoding
        from embrepro.embeddings.plan import Shard

        if self._encoder is None:
            encoding.fix_order_of_sums(self._device)
            _, snapshot = model_sources.read(self._layout.models / self._key)
            self._encoder = embrepro.models.load_encoder(snapshot, self._model, self._device, self._manifest.revision)
            self._loaded_size = psutil.Process().memory_info().rss
        pairs, sample = self._model.scores_pairs, texts.sample
        loaded = embrepro.models.model_in(self._encoder)
        columns = ("query", "text") if pairs else ("text",)
        tokens = embrepro.models.token_counts(loaded, *(sample[name] for name in columns))
        plan, lengths = encoding.plan_task(sample, batch_rule(self._model, self._device), loaded, pairs=pairs)
        metadata = registry.create(leaf).metadata
        work = encoding.TaskShards(leaf.name, metadata, sample, pairs, "", Path(), plan, lengths)
        batches = [batch for shard in plan for batch in shard.batches]
        order = np.random.default_rng(0).permutation(len(batches))
        encoding.encode_shard(self._encoder, work, Shard(0, (batches[order[0]],)))
        read, taken, size, rows = 0, 0.0, 0.0, 0
        for place in order:
            started = time.perf_counter()
            found = encoding.encode_shard(self._encoder, work, Shard(0, (batches[place],)))
            taken += time.perf_counter() - started
            read += int(tokens[batches[place]].sum())
            size += store.size_of(found)
            rows += len(batches[place])
            if taken > SAMPLE_SECONDS:
                break
        self._tokens, self._seconds = self._tokens + read, self._seconds + taken
        self._plan_size = max(self._plan_size, BYTES_A_TEXT * texts.count)
        whole = round(float(tokens.mean()) * texts.count)
        return TaskForecast(
            leaf.name, ENCODE, texts.count, whole, taken / max(read, 1) * whole, round(size / rows * texts.count)
        )

    def _memory(self, workers: int) -> int:
        """Bytes of all workers: forks share what was loaded, and each has its own of what encoding takes."""
        now = psutil.Process().memory_info().rss
        return now + self._plan_size + (workers - 1) * max(0, now - self._loaded_size)


def _read(path: Path) -> _Texts:
    """Count a table of texts without holding it, and draw a sample that is spread evenly over it."""
    table = tables.read_arrow(path)
    rows = np.arange(0, len(table), max(1, len(table) // SAMPLED_TEXTS))[:SAMPLED_TEXTS]
    sample = pa.table({name: tables.take(table[name], rows) for name in table.column_names})
    return _Texts(len(table), sample)
