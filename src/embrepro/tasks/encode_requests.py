"""What a task asks of an encoder: listed once with a stand-in, so that encoding and scoring can be taken apart.

mteb calls `encode` from inside its evaluators. Running its own `evaluate` with an encoder that returns a few random
dimensions and writes every call down gives the exact requests of any task type, for all models at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import polars as pl
import pyarrow as pa

from embrepro.config.schema import PairTask
from embrepro.errors import TaskError
from embrepro.files import fingerprint, sha256, write_sealed
from embrepro.tasks import first_stage, nanobeir, search, shortcuts, tables
from embrepro.tasks.freezing import Manifest, load_frozen, read_manifest, verify
from embrepro.tasks.registry import Request

if TYPE_CHECKING:
    from mteb import AbsTask
    from mteb.types import PromptType

FILES = REQUESTS, TEXTS = "requests.parquet", "texts.arrow"
PAIR_FILES = PAIR_REQUESTS, PAIRS = "pair_requests.parquet", "pairs.arrow"
MOST_PAIRS = 5_000_000
PAIR_TYPES = get_args(PairTask)
STAND_IN_DIMENSIONS = 4
SMALL = 10_000_000
"""Similarities that the stand-in computes."""


@dataclass(frozen=True)
class EncodeRequest:
    """One call of `encode` or `predict`: where it comes from and which rows of the task's table it asks for, in order."""

    split: str
    subset: str
    prompt: str
    rows: np.ndarray


@dataclass(frozen=True)
class RequestList:
    """All calls of one task, in order, over a table of distinct texts (columns prompt and text), which may be mapped.

    For a cross-encoder it is a table of distinct pairs (columns query and text).
    """

    requests: list[EncodeRequest]
    texts: pa.Table

    @property
    def asked(self) -> int:
        """Texts asked for, repetitions counted."""
        return sum(len(request.rows) for request in self.requests)


class Recorder:
    """Collects calls, and numbers what is distinct in them, (prompt, text) or (query, text), in order of appearance.

    Texts go to a file; in memory stays a hash of 16 bytes of each, by which they are told apart.

    Args:
        first: the first column, prompt or query.
        folder: on the disk that the texts are kept on meanwhile.
    """

    def __init__(self, first: str = "prompt", folder: Path | None = None) -> None:
        self._folder = folder
        self._schema = pa.schema(dict.fromkeys((first, "text"), pa.large_string()))
        self._spool = tables.Spool(self._schema, folder)
        self._calls: list[tuple[str, str, str, int]] = []
        self._hashes = bytearray()

    def record(self, split: str, subset: str, prompt: str, texts: Iterable[str]) -> None:
        """Add one call of `encode`."""
        self._calls.append((split, subset, prompt, self._keep((prompt, text) for text in texts)))

    def record_pairs(self, split: str, subset: str, queries: Iterable[str], texts: Iterable[str]) -> None:
        """Add one call of `predict`."""
        self._calls.append((split, subset, "", self._keep(zip(queries, texts, strict=True))))

    def also(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Number pairs that no call asks for, behind all that calls did."""
        self._keep(pairs)

    def _keep(self, asked: Iterable[tuple[str, str]]) -> int:
        count, remaining = 0, iter(asked)
        while block := list(islice(remaining, tables.ROWS_AT_ONCE)):
            columns = [pa.array(each, pa.large_string()) for each in zip(*block, strict=True)]
            self._spool.write(pa.record_batch(columns, self._schema))
            self._hashes += b"".join(_hash(*each) for each in block)
            count += len(block)
        return count

    def request_list(self) -> RequestList:
        """What was collected; nothing can be added after that."""
        table = self._spool.table()
        first, numbers = _number(np.frombuffer(self._hashes, dtype=np.uint64).reshape(-1, 2))
        if not first.all():
            starts = accumulate((len(batch) for batch in table.to_batches()), initial=0)
            batches = (
                batch.filter(pa.array(first[start : start + len(batch)]))
                for start, batch in zip(starts, table.to_batches(), strict=False)
            )
            table = tables.spooled(batches, self._schema, self._folder)
        requests, start = [], 0
        for split, subset, prompt, count in self._calls:
            requests.append(EncodeRequest(split, subset, prompt, numbers[start : start + count]))
            start += count
        return RequestList(requests, table)


def _hash(first: str, text: str) -> bytes:
    return hashlib.blake2b(f"{len(first)}:{first}{text}".encode(), digest_size=16).digest()


def _number(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each hash appears for the first time, (rows,), and the number of each by first appearance, (rows,).

    Args:
        hashes: (rows, 2) halves of them.
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0])).astype(np.uint32)
    rising = hashes[order]
    differs = np.ones(len(hashes), dtype=bool)
    differs[1:] = (rising[1:] != rising[:-1]).any(axis=1)
    del rising
    # Equal hashes keep their order, so that the first of each group appeared first.
    appeared = np.empty(len(hashes), dtype=np.uint32)
    appeared[order] = order[differs][np.cumsum(differs, dtype=np.uint32) - 1]
    first = np.zeros(len(hashes), dtype=bool)
    first[order[differs]] = True
    return first, (np.cumsum(first, dtype=np.uint32) - 1)[appeared]


def prompt_kind(prompt_type: PromptType | None) -> str:
    """`query`, `document`, or the empty string where a task makes no such difference."""
    return prompt_type.value if prompt_type is not None else ""


def texts_of(inputs: Any) -> pa.ChunkedArray:  # noqa: ANN401 - mteb hands a DataLoader over a datasets.Dataset
    """The texts of a call in order, (texts,), read from the table under mteb's loader instead of through its batches."""
    return search.column(inputs.dataset, "text").cast(pa.large_string())


def write(request: Request, folder: Path, rerank: int | None = None) -> Manifest:
    """List a frozen task's requests and write them beside its data; returns the manifest with their hashes.

    Args:
        request: the task.
        folder: where it was frozen.
        rerank: how many documents of BM25's ranking a cross-encoder reranks where the task brings no ranking.

    Raises:
        TaskError: the task asks for nothing.
    """
    listed = _list(load_frozen(request, folder), folder)
    if not listed.requests:
        raise TaskError("the task asks for no embeddings, so there is nothing to score")
    _write(listed, folder / REQUESTS, folder / TEXTS)
    names = [*FILES]
    ranked = None
    if rerank and first_stage.is_searched(task := load_frozen(request, folder)):
        ranked = first_stage.rank(task, folder, rerank)
        names += [] if ranked.failure else [first_stage.FILE]
    task = load_frozen(request, folder)
    first_stage.attach(task, folder)
    pairs = _list_pairs(task, folder) if _ranks_documents(task) else _pair_up(listed, task, folder)
    if pairs:
        _write(pairs, folder / PAIR_REQUESTS, folder / PAIRS)
        names += PAIR_FILES
    hashes = {name: sha256(folder / name) for name in names}
    manifest = read_manifest(folder).model_copy(update={"requests": hashes, "first_stage": ranked})
    write_sealed(folder / "manifest.json", manifest)
    return manifest


def _write(listed: RequestList, requests: Path, texts: Path) -> None:
    rows = {
        "split": [call.split for call in listed.requests],
        "subset": [call.subset for call in listed.requests],
        "prompt": [call.prompt for call in listed.requests],
        "rows": [pl.Series(call.rows) for call in listed.requests],
    }
    table = pl.DataFrame(rows, schema_overrides={"rows": pl.List(pl.UInt32)})
    table.write_parquet(requests)
    tables.write_arrow(listed.texts, texts)


def read(folder: Path, manifest: Manifest, *, pairs: bool = False, pair_tasks: Collection[str] = ()) -> RequestList:
    """Read a task's request list, of texts to embed or of pairs to score.

    Args:
        folder: the frozen task.
        manifest: its manifest.
        pairs: whether pairs are wanted.
        pair_tasks: types of tasks of labelled pairs that the model is made for.

    Raises:
        TaskError: a file is not the one that was written, or there are no pairs, or none that the model is made for.
    """
    requests_file, texts_file = _files(manifest, pairs, pair_tasks)
    verify(folder, manifest.requests)
    table = pl.read_parquet(folder / requests_file)
    calls = table.select("split", "subset", "prompt").iter_rows()
    requests = [
        EncodeRequest(split, subset, prompt, np.asarray(rows.to_numpy(), dtype=np.uint32))
        for (split, subset, prompt), rows in zip(calls, table["rows"], strict=True)
    ]
    return RequestList(requests, tables.read_arrow(folder / texts_file))


def identity(manifest: Manifest, *, pairs: bool = False, pair_tasks: Collection[str] = ()) -> str:
    """SHA-256 over a request list: of texts to embed, or of pairs to score; arguments and errors as of `read`."""
    return fingerprint({name: manifest.requests[name] for name in _files(manifest, pairs, pair_tasks)})


def _files(manifest: Manifest, pairs: bool, pair_tasks: Collection[str]) -> Sequence[str]:
    if TEXTS not in manifest.requests:
        raise TaskError("its requests were listed by another version of the kit, or not at all. Run: dvc repro")
    if not pairs:
        return FILES
    if manifest.type in PAIR_TYPES and manifest.type not in pair_tasks:
        raise TaskError(
            f"this cross-encoder is not said to be made for tasks of type {manifest.type}: a score of relevance is none of "
            "similarity. If it is, say so under the model's pair_tasks"
        )
    if (stage := manifest.first_stage) and stage.failure:
        raise TaskError(f"a cross-encoder needs documents that are ranked already, and BM25 failed: {stage.failure}")
    if PAIRS not in manifest.requests:
        raise TaskError(
            "a cross-encoder scores documents that are ranked already, and this task brings none, or more than "
            f"{MOST_PAIRS:,}; use a task of type Reranking, or set tasks.rerank for one of type Retrieval "
            "(the custom suite's score every document)"
        )
    return PAIR_FILES


def _list(task: AbsTask, folder: Path | None = None) -> RequestList:
    import torch
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    recorder = Recorder(folder=folder)

    class StandIn(AbsEncoder):
        def __init__(self) -> None:
            overwrites = {
                "name": "embrepro/stand-in",
                "revision": "1",
                "similarity_fn_name": ScoringFunction.COSINE,
            }
            self.mteb_model_meta = ModelMeta.create_empty(overwrites=overwrites)
            self.generator = np.random.default_rng(0)

        def encode(
            self,
            inputs: Any,  # noqa: ANN401
            *,
            task_metadata: Any,  # noqa: ANN401
            hf_split: str,
            hf_subset: str,
            prompt_type: PromptType | None = None,
            **kwargs: object,
        ) -> np.ndarray:
            texts = texts_of(inputs).to_pylist()
            recorder.record(hf_split, hf_subset, prompt_kind(prompt_type), texts)
            return self.generator.standard_normal((len(texts), STAND_IN_DIMENSIONS), dtype=np.float32)

        def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401
            if len(embeddings1) * len(embeddings2) < SMALL:
                return super().similarity(embeddings1, embeddings2)
            # No request depends on it, and a matrix of queries and documents takes memory unless all its rows are one.
            return torch.arange(len(embeddings2), dtype=torch.float32).expand(len(embeddings1), -1)

    _evaluate(StandIn(), task)
    return recorder.request_list()


def _ranks_documents(task: AbsTask) -> bool:
    """Whether a task says for each query which documents to rank, as a cross-encoder needs it, and not too many."""
    from mteb.abstasks import AbsTaskRetrieval

    if not isinstance(task, AbsTaskRetrieval):
        return False
    splits = [data for subset in task.dataset.values() for name, data in subset.items() if name in task.eval_splits]
    if not splits or not all(data.get("top_ranked") for data in splits):
        return False
    return sum(len(found) for data in splits for found in (data["top_ranked"] or {}).values()) <= MOST_PAIRS


def _list_pairs(task: AbsTask, folder: Path | None = None) -> RequestList:
    from mteb.models.model_meta import ModelMeta

    recorder = Recorder("query", folder)

    class StandIn:
        def __init__(self) -> None:
            overwrites = {"name": "embrepro/stand-in", "revision": "1", "model_type": ["cross-encoder"]}
            self.mteb_model_meta = ModelMeta.create_empty(overwrites=overwrites)
            self.generator = np.random.default_rng(0)

        def predict(
            self,
            inputs1: Any,  # noqa: ANN401
            inputs2: Any,  # noqa: ANN401
            *,
            task_metadata: Any,  # noqa: ANN401
            hf_split: str,
            hf_subset: str,
            prompt_type: PromptType | None = None,
            **kwargs: object,
        ) -> np.ndarray:
            queries = texts_of(inputs1).to_pylist()
            recorder.record_pairs(hf_split, hf_subset, queries, texts_of(inputs2).to_pylist())
            return self.generator.standard_normal(len(queries), dtype=np.float32)

    _evaluate(StandIn(), task)
    # Whose own evaluator scores relevant documents that BM25 did not find, too
    if nanobeir.is_nanobeir(task):
        recorder.also(nanobeir.data(task).positive_pairs())
    return recorder.request_list()


def _pair_up(listed: RequestList, task: AbsTask, folder: Path) -> RequestList | None:
    """Of a task of labelled pairs, which asks for their first texts and then for their second ones: the pairs."""
    if task.metadata.type not in PAIR_TYPES:
        return None
    texts = listed.texts["text"]
    recorder = Recorder("query", folder)
    for first, second in zip(listed.requests[::2], listed.requests[1::2], strict=True):
        sides = (tables.take(texts, call.rows).to_pylist() for call in (first, second))
        recorder.record_pairs(first.split, first.subset, *sides)
    return recorder.request_list()


def _evaluate(stand_in: Any, task: AbsTask) -> None:  # noqa: ANN401 - mteb's protocols
    import mteb

    with _cheap(task), shortcuts.installed():
        mteb.evaluate(stand_in, task, cache=None, co2_tracker=False, show_progress_bar=False)


@contextmanager
def _cheap(task: Any) -> Iterator[None]:  # noqa: ANN401 - any of mteb's kinds of task
    """Spare the work that no request depends on: classifiers, clusters, and ranks of a thousand documents a query."""
    from mteb import abstasks
    from mteb.abstasks import AbsTaskClassification
    from sklearn.dummy import DummyClassifier

    clustering: Any = abstasks.clustering
    shortcuts.speed_up(task)
    if isinstance(task, AbsTaskClassification):
        task.evaluator_model = DummyClassifier()
    if first_stage.is_searched(task):
        task._top_k = 1
    real = clustering.MiniBatchKMeans
    clustering.MiniBatchKMeans = _OneCluster
    try:
        yield
    finally:
        clustering.MiniBatchKMeans = real


class _OneCluster:
    def __init__(self, **settings: object) -> None:
        pass

    def fit_predict(self, embeddings: np.ndarray) -> np.ndarray:
        return np.zeros(len(embeddings), dtype=np.int32)
