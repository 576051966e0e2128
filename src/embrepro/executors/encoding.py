"""Shards of encode on Ray: each actor loads the model once, takes texts and gives back their embeddings."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import embrepro.models
from embrepro.config.schema import Device, Executor, ModelConfig
from embrepro.embeddings import store
from embrepro.embeddings.encoding import TaskShards, encode_shard, fix_order_of_sums, shards_to_do
from embrepro.embeddings.plan import Plan, Shard
from embrepro.embeddings.store import Rows
from embrepro.executors import crew
from embrepro.tasks import tables


@dataclass(frozen=True)
class ShardOrder:
    """A shard by itself: its task with no other texts than the shard's, in the order of encoding."""

    work: TaskShards
    shard: Shard


class Encoder:
    """A model loaded from files that came along."""

    def __init__(self, files: dict[str, Any], model: ModelConfig, device: Device, revision: str) -> None:
        self._files, self._model, self._device, self._revision = files, model, device, revision
        self._encoder: Any = None

    def start(self) -> None:
        """Write the files, load the model, and drop them: what is mapped into memory stays there."""
        ray: Any = importlib.import_module("ray")
        fix_order_of_sums(self._device)
        with tempfile.TemporaryDirectory(prefix="embrepro-model-") as folder:
            for name, content in self._files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(ray.get(content))
            self._encoder = embrepro.models.load_encoder(Path(folder), self._model, self._device, self._revision)

    def work(self, order: ShardOrder) -> Rows:
        """Embeddings of a shard's texts, or scores of its pairs."""
        return encode_shard(self._encoder, order.work, order.shard)


def encode_shards(
    snapshot: Path,
    model: ModelConfig,
    device: Device,
    revision: str,
    tasks: list[TaskShards],
    executor: Executor,
    *,
    part: tuple[int, int] = (1, 1),
) -> Iterator[tuple[TaskShards, int, BaseException | None]]:
    """As `embeddings.encoding.encode_shards`, on the actors of a Ray cluster.

    Args:
        snapshot: the model's files; their bytes travel to each machine.
        model: its configuration.
        device: what an actor runs it on.
        revision: its revision.
        tasks: what to encode.
        executor: which cluster.
        part: (i, n) does only every n-th shard, from the i-th on.
    """
    jobs = shards_to_do(tasks, part)
    if not jobs:
        return
    failed: set[int] = set()
    with crew.connected(executor) as ray:
        paths = [path for path in sorted(snapshot.rglob("*")) if path.is_file()]
        files = {path.relative_to(snapshot).as_posix(): ray.put(path.read_bytes()) for path in paths}
        worker = partial(Encoder, files, model, device, revision)
        for answer in crew.run(
            ray,
            worker,
            jobs,
            lambda job: order(tasks[job[0]], job[1]),
            crew.place_for(device, __name__, needs_gpu=True),
            most=device.threads,
            skip=lambda job: job[0] in failed,
        ):
            place, index = answer.job
            task, shard = tasks[place], tasks[place].plan.shard(index)
            if answer.error is None:
                store.write_shard(task.shard_path(index), answer.result, task.shard_key(shard))
            else:
                failed.add(place)
            yield task, index, answer.error


def order(task: TaskShards, index: int) -> ShardOrder:
    """What an actor needs to encode one shard."""
    shard = task.plan.shard(index)
    edges = np.cumsum([0, *(len(batch) for batch in shard.batches)])
    rows = np.arange(edges[-1], dtype=np.uint32)
    batches = tuple(rows[start:end] for start, end in pairwise(edges))
    alone = replace(
        task,
        texts=pa.table({name: tables.take(task.texts[name], shard.rows) for name in task.texts.column_names}),
        plan=Plan(rows, edges),
        lengths=task.lengths[shard.rows],
    )
    return ShardOrder(alone, Shard(index, batches))
