"""Encoding by shards: workers take shards, write each whole under its key, and a merge lays them into one file a task.

On a CPU with portable numerics there is one worker process a core, each with one thread, forked from the process that
holds the model, so that weights are shared and nothing is imported twice. On CUDA there is one worker a GPU. The bytes
depend on neither: a batch is the same batch in every worker.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

import embrepro.models
from embrepro import numerics
from embrepro.config.schema import Device
from embrepro.embeddings import store
from embrepro.embeddings.plan import BatchRule, Plan, Shard, make_plan
from embrepro.embeddings.store import Rows
from embrepro.errors import KitError
from embrepro.files import fingerprint
from embrepro.models.static import TokenVectors
from embrepro.progress import processes
from embrepro.tasks import tables

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

KEPT_BYTES = 512 * 2**20
"""What a process that encodes keeps of freed memory."""
# Parameters of mallopt, from <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass
class TaskShards:
    """The texts or pairs of one task, cut into shards, and where they are kept."""

    task: str
    metadata: TaskMetadata | None
    texts: pa.Table
    pairs: bool
    key: str
    folder: Path
    plan: Plan
    lengths: np.ndarray

    def column(self, name: str, rows: np.ndarray) -> list[str]:
        """Values of a column, in the order of `rows`."""
        found: list[str] = tables.take(self.texts[name], rows).to_pylist()
        return found

    def shard_key(self, shard: Shard) -> str:
        """What a stored shard must be keyed with: the task's key and the rows."""
        return fingerprint([self.key, shard.index, [batch.tolist() for batch in shard.batches]])

    def shard_path(self, index: int) -> Path:
        """Where a shard is kept until the merge."""
        return self.folder / f"{self.task}.{self.key[:16]}.{index:06d}.safetensors"

    def stored(self, index: int) -> Rows | None:
        """The rows of a shard that is stored whole, else None."""
        shard = self.plan.shard(index)
        return store.read_shard(self.shard_path(index), self.shard_key(shard), len(shard.rows))

    def size(self, index: int) -> int:
        """Work in a shard, in the unit of `lengths`."""
        return int(self.lengths[self.plan.shard(index).rows].sum())

    @cached_property
    def work(self) -> int:
        """Work in the task, in the unit of `lengths`."""
        return int(self.lengths.sum())

    def merge(self, path: Path) -> None:
        """Lay the stored shards into one file, and remove them.

        Raises:
            TaskError: the embeddings hold NaN or infinity, are all zero, or are the same for every text.
            KitError: a shard is missing or damaged.
        """
        store.merge(path, self._shards(), len(self.texts), self.key)
        for index in range(self.plan.shards):
            self.shard_path(index).unlink(missing_ok=True)

    def _shards(self) -> Iterator[tuple[np.ndarray, Rows]]:
        for index in range(self.plan.shards):
            found = self.stored(index)
            if found is None:
                path = self.shard_path(index)
                raise KitError(f"{path} is missing or damaged. Run the stage again: it encodes this shard again.")
            yield self.plan.shard(index).rows, found


def plan_task(
    texts: pa.Table,
    rule: BatchRule,
    loaded: Any,  # noqa: ANN401
    *,
    pairs: bool,
    threads: int = 1,
) -> tuple[Plan, np.ndarray]:
    """The plan of a table of texts or pairs, and the length of each of its rows, (rows,).

    Lengths are tokens after truncation where batches have a budget of tokens, which threads count, else bytes.
    """
    columns = ("query", "text") if pairs else ("text",)
    if rule.tokens:
        lengths = embrepro.models.token_counts(loaded, *(texts[name] for name in columns), threads=threads)
    else:
        lengths = np.sum([pc.binary_length(texts[name]).to_numpy() for name in columns], axis=0)
    kinds = np.zeros(len(texts), dtype=np.uint8)
    if not pairs:
        kinds = tables.numbers_of(texts["prompt"], sorted(pc.unique(texts["prompt"]).to_pylist()))
    lengths = np.asarray(lengths, dtype=np.int64)
    return make_plan(kinds, lengths, rule), lengths


def encode_shard(encoder: Any, work: TaskShards, shard: Shard) -> Rows:  # noqa: ANN401 - mteb's wrapper of a model
    """Embeddings of a shard's texts, (texts, dimensions), or scores of its pairs, (pairs, 1), in the shard's order."""
    parts = [(_score if work.pairs else _embed)(encoder, work, batch) for batch in shard.batches]
    return sparse.vstack(parts, "csr") if sparse.issparse(parts[0]) else np.concatenate(parts)


def _embed(encoder: Any, work: TaskShards, batch: np.ndarray) -> Rows:  # noqa: ANN401
    if isinstance(encoder, TokenVectors):
        return store.rows(encoder.encode(work.column("text", batch)), sparse=False)
    from mteb.types import PromptType

    prompt = work.column("prompt", batch[:1])[0]
    vectors = encoder.encode(
        _loader(work.column("text", batch)),
        task_metadata=work.metadata,
        hf_split="",
        hf_subset="",
        prompt_type=PromptType(prompt) if prompt else None,
        batch_size=len(batch),
        show_progress_bar=False,
    )
    return store.rows(vectors, sparse=embrepro.models.is_sparse(encoder))


def _score(encoder: Any, work: TaskShards, batch: np.ndarray) -> np.ndarray:  # noqa: ANN401
    scores = encoder.predict(
        _loader(work.column("query", batch)),
        _loader(work.column("text", batch)),
        task_metadata=work.metadata,
        hf_split="",
        hf_subset="",
        batch_size=len(batch),
        show_progress_bar=False,
    )
    return np.asarray(scores, dtype=np.float32).reshape(-1, 1)


def _loader(texts: list[str]) -> Any:  # noqa: ANN401 - the DataLoader over a Dataset that mteb's wrappers take
    from torch.utils.data import DataLoader

    return DataLoader(tables.as_dataset(pa.table({"text": texts})), batch_size=len(texts))


@dataclass(frozen=True)
class Workers:
    """Who encodes: this process (`count` 1), forks of it, or processes that load the model each on a GPU of its own."""

    count: int
    load: Callable[[str], Any] | None = None
    devices: tuple[str, ...] = ()


def encode_shards(
    encoder: Any,  # noqa: ANN401 - mteb's wrapper of a model
    tasks: list[TaskShards],
    workers: Workers,
    *,
    part: tuple[int, int] = (1, 1),
) -> Iterator[tuple[TaskShards, int, BaseException | None]]:
    """Encode the shards that are not stored yet, and store each; yields every shard as it is done.

    Args:
        encoder: mteb's wrapper around the loaded model.
        tasks: what to encode.
        workers: the processes that do it.
        part: (i, n) does only every n-th shard, from the i-th on; shards are numbered through all tasks.

    Yields:
        The task, the shard's number, and what went wrong, if anything. The other shards of a task that failed are
        left out.

    Raises:
        KitError: a worker was killed; finished shards are kept.
    """
    jobs = shards_to_do(tasks, part)
    if not jobs:
        return
    _STATE.update(encoder=encoder, tasks=tasks)
    try:
        if workers.count == 1:
            yield from _in_this_process(jobs, tasks)
        else:
            yield from _in_processes(jobs, tasks, workers)
    finally:
        _STATE.clear()


def shards_to_do(tasks: list[TaskShards], part: tuple[int, int]) -> list[tuple[int, int]]:
    """Shards of a part that are not stored yet: the place of the task, and the shard's number in it."""
    number, count = part
    every = [(place, index) for place, task in enumerate(tasks) for index in range(task.plan.shards)]
    jobs = [job for place, job in enumerate(every) if place % count == number - 1]
    return [(place, index) for place, index in jobs if tasks[place].stored(index) is None]


def fix_order_of_sums(device: Device) -> None:
    """Have this process use one thread where numerics are portable, else the configured number."""
    import torch

    threads = 1 if device.numerics == "portable" else numerics.workers(device.threads)
    torch.set_num_threads(threads)
    numerics.tokenize_in(threads)
    # As `use_deterministic_algorithms`, which imports torch's compiler besides.
    torch.set_deterministic_debug_mode("warn")


def _start_worker() -> None:
    """Begin a forked worker."""
    processes.start_worker()
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have this process keep what each batch frees, up to some hundred MB, for the next one; only glibc can be told.

    Else every large activation is a fresh mapping, which the kernel fills with zeros page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES // 2)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


_STATE: dict[str, Any] = {}
"""What forked workers share: the encoder and the tasks."""


def _in_this_process(
    jobs: list[tuple[int, int]], tasks: list[TaskShards]
) -> Iterator[tuple[TaskShards, int, BaseException | None]]:
    _keep_freed_memory()
    failed: set[int] = set()
    for place, index in jobs:
        if place not in failed:
            error = _encode_and_store((place, index))
            failed |= {place} if error else set()
            yield tasks[place], index, error


def _in_processes(
    jobs: list[tuple[int, int]], tasks: list[TaskShards], workers: Workers
) -> Iterator[tuple[TaskShards, int, BaseException | None]]:
    count = min(workers.count, len(jobs))
    if workers.load:
        spawning = multiprocessing.get_context("spawn")
        devices: Queue[str] = spawning.Queue()
        for device in workers.devices:
            devices.put(device)
        threads = max(1, numerics.workers(None) // count)
        pool = ProcessPoolExecutor(
            count, mp_context=spawning, initializer=_start, initargs=(workers.load, devices, tasks, threads)
        )
    else:
        forking = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(count, mp_context=forking, initializer=_start_worker)
    with pool:
        running: dict[Future[BaseException | None], tuple[int, int]] = {}
        try:
            for job in jobs:
                running[pool.submit(_encode_and_store, job)] = job
            for future in as_completed(running):
                if future.cancelled():
                    continue
                place, index = running[future]
                error = future.result()
                if error:
                    for other, (task, _) in running.items():
                        if task == place:
                            other.cancel()
                yield tasks[place], index, error
        except BrokenProcessPool:
            raise KitError(
                "A process that encoded was killed, most often because the machine ran out of memory. Run again with a"
                " smaller device.threads or device.batch_tokens; the shards that were finished are kept."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(load: Callable[[str], Any], devices: Queue[str], tasks: list[TaskShards], threads: int) -> None:
    """Begin a worker that shares nothing: load the model on the next free device, which so many threads tokenize for."""
    _start_worker()
    numerics.tokenize_in(threads)
    _STATE.update(encoder=load(devices.get()), tasks=tasks)


def _encode_and_store(job: tuple[int, int]) -> BaseException | None:
    place, index = job
    work: TaskShards = _STATE["tasks"][place]
    shard = work.plan.shard(index)
    try:
        found = encode_shard(_STATE["encoder"], work, shard)
        store.write_shard(work.shard_path(index), found, work.shard_key(shard))
    except Exception as error:
        # One task's failure must not take the others down; it becomes a row with its reason
        return error
    return None
